//! Gateway to gateway again: names that a certificate must, may and may not have.

use std::sync::Arc;

use identity::tls::{gateway_server_config, tunnel_client_config};
use identity::{Accept, PrivateKey, RoleKind, SpiffeId};
use rcgen::SanType;

use crate::handshake::shake;
use crate::mesh::*;
use crate::tunnels::{ALPN, accepted, answers, client, refused, server, south};

fn uri(forger: &Forger, uri: &str) -> Forged {
    forger.leaf(|p| p.subject_alt_names = names(uri, &label("shop", "south")))
}

#[tokio::test]
async fn exactly_one_uri() {
    let mesh = Mesh::new();
    let south = south(&mesh);
    let extra = |uri: &str| {
        let uri = uri.to_owned();
        south.leaf(move |p| p.subject_alt_names.push(SanType::URI(uri.try_into().unwrap())))
    };
    refused(&mesh, "two", &extra("spiffe://shop.mesh/cluster/south/gateway/gw-2"), "uri_names").await;
    refused(&mesh, "the same twice", &extra("spiffe://shop.mesh/cluster/south/gateway/gw-1"), "uri_names").await;
    refused(&mesh, "another scheme beside", &extra("https://shop.example/"), "uri_names").await;
    let none = south.leaf(|p| p.subject_alt_names.retain(|n| matches!(n, SanType::DnsName(_))));
    refused(&mesh, "none", &none, "uri_names").await;
    let no_names = south.leaf(|p| p.subject_alt_names.clear());
    refused(&mesh, "no names at all", &no_names, "uri_names").await;
}

#[tokio::test]
async fn a_name_cannot_hide_behind_bad_encoding() {
    let mesh = Mesh::new();
    let uri = b"spiffe://shop.mesh/cluster/south/gateway/gw-1";
    let hidden = b"\xff\xfe://x";
    let mut names = vec![0x86, hidden.len() as u8];
    names.extend(hidden);
    names.extend([0x86, uri.len() as u8]);
    names.extend(uri);
    let mut der = vec![0x30, names.len() as u8];
    der.extend(names);
    let forged = south(&mesh).leaf(|p| {
        p.subject_alt_names.clear();
        p.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], der)];
    });
    refused(&mesh, "a URI that is no UTF-8", &forged, "unreadable").await;
    let twice = south(&mesh).leaf(|p| {
        let der = vec![0x30, 0x00];
        p.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], der)];
    });
    refused(&mesh, "two extensions of names", &twice, "unreadable").await;
}

#[tokio::test]
async fn malformed_ids_are_refused() {
    let mesh = Mesh::new();
    let south = south(&mesh);
    let long = format!("spiffe://shop.mesh/cluster/south/gateway/{}", "a".repeat(64));
    for text in [
        "spiffe://SHOP.mesh/cluster/south/gateway/gw-1",
        "SPIFFE://shop.mesh/cluster/south/gateway/gw-1",
        "spiffe://shop.mesh/cluster/South/gateway/gw-1",
        "spiffe://shop.mesh/cluster/south/gateway/gw-1?a=b",
        "spiffe://shop.mesh/cluster/south/gateway/gw-1#a",
        "spiffe://shop.mesh:443/cluster/south/gateway/gw-1",
        "spiffe://me@shop.mesh/cluster/south/gateway/gw-1",
        "spiffe://shop.mesh//cluster/south/gateway/gw-1",
        "spiffe://shop.mesh/cluster//gateway/gw-1",
        "spiffe://shop.mesh/cluster/south/gateway/",
        "spiffe://shop.mesh/cluster/south/gateway/gw-1/",
        "spiffe://shop.mesh/cluster/../south/gateway/gw-1",
        "spiffe://shop.mesh/cluster/./gateway/gw-1",
        "spiffe://shop.mesh/cluster/s%6futh/gateway/gw-1",
        "spiffe://shop.mesh./cluster/south/gateway/gw-1",
        "spiffe://shop.mesh",
        "https://shop.mesh/cluster/south/gateway/gw-1",
        "",
        &long,
    ] {
        refused(&mesh, text, &uri(&south, text), "not_spiffe").await;
    }
}

#[tokio::test]
async fn roles_have_their_ports() {
    let mesh = Mesh::new();
    let south = south(&mesh);
    let workload = uri(&south, "spiffe://shop.mesh/cluster/south/ns/default/svc/cart");
    refused(&mesh, "a workload as gateway", &workload, "role").await;
    let agent = uri(&south, "spiffe://shop.mesh/cluster/south/agent");
    refused(&mesh, "an agent's form in the GNS's domain", &agent, "role").await;

    let key = PrivateKey::generate().unwrap();
    let chain = mesh.top.issue_agent(&request(&agent_id("south"), &key), now()).unwrap();
    let agent = Forged { chain, key: key.to_pem().as_str().into() };
    refused(&mesh, "an agent's certificate on the tunnel port", &agent, "trust_domain").await;
    let public_key = PrivateKey::generate().unwrap();
    let label = label("shop", "south");
    let chain = mesh.top.issue_public([label.as_str()], &public_key, now()).unwrap();
    let public = Forged { chain, key: public_key.to_pem().as_str().into() };
    refused(&mesh, "a public certificate", &public, "uri_names").await;
}

#[tokio::test]
async fn workloads_are_accepted_where_they_are_named() {
    let mesh = Mesh::new();
    let accept = Accept::new(domain("shop"), [RoleKind::Workload]);
    let gateway = mesh.shop.gateway("north");
    let server = gateway_server_config(&gateway, Arc::new(mesh.view()), accept, ALPN).unwrap();
    let id: SpiffeId = mesh.shop.workload().id().clone();
    let caller =
        tunnel_client_config(&mesh.shop.workload(), Arc::new(mesh.view()), domain("shop"), "north", ALPN).unwrap();
    let (_, found) = shake(caller, &label("shop", "north"), server).await.accepted();
    assert_eq!(found, Some(id));
}

#[tokio::test]
async fn the_label_is_verified() {
    let mesh = Mesh::new();
    for name in [label("shop", "north"), label("bank", "south"), "other".into(), "192.0.2.1".into()] {
        let outcome =
            shake(client(&mesh, "north", "south", mesh.view()), &name, server(&mesh, "south", mesh.view())).await;
        outcome.server_refused(&name, "server_name");
    }
    let unlabelled = south(&mesh).leaf(|p| p.subject_alt_names.retain(|n| matches!(n, SanType::URI(_))));
    answers(&mesh, mesh.view(), &unlabelled).await.server_refused("no DNS name", "server_name");
}

#[tokio::test]
async fn the_issuing_ca_keeps_to_its_territory() {
    let mesh = Mesh::new();
    let south = south(&mesh);
    let with = |name: SanType| south.leaf(|p| p.subject_alt_names.push(name));
    let dns = |name: &str| with(SanType::DnsName(name.try_into().unwrap()));
    accepted(&mesh, mesh.view(), &dns("cart.shop.internal")).await;
    refused(&mesh, "north's label", &dns("t-shop-north"), "name_constraint").await;
    refused(&mesh, "a public host", &dns("shop.example.com"), "name_constraint").await;
    refused(&mesh, "another GNS's domain", &dns("cart.bank.internal"), "name_constraint").await;
    refused(&mesh, "a wildcard of the whole zone", &dns("*.example.com"), "name_constraint").await;
    // webpki does not weigh a wildcard of two labels against constraints at all: it is malformed to it.
    refused(&mesh, "a wildcard above our domain", &dns("*.internal"), "path").await;
    refused(&mesh, "an address", &with(SanType::IpAddress("192.0.2.1".parse().unwrap())), "name_constraint").await;
    refused(&mesh, "an IPv6 address", &with(SanType::IpAddress("::1".parse().unwrap())), "name_constraint").await;
}
