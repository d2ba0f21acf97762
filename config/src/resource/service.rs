//! A service: a unit of business logic in a cluster's namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::health_check::HealthCheck;
use super::name::Name;

/// A unit of business logic: its ports, and its versions with their instances in this cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct ServiceSpec {
    /// What callers see; names and numbers are unique in the service.
    pub ports: Vec<Port>,
    /// The versions; names are unique in the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
    /// How its instances are checked, by this cluster's gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Port {
    /// The port's name.
    pub name: Name,
    /// The port that callers use.
    pub port: u16,
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port on which instances listen, when it is another and the instance names none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// Whether instances are told who called, by a PROXY header before a connection's own first byte. Only for `tcp` and
    /// `tls`: in HTTP, `x-forwarded-for` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Port {
    /// The port on which instances listen that name none themselves.
    pub fn target(&self) -> u16 {
        self.target_port.unwrap_or(self.port)
    }
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3).
    Http2,
    /// gRPC, over HTTP/2 without TLS.
    Grpc,
    /// Any byte stream.
    Tcp,
    /// TLS that only the two ends can read.
    Tls,
}

impl Protocol {
    /// Whether gateways pass its bytes on unread.
    pub fn is_stream(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::Tls)
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
        }
    }
}

/// In which form instances are told who called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProxyProtocol {
    /// The PROXY protocol's version 2, in binary.
    V2,
}

/// One version of a service in this cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Version {
    /// The version's name.
    pub name: Name,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether instances hold a certificate of their GNS.
    #[serde(default)]
    pub tls: InstanceTls,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
}

/// What an instance speaks towards its gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum InstanceTls {
    /// Plain text.
    #[default]
    None,
    /// Mutual TLS, with a certificate of the GNS that names the service.
    Mesh,
}

/// One running copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Instance {
    /// Its IP address.
    pub address: IpAddr,
    /// Its port, when it is neither the service port's `targetPort` nor its `port`; only for services of one port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The node on which it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
    /// Its share relative to the others. Not supported yet: 1 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}
