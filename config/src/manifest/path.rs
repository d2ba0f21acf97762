//! Paths in a manifest, as errors name them: `spec.hosts[0].name`, `metadata.labels["example.com/team"]`.

/// A field of what stands at `base`.
pub(super) fn field(base: &str, key: &str) -> String {
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') && !key.is_empty();
    match (base, plain) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{base}.{key}"),
        (_, false) => format!("{base}[{key:?}]"),
    }
}

/// An item of the list at `base`.
pub(super) fn item(base: &str, index: usize) -> String {
    format!("{base}[{index}]")
}
