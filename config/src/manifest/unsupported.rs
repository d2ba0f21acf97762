//! What the language has but this version does not make work: known by name, and refused as that.

use crate::resource::Kind;

/// The kinds.
pub(super) const KINDS: [&str; 7] = [
    "ExternalService",
    "TrafficPolicy",
    "ResourceGroup",
    "ServiceLevelObjective",
    "Autoscaler",
    "CertificateIssuer",
    "DnsZone",
];

/// The fields, each with its kind; `[]` is any item of a list. Values of known fields are refused by [`validate`](crate::validate).
const FIELDS: [(Kind, &str); 16] = [
    (Kind::Cluster, "spec.reachable"),
    (Kind::Cluster, "spec.relays"),
    (Kind::Cluster, "spec.virtualRange"),
    (Kind::PublicService, "spec.tls.minVersion"),
    (Kind::PublicService, "spec.tls.clientCA"),
    (Kind::PublicService, "spec.tls.hsts"),
    (Kind::PublicService, "spec.tls.certificate.acme"),
    (Kind::AccessPolicy, "spec.methods"),
    (Kind::AccessPolicy, "spec.paths"),
    (Kind::AccessPolicy, "spec.ports"),
    (Kind::AccessPolicy, "spec.from[].group"),
    (Kind::AccessPolicy, "spec.from[].identity"),
    (Kind::AccessPolicy, "spec.from[].cidr"),
    (Kind::AccessPolicy, "spec.to[].group"),
    (Kind::AccessPolicy, "spec.to[].methods"),
    (Kind::AccessPolicy, "spec.to[].paths"),
];

/// Whether the field is known but not supported.
pub(super) fn field(kind: Kind, path: &str) -> bool {
    FIELDS.iter().any(|(of, field)| *of == kind && is_at(field, path))
}

/// Whether the path leads to the field, whichever items of lists it passes.
fn is_at(field: &str, path: &str) -> bool {
    let mut rest = path;
    let mut parts = field.split("[]").peekable();
    while let Some(part) = parts.next() {
        let Some(after) = rest.strip_prefix(part) else { return false };
        rest = match parts.peek() {
            None => after,
            Some(_) => match after.strip_prefix('[').and_then(|item| item.split_once(']')) {
                Some((_, after)) => after,
                None => return false,
            },
        };
    }
    rest.is_empty()
}
