//! A public service: a service of a GNS, published outside it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::health_check::HealthCheck;
use super::name::{Host, Name};
use super::span::Span;

/// A service of a GNS published outside it under one or more host names. May exist before the service does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct PublicServiceSpec {
    /// The GNS to which it belongs.
    pub global_namespace: Name,
    /// The service that answers where no route says otherwise.
    pub service: Name,
    /// That service's port.
    pub port: u16,
    /// Which paths go to which service; the longest match wins, an exact one before all. The default is one route
    /// for everything, to `service`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<PublicRoute>,
    /// The host names. A host belongs to one public service in the whole mesh. In a box, as a vector that was read has
    /// room for four.
    pub hosts: Box<[HostEntry]>,
    /// Plain HTTP, HTTPS, a redirect from the one to the other, or TLS of the service's own.
    #[serde(default)]
    pub tls: PublicTls,
    /// How instances are checked, where their service itself does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Whether responses say who served them, in `tombolo-served-by: CLUSTER/VERSION/INSTANCE`.
    #[serde(default)]
    pub service_info: bool,
}

/// Requests whose path matches go to this service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct PublicRoute {
    /// Which paths.
    #[serde(flatten)]
    pub path: RoutePath,
    /// A service of the same GNS.
    pub service: Name,
    /// That service's port.
    pub port: u16,
}

/// Which paths a route takes. Paths are compared after normalisation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RoutePath {
    /// This path only.
    Path(String),
    /// This path and all below it, in whole segments: `/api` takes `/api` and `/api/x`, not `/apix`.
    PathPrefix(String),
}

/// A host name and how its clients are spread over clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct HostEntry {
    /// The host name.
    pub name: Host,
    /// How clusters share the work, in DNS answers and at the gateway.
    #[serde(default)]
    pub scheme: Scheme,
    /// How long resolvers may keep an answer.
    #[serde(default = "default_ttl")]
    pub ttl: Span,
}

fn default_ttl() -> Span {
    Span::from_millis(10_000)
}

/// How clusters share the work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// Over all healthy instances of all clusters.
    #[default]
    RoundRobin,
    /// Clusters by weight; a cluster that is not named gets nothing.
    Weighted(BTreeMap<Name, u32>),
    /// The first of these clusters that has a healthy instance.
    ActivePassive(Vec<Name>),
}

/// How a public service is spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct PublicTls {
    /// On which ports it answers.
    pub mode: TlsMode,
    /// Where its certificate comes from; needed for `https` and `redirect`, and only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSource>,
}

/// On which ports a public service answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TlsMode {
    /// HTTPS only; the plain port knows nothing of the host.
    #[default]
    Https,
    /// Plain HTTP only.
    Http,
    /// HTTPS, and the plain port answers with a redirect to it.
    Redirect,
    /// TLS that the service's own instances speak: the gateway reads the name that the client asks for, and passes all
    /// bytes on. The service's port must be of protocol `tls`.
    Passthrough,
}

/// Where a public service's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CertificateSource {
    /// The `Certificate` of this name in the same GNS.
    Uploaded(Name),
    /// Made by the controller and signed by the mesh's own CA, which clients must be told to trust.
    SelfSigned,
}
