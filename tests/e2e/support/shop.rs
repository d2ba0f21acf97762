//! A router with a shop of one service, published over plain HTTP and over HTTPS, with instances of the test's own.

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::{Value, json};

use super::cli::Cli;
use super::demo::{ADMIN, HTTP};
use super::http::{Client, Connection, Protocol, plain};
use super::router::{Router, address};
use super::{eventually, holds};

/// Published over HTTP.
pub const CLEAR: &str = "clear.example.com";
/// Published over HTTPS, as another host of the same service.
pub const SECURE: &str = "secure.example.com";
/// Published over HTTPS, in another GNS.
pub const RIVAL: &str = "rival.example.com";

/// A running router with the shop.
pub struct Shop(Router);

impl Shop {
    /// `network` tells the address, so that each test has its own. It is up when it serves.
    pub async fn start(network: u8, instances: &[SocketAddr]) -> Shop {
        let mut shop = Shop(Router::start(address(network, 1), &manifests(instances), &[]));
        let serves = async || {
            assert!(shop.0.process.ended().is_none(), "it ended: {}", shop.0.process.log());
            let answer = shop.connect().await?.get("/").await?;
            holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
        };
        eventually("the router serves", serves).await;
        shop
    }

    /// One of its ports.
    pub fn at(&self, port: u16) -> SocketAddr {
        self.0.at(port)
    }

    /// A connection to the host that is published in plain text.
    pub async fn connect(&self) -> Result<Connection, String> {
        plain([127, 0, 0, 1].into(), self.at(HTTP), CLEAR, Protocol::Http1).await
    }

    /// A client that trusts its CA.
    pub fn client(&self) -> Client {
        Client::trusting(&Cli { context: &self.0.context() }.run(&["ca"]).success())
    }

    /// The lines of its access log, as far as they are written.
    pub fn access_log(&self) -> Vec<Value> {
        lines(&self.0.access_log())
    }

    /// A metric's value, all its labels summed up; those whose labels contain this text.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64, String> {
        let text =
            plain([127, 0, 0, 1].into(), self.at(ADMIN), "admin", Protocol::Http1).await?.get("/metrics").await?;
        let text = String::from_utf8(text.body.to_vec()).unwrap();
        let series = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.contains(labels));
        let series = series.filter(|rest| rest.starts_with(['{', ' ']));
        Ok(series.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum())
    }
}

/// Whole lines of JSON.
pub fn lines(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn manifests(instances: &[SocketAddr]) -> String {
    let manifest = |kind: &str, metadata: Value, spec: Value| {
        json!({ "apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec }).to_string()
    };
    let gns = |name: &str| {
        let members = json!([{ "cluster": { "exact": "local" }, "namespace": { "exact": name } }]);
        manifest(
            "GlobalNamespace",
            json!({ "name": name }),
            json!({ "domain": format!("{name}.internal"), "members": members }),
        )
    };
    let instances: Vec<_> =
        instances.iter().map(|at| json!({ "address": at.ip().to_string(), "port": at.port() })).collect();
    let service = |namespace: &str| {
        let metadata = json!({ "name": "web", "namespace": namespace, "cluster": "local" });
        let spec = json!({
            "ports": [{ "name": "http", "port": 8080, "protocol": "http" }],
            "versions": [{ "name": "v1", "instances": instances }],
            "healthCheck": { "path": "/health", "interval": "250ms", "timeout": "250ms" },
        });
        manifest("Service", metadata, spec)
    };
    let public = |name: &str, gns: &str, host: &str, tls: Value| {
        let spec = json!({
            "globalNamespace": gns, "service": "web", "port": 8080,
            "hosts": [{ "name": host }], "tls": tls, "serviceInfo": true,
        });
        manifest("PublicService", json!({ "name": name }), spec)
    };
    let signed = json!({ "mode": "https", "certificate": "selfSigned" });
    [
        gns("shop"),
        gns("rival"),
        service("shop"),
        service("rival"),
        public("clear", "shop", CLEAR, json!({ "mode": "http" })),
        public("secure", "shop", SECURE, signed.clone()),
        public("rival", "rival", RIVAL, signed),
    ]
    .join("\n---\n")
}
