//! How the instances of a service are checked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::span::Span;

/// How a gateway finds out whether an instance of its cluster is well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is spoken.
    pub protocol: HealthProtocol,
    /// The path of an HTTP check; a status from 200 to 399 is well.
    pub path: String,
    /// The instance's port, when checks go to another than requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// From one check to the next. After a first failure checks follow each 250 ms, if that is sooner.
    pub interval: Span,
    /// How long a check may take.
    pub timeout: Span,
    /// So many failures in a row make an instance sick.
    pub unhealthy_threshold: u32,
    /// So many successes in a row make it well again.
    pub healthy_threshold: u32,
}

/// What a health check speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HealthProtocol {
    /// A GET: of HTTP/1.1, or of HTTP/2 where the service's first port speaks that.
    #[default]
    Http,
    /// A TCP connect.
    Tcp,
    /// The gRPC health protocol, `grpc.health.v1.Health/Check`, for the whole server.
    Grpc,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            protocol: HealthProtocol::Http,
            path: "/".to_owned(),
            port: None,
            interval: Span::from_millis(1_000),
            timeout: Span::from_millis(500),
            unhealthy_threshold: 2,
            healthy_threshold: 2,
        }
    }
}
