//! A global namespace (GNS): an application boundary over clusters.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::name::{Host, Name};
use super::service::{InstanceTls, ServiceSpec};
use super::span::Span;

/// An application boundary over clusters. Services of its member namespaces with the same name are one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct GlobalNamespaceSpec {
    /// A service answers as `<service>.<domain>`. Unique in the mesh, and not below another's.
    pub domain: Host,
    /// Which namespaces of which clusters belong to it: a row is AND, rows are OR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberRow>,
    /// What is asked of callers, and spoken to instances.
    #[serde(default)]
    pub mtls: MtlsMode,
    /// How long the certificates of each level live.
    #[serde(default)]
    pub certificates: CertificateLifetimes,
    /// Which hosts its public services may claim; when empty, any that no other GNS claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_hosts: Vec<HostPattern>,
}

/// The namespaces that both conditions match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct MemberRow {
    /// Which clusters.
    pub cluster: Matcher,
    /// Which namespaces.
    pub namespace: Matcher,
}

/// Matches names, whole or by how they begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Matcher {
    /// This name only.
    Exact(Name),
    /// Every name that begins so; the empty text matches every name.
    Prefix(String),
}

impl Matcher {
    /// Whether the name is matched.
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Matcher::Exact(exact) => exact == name,
            Matcher::Prefix(prefix) => name.as_str().starts_with(prefix),
        }
    }
}

/// Mutual TLS on the hops from a caller to its gateway and from a gateway to an instance. Between gateways it is
/// always on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MtlsMode {
    /// Plain text or mutual TLS, as the caller likes and the instance has it.
    #[default]
    Permissive,
    /// Mutual TLS only: callers need a certificate of the GNS, and instances without one are no endpoints.
    Strict,
    /// Plain text only: instances that speak mutual TLS are no endpoints.
    Off,
}

impl MtlsMode {
    /// Whether instances that speak so are endpoints.
    pub fn serves(self, tls: InstanceTls) -> bool {
        match self {
            MtlsMode::Permissive => true,
            MtlsMode::Strict => tls == InstanceTls::Mesh,
            MtlsMode::Off => tls == InstanceTls::None,
        }
    }

    /// The versions of a service whose instances are no endpoints; nothing when all are.
    pub fn unfit(self, spec: &ServiceSpec) -> Option<Unfit> {
        let unfit = spec.versions.iter().filter(|version| !self.serves(version.tls) && !version.instances.is_empty());
        let versions: Vec<_> = unfit.map(|version| version.name.clone()).collect();
        (!versions.is_empty()).then_some(Unfit { mode: self, versions })
    }
}

/// Versions whose instances are no endpoints, since they do not speak as their GNS does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    mode: MtlsMode,
    versions: Vec<Name>,
}

impl Unfit {
    /// Which, why, and what to do.
    pub fn explain(&self, gns: &Name) -> String {
        let versions = self.versions.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        let (speak, mode, remedy) = match self.mode {
            MtlsMode::Off => ("mutual TLS", "off", "write tls: none where they speak plain text, or mtls: permissive"),
            _ => ("plain text", "strict", "give them certificates and write tls: mesh, or mtls: permissive"),
        };
        format!(
            "instances of {versions} speak {speak}, and GlobalNamespace/{gns} is mtls: {mode}, so they are no endpoints; {remedy}"
        )
    }
}

/// How long certificates live, level by level. Each is at most a third of its issuer's, and none above 90 days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct CertificateLifetimes {
    /// Workloads and gateways.
    pub leaf_lifetime: Span,
    /// The issuing CA that a cluster's agent holds.
    pub issuing_lifetime: Span,
    /// The GNS's own CA.
    pub ca_lifetime: Span,
}

impl Default for CertificateLifetimes {
    fn default() -> Self {
        const DAY: u64 = 86_400_000;
        CertificateLifetimes {
            leaf_lifetime: Span::from_millis(DAY),
            issuing_lifetime: Span::from_millis(30 * DAY),
            ca_lifetime: Span::from_millis(90 * DAY),
        }
    }
}

/// A host name, or `*.` and a host name: every name of exactly one label more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host only.
    Exact(Host),
    /// Every host one label below.
    Wildcard(Host),
}

impl HostPattern {
    /// Whether the pattern covers the host.
    pub fn covers(&self, host: &Host) -> bool {
        match self {
            HostPattern::Exact(exact) => exact == host,
            HostPattern::Wildcard(domain) => {
                host.labels_below(domain).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostPattern::Exact(host) => write!(f, "{host}"),
            HostPattern::Wildcard(domain) => write!(f, "*.{domain}"),
        }
    }
}

impl std::str::FromStr for HostPattern {
    type Err = super::name::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("*.") {
            Some(domain) => domain.parse().map(HostPattern::Wildcard),
            None => text.parse().map(HostPattern::Exact),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HostPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HostPattern".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a host name, or *. and a host name" })
    }
}
