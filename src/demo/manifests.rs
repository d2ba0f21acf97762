//! What the demo applies: one shop, in three clusters, under one public host; and an echo under another.

use std::time::Duration;

use anyhow::Context;
use controller::global::read_admin_context;
use controller::http::client::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use super::layout::{Cluster, ECHO_HOST, GRPC, INSTANCE, INSTANCE_TCP, Layout, PUBLIC_HOST, SERVICE, TCP};
use super::service::{ECHO, HEALTH};
use crate::command::context;

/// Speaks with the demo's controller.
pub struct Admin(Client);

#[derive(Deserialize)]
struct Created {
    token: String,
}

impl Admin {
    /// Reads the context that the controller wrote, and keeps the CA's certificate for clients.
    pub fn connect(layout: &Layout) -> anyhow::Result<Admin> {
        let path = layout.context();
        let context = read_admin_context(&path).context("the controller wrote no context")?;
        std::fs::write(layout.ca(), &context.ca)?;
        Ok(Admin(context::client(&path)?))
    }

    /// A token with which the cluster's agent joins.
    pub async fn token(&self, cluster: &str) -> anyhow::Result<String> {
        let created: Created = self.0.post("/v1alpha1/tokens", &json!({ "cluster": cluster })).await?;
        Ok(created.token)
    }

    /// Applies manifests.
    pub async fn apply(&self, manifests: &[Value]) -> anyhow::Result<()> {
        let body = json!({ "manifests": manifests });
        let applied = tokio::time::timeout(Duration::from_secs(10), self.0.post::<Value>("/v1alpha1/apply", &body));
        applied.await.context("no answer in time")??;
        Ok(())
    }
}

fn manifest(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({ "apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

/// The clusters' workloads, the GNS, and what is published of it.
pub fn all(layout: &Layout) -> Vec<Value> {
    let clusters = layout.clusters().iter().map(|cluster| {
        let workloads = json!([{ "cidr": cluster.workloads(), "namespace": "shop" }]);
        let metadata = json!({ "name": cluster.name, "labels": { "region": cluster.name } });
        manifest("Cluster", metadata, json!({ "workloads": workloads }))
    });
    let anywhere = json!([{ "cluster": { "prefix": "" }, "namespace": { "exact": "shop" } }]);
    let gns = json!({ "domain": "shop.internal", "members": anywhere, "publicHosts": ["*.example.com"] });
    let public = json!({
        "globalNamespace": "shop",
        "service": "web",
        "port": SERVICE,
        "hosts": [{ "name": PUBLIC_HOST }],
        "tls": { "mode": "redirect", "certificate": "selfSigned" },
        "serviceInfo": true,
    });
    clusters
        .chain([
            manifest("GlobalNamespace", json!({ "name": "shop" }), gns),
            manifest("PublicService", json!({ "name": "web" }), public),
            manifest("PublicService", json!({ "name": "echo" }), public_echo()),
        ])
        .collect()
}

/// Every protocol under one host: gRPC by its services' paths.
fn public_echo() -> Value {
    let grpc = |service: &str| json!({ "pathPrefix": format!("/{service}"), "service": "echo", "port": GRPC });
    json!({
        "globalNamespace": "shop",
        "service": "echo",
        "port": SERVICE,
        "routes": [
            grpc(ECHO),
            grpc(HEALTH),
            { "pathPrefix": "/", "service": "echo", "port": SERVICE },
        ],
        "hosts": [{ "name": ECHO_HOST }],
        "tls": { "mode": "https", "certificate": "selfSigned" },
        "serviceInfo": true,
    })
}

/// The services that a cluster's agent finds: three names for the same instances.
pub fn write_services(cluster: &Cluster) -> anyhow::Result<()> {
    for name in ["web", "cart", "echo"] {
        let path = cluster.services().join(format!("{name}.json"));
        let half = cluster.dir.join(format!("{name}.json.new"));
        std::fs::write(&half, serde_json::to_vec_pretty(&service(cluster, name))?)?;
        std::fs::rename(half, path)?;
    }
    Ok(())
}

fn service(cluster: &Cluster, name: &str) -> Value {
    let version = |wanted: &str| {
        let instances = cluster.instances().into_iter().filter(|(_, version, _)| *version == wanted);
        let instances: Vec<_> = instances.map(|(_, _, ip)| json!({ "address": ip })).collect();
        json!({ "name": wanted, "instances": instances })
    };
    let http = json!({ "name": "http", "port": SERVICE, "targetPort": INSTANCE });
    let grpc = json!({ "name": "grpc", "port": GRPC, "protocol": "grpc", "targetPort": INSTANCE });
    let tcp = json!({ "name": "tcp", "port": TCP, "protocol": "tcp", "targetPort": INSTANCE_TCP });
    let spec = json!({
        "ports": if name == "echo" { vec![http, grpc, tcp] } else { vec![http] },
        "versions": [version("v1"), version("v2")],
        "healthCheck": { "path": "/healthz", "interval": "1s", "timeout": "500ms" },
    });
    manifest("Service", json!({ "name": name, "namespace": "shop", "cluster": cluster.name }), spec)
}
