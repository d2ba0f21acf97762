//! What tests of several modules need.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;

use config::resource::{HealthProtocol, Protocol};
use config::snapshot::{Accept, Check};
use http::HeaderValue;

use super::{Changes, InstanceHealth, Target};
use crate::upstream::pool::Pools;
use crate::upstream::secure::Security;

/// Asks for `/` every second.
pub fn check() -> Check {
    let second: config::resource::Span = "1s".parse().unwrap();
    Check {
        protocol: HealthProtocol::Http,
        path: "/".to_owned(),
        port: None,
        interval: second,
        timeout: second,
        unhealthy_threshold: 2,
        healthy_threshold: 2,
        accept: Accept::Success,
        prior_knowledge: false,
    }
}

/// An instance of `v1` that is spoken to in plain HTTP/1.1.
pub fn target(at: SocketAddr, changes: &Changes) -> Target {
    Target {
        version: "v1".parse().unwrap(),
        protocol: Protocol::Http,
        served_by: HeaderValue::from_static("north/v1"),
        connections: Pools::default().of(at, &Security::Plain),
        health: Arc::new(InstanceHealth::new(&check(), changes)),
    }
}
