//! A request's target: whatever comes out is in normal form, and no disguise passes a rule.

use decide::route::Pattern;
use decide::target::{Target, normalise};

/// The first line is a rule's prefix, the rest a target.
pub fn check(bytes: &[u8]) {
    let (prefix, target) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&b"/secret"[..], bytes),
    };
    let Ok(parsed) = Target::parse(target) else { return };
    let again = Target::parse(parsed.as_str().as_bytes()).expect("a normal form is a target");
    assert_eq!(again.as_str(), parsed.as_str(), "the normal form is its own");
    assert_eq!(again.path(), parsed.path(), "and matched alike");
    assert!(!again.is_changed());

    let path = again.path();
    assert!(path.starts_with('/') && path.is_ascii() && !path.contains([';', '\\', '\0', '?', '#', ' ']));
    assert!(!path.contains("//") && path.split('/').all(|segment| !matches!(segment, "." | "..")));
    let Some(prefix) = std::str::from_utf8(prefix).ok().and_then(|prefix| normalise(prefix).ok()) else { return };
    let decoded = percent_decoded(again.as_str().split('?').next().unwrap_or_default());
    let plain_prefix = percent_decoded(&prefix);
    // Whoever is led under the prefix by a careless reading was matched by it.
    if prefix == plain_prefix && Pattern::Prefix(&prefix).takes(&resolved(&decoded)) {
        assert!(Pattern::Prefix(&prefix).takes(path), "{path} is {decoded} to some, and not under {prefix}");
    }
}

fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

fn percent_decoded(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out + rest
}
