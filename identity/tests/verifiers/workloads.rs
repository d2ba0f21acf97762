//! Gateways and workloads: one dials an instance and expects it alone, the other lets callers in.

use std::sync::Arc;

use identity::tls::{gateway_server_config, instance_client_config};
use identity::{Accept, Identity, RoleKind, SpiffeId};
use rustls::ServerConfig;

use crate::handshake::shake;
use crate::mesh::*;

/// The instance `cart` of the shop in the south, which lets in gateways of its own cluster.
fn instance(mesh: &Mesh, shown: &Identity) -> ServerConfig {
    let accept = Accept::new(domain("shop"), [RoleKind::Gateway]).only_cluster("south");
    gateway_server_config(shown, Arc::new(mesh.view()), accept, &[]).unwrap()
}

/// A gateway's door for workloads of its own cluster, of both global namespaces.
fn door(mesh: &Mesh, cluster: &str) -> ServerConfig {
    let accept = Accept::new(domain("shop"), [RoleKind::Workload]).and_domains([domain("bank")]).only_cluster(cluster);
    gateway_server_config(&mesh.shop.gateway(cluster), Arc::new(mesh.view()), accept, &[]).unwrap()
}

fn cart() -> SpiffeId {
    id("spiffe://shop.mesh/cluster/south/ns/default/svc/cart")
}

#[tokio::test]
async fn an_instance_must_be_who_is_expected_and_nobody_else() {
    let mesh = Mesh::new();
    let dial = |expected: SpiffeId| {
        instance_client_config(&mesh.shop.gateway("south"), Arc::new(mesh.view()), expected, &[]).unwrap()
    };
    let workload = mesh.shop.workload();
    let (found, gateway) = shake(dial(cart()), "cart.shop.internal", instance(&mesh, &workload)).await.accepted();
    assert_eq!((found, gateway.is_some()), (cart(), true), "whatever name is dialled");
    for other in ["ns/default/svc/pay", "ns/other/svc/cart"] {
        let expected = id(&format!("spiffe://shop.mesh/cluster/south/{other}"));
        let outcome = shake(dial(expected), "cart.shop.internal", instance(&mesh, &workload)).await;
        outcome.server_refused(other, "other_peer");
    }
    let outcome = shake(dial(cart()), "cart.shop.internal", instance(&mesh, &mesh.bank.workload())).await;
    outcome.server_refused("of the other global namespace", "trust_domain");
    let outcome = shake(dial(cart()), "cart.shop.internal", instance(&mesh, &mesh.shop.gateway("south"))).await;
    outcome.server_refused("a gateway in its place", "role");
}

#[tokio::test]
async fn workloads_of_every_known_global_namespace_come_in_by_their_own_clusters_door_only() {
    let mesh = Mesh::new();
    let gateway = id("spiffe://shop.mesh/cluster/south/gateway/gw-1");
    let call = |shown: &Identity, gateway: SpiffeId| {
        instance_client_config(shown, Arc::new(mesh.view()), gateway, &[]).unwrap()
    };
    for gns in [&mesh.shop, &mesh.bank] {
        let workload = gns.workload();
        let (_, caller) = shake(call(&workload, gateway.clone()), "x.internal", door(&mesh, "south")).await.accepted();
        assert_eq!(caller.as_ref(), Some(workload.id()));
        let north = id("spiffe://shop.mesh/cluster/north/gateway/gw-1");
        let outcome = shake(call(&workload, north), "x.internal", door(&mesh, "north")).await;
        outcome.client_refused("of another cluster", "cluster");
    }
    let outcome = shake(call(&mesh.shop.gateway("south"), gateway), "x.internal", door(&mesh, "south")).await;
    outcome.client_refused("a gateway is no caller", "role");
}
