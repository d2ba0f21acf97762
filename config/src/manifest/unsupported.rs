//! What the language has but this version does not make work: known by name, and refused as that.

use crate::resource::Kind;

/// The kinds.
pub(super) const KINDS: [&str; 8] = [
    "ExternalService",
    "TrafficPolicy",
    "AccessPolicy",
    "ResourceGroup",
    "ServiceLevelObjective",
    "Autoscaler",
    "CertificateIssuer",
    "DnsZone",
];

/// The fields, each with its kind. Values of known fields are refused by [`validate`](crate::validate).
const FIELDS: [(Kind, &str); 7] = [
    (Kind::Cluster, "spec.reachable"),
    (Kind::Cluster, "spec.relays"),
    (Kind::Cluster, "spec.virtualRange"),
    (Kind::PublicService, "spec.tls.minVersion"),
    (Kind::PublicService, "spec.tls.clientCA"),
    (Kind::PublicService, "spec.tls.hsts"),
    (Kind::PublicService, "spec.tls.certificate.acme"),
];

/// Whether the field is known but not supported.
pub(super) fn field(kind: Kind, path: &str) -> bool {
    FIELDS.contains(&(kind, path))
}
