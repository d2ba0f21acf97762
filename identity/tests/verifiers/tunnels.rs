//! Gateway to gateway: the north dials the south, or is dialled by it; the south's certificate is the wrong one.

use std::sync::Arc;

use identity::ca::GnsCa;
use identity::tls::{gateway_server_config, tunnel_client_config};
use identity::{Accept, RoleKind, TrustView};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use time::Duration;

use crate::handshake::{Outcome, shake};
use crate::mesh::*;

pub(crate) const ALPN: &[&[u8]] = &[b"tombolo/1"];

pub(crate) fn server(mesh: &Mesh, cluster: &str, view: TrustView) -> ServerConfig {
    let accept = Accept::new(domain("shop"), [RoleKind::Gateway]);
    gateway_server_config(&mesh.shop.gateway(cluster), Arc::new(view), accept, ALPN).unwrap()
}

pub(crate) fn client(mesh: &Mesh, cluster: &str, to: &str, view: TrustView) -> ClientConfig {
    tunnel_client_config(&mesh.shop.gateway(cluster), Arc::new(view), domain("shop"), to, ALPN).unwrap()
}

/// The south dials the north, showing `forged`.
pub(crate) async fn dials(mesh: &Mesh, view: TrustView, forged: &Forged) -> Outcome {
    let mut client = client(mesh, "south", "north", mesh.view());
    client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(forged.certified()));
    shake(client, &label("shop", "north"), server(mesh, "north", view)).await
}

/// The north dials the south, which shows `forged`.
pub(crate) async fn answers(mesh: &Mesh, view: TrustView, forged: &Forged) -> Outcome {
    let mut server = server(mesh, "south", mesh.view());
    server.cert_resolver = Arc::new(SingleCertAndKey::from(forged.certified()));
    shake(client(mesh, "north", "south", view), &label("shop", "south"), server).await
}

pub(crate) async fn refused(mesh: &Mesh, case: &str, forged: &Forged, code: &str) {
    refused_by(mesh, mesh.view(), case, forged, code).await;
}

async fn refused_by(mesh: &Mesh, view: TrustView, case: &str, forged: &Forged, code: &str) {
    dials(mesh, view.clone(), forged).await.client_refused(case, code);
    answers(mesh, view, forged).await.server_refused(case, code);
}

pub(crate) async fn accepted(mesh: &Mesh, view: TrustView, forged: &Forged) {
    dials(mesh, view.clone(), forged).await.accepted();
    answers(mesh, view, forged).await.accepted();
}

pub(crate) fn south(mesh: &Mesh) -> Forger {
    Forger::new(&mesh.shop.south.export())
}

/// An issuing CA as the GNS CA makes it, but for the edit. No constraints.
fn forged_issuing(mesh: &Mesh, edit: impl FnOnce(&mut CertificateParams)) -> Forged {
    let mut params = issuing_params();
    edit(&mut params);
    Forger::new(&mesh.shop.ca.export()).sign(&params)
}

fn issuing_params() -> CertificateParams {
    let mut params = leaf_params();
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::OrganizationName, "shop.mesh");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "tombolo issuing");
    params.distinguished_name.push(DnType::CommonName, "south");
    params
}

fn rename(params: &mut CertificateParams, part: DnType, name: &str) {
    params.distinguished_name.remove(part.clone());
    params.distinguished_name.push(part, name);
}

#[tokio::test]
async fn right_certificates_are_accepted_and_identified() {
    let mesh = Mesh::new();
    let dialler = client(&mesh, "north", "south", mesh.view());
    let outcome = shake(dialler, &label("shop", "south"), server(&mesh, "south", mesh.view())).await;
    let (found_server, found_client) = outcome.accepted();
    assert_eq!(found_server, id("spiffe://shop.mesh/cluster/south/gateway/gw-1"));
    assert_eq!(found_client, Some(id("spiffe://shop.mesh/cluster/north/gateway/gw-1")));
    // The forger's starting point is right too, so each refusal below is for what was changed.
    accepted(&mesh, mesh.view(), &south(&mesh).leaf(|_| {})).await;
    let unconstrained = forged_issuing(&mesh, |_| {});
    accepted(&mesh, mesh.view(), &unconstrained.authority().leaf(|_| {})).await;
}

#[tokio::test]
async fn roots_are_not_pooled() {
    let mesh = Mesh::new();
    let bank = Forger::new(&mesh.bank.south.export());
    // Both roots are known here. Bank's own name is not accepted on shop's port; shop's name under bank's root fails.
    let own = "spiffe://bank.mesh/cluster/south/gateway/gw-1";
    let named = |uri| bank.leaf(|p| p.subject_alt_names = names(uri, &label("bank", "south")));
    refused(&mesh, "another GNS's gateway", &named(own), "trust_domain").await;
    let posing = named("spiffe://shop.mesh/cluster/south/gateway/gw-1");
    refused(&mesh, "another GNS's root for our trust domain", &posing, "unknown_issuer").await;
    // Even an issuing CA of bank whose subject claims shop.
    let posing = Forger::new(&mesh.bank.ca.export()).sign(&issuing_params()).authority().leaf(|_| {});
    refused(&mesh, "bank's GNS CA poses as shop's", &posing, "unknown_issuer").await;
    // The same names under another key: a mesh of the same name.
    let twin = Mesh::new();
    refused(&mesh, "a mesh of the same name", &south(&twin).leaf(|_| {}), "bad_signature").await;
    let mut view = mesh.view();
    view.bundles = Default::default();
    refused_by(&mesh, view, "no bundle at all", &south(&mesh).leaf(|_| {}), "no_roots").await;
}

#[tokio::test]
async fn a_cluster_cannot_name_another() {
    let mesh = Mesh::new();
    let north = Forger::new(&mesh.shop.north.export());
    let posing = north.leaf(|p| p.subject_alt_names.retain(|n| matches!(n, SanType::URI(_))));
    dials(&mesh, mesh.view(), &posing).await.client_refused("north's issuing CA names the south", "foreign_issuer");
    refused(&mesh, "and takes the south's label too", &north.leaf(|_| {}), "name_constraint").await;
    let renamed = forged_issuing(&mesh, |p| rename(p, DnType::CommonName, "north"));
    refused(&mesh, "the issuing CA's cluster", &renamed.authority().leaf(|_| {}), "foreign_issuer").await;
    let renamed = forged_issuing(&mesh, |p| rename(p, DnType::OrganizationName, "bank.mesh"));
    refused(&mesh, "the issuing CA's trust domain", &renamed.authority().leaf(|_| {}), "foreign_issuer").await;
    let renamed = forged_issuing(&mesh, |p| rename(p, DnType::OrganizationalUnitName, "tombolo"));
    refused(&mesh, "the issuing CA's unit", &renamed.authority().leaf(|_| {}), "issuer").await;
    // North's gateway with all its own right names, where the south was dialled.
    let server_north = server(&mesh, "north", mesh.view());
    let wrong = shake(client(&mesh, "south", "south", mesh.view()), &label("shop", "north"), server_north).await;
    wrong.server_refused("another cluster's gateway", "cluster");
}

#[tokio::test]
async fn dates_hold_at_every_level() {
    let mesh = Mesh::new();
    let past = |p: &mut CertificateParams| p.not_after = now() - Duration::seconds(2);
    let future = |p: &mut CertificateParams| p.not_before = now() + Duration::minutes(5);
    refused(&mesh, "expired leaf", &south(&mesh).leaf(past), "expired").await;
    refused(&mesh, "leaf of tomorrow", &south(&mesh).leaf(future), "not_valid_yet").await;
    refused(&mesh, "expired issuing CA", &forged_issuing(&mesh, past).authority().leaf(|_| {}), "expired").await;
    refused(&mesh, "issuing CA of tomorrow", &forged_issuing(&mesh, future).authority().leaf(|_| {}), "not_valid_yet")
        .await;
}

#[tokio::test]
async fn an_expired_root_vouches_for_nobody() {
    let mesh = Mesh::new();
    let long_ago = now() - Duration::days(91);
    let old = GnsCa::create(domain("shop"), &Default::default(), long_ago).unwrap();
    // Its issuing CA was signed while it lived, and is still in its own life.
    let leaf = Forger::new(&old.export()).sign(&issuing_params()).authority().leaf(|_| {});
    let mut view = mesh.view();
    view.bundles = [(domain("shop"), bundle([old.certificate(), mesh.shop.ca.certificate()]))].into_iter().collect();
    refused_by(&mesh, view.clone(), "expired root beside a good one", &leaf, "bad_signature").await;
    accepted(&mesh, view.clone(), &south(&mesh).leaf(|_| {})).await;
    view.bundles = [(domain("shop"), bundle([old.certificate()]))].into_iter().collect();
    refused_by(&mesh, view, "expired root alone", &leaf, "expired").await;
}

#[tokio::test]
async fn two_roots_of_one_domain_overlap_in_a_rotation() {
    let mesh = Mesh::new();
    let next = GnsCa::create(domain("shop"), &Default::default(), now()).unwrap();
    let mut view = mesh.view();
    for roots in [[mesh.shop.ca.certificate(), next.certificate()], [next.certificate(), mesh.shop.ca.certificate()]] {
        view.bundles = [(domain("shop"), bundle(roots))].into_iter().collect();
        accepted(&mesh, view.clone(), &south(&mesh).leaf(|_| {})).await;
        let of_next = Forger::new(&issuing(&next, "shop", "south").export());
        accepted(&mesh, view.clone(), &of_next.leaf(|_| {})).await;
    }
}

#[tokio::test]
async fn the_path_has_one_shape() {
    let mesh = Mesh::new();
    let south = south(&mesh);
    let issuing = south.certificate();
    let root = Forger::new(&mesh.shop.ca.export());

    refused(&mesh, "issuing CA missing", &south.sign(&leaf_params()), "unknown_issuer").await;
    let direct = root.sign(&leaf_params());
    refused(&mesh, "signed by the GNS CA itself", &direct, "issuer").await;
    let by_leaf = south.leaf(|_| {}).authority().leaf(|_| {}).and([issuing.clone()]);
    refused(&mesh, "leaf signed by a leaf", &by_leaf, "path").await;
    let as_ca = south.leaf(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    refused(&mesh, "leaf that is a CA", &as_ca, "is_ca").await;
    let sub = south.leaf(|p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        rename(p, DnType::CommonName, "south");
        rename(p, DnType::OrganizationName, "shop.mesh");
        rename(p, DnType::OrganizationalUnitName, "tombolo issuing");
    });
    let deeper = sub.authority().leaf(|_| {}).and([issuing.clone()]);
    refused(&mesh, "below pathLen 0", &deeper, "path").await;
    let roomy = forged_issuing(&mesh, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let mut params = leaf_params();
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    rename(&mut params, DnType::CommonName, "south2");
    let deeper = roomy.authority().sign(&params).authority().leaf(|_| {}).and(roomy.chain);
    refused(&mesh, "two issuing CAs in a row", &deeper, "issuer").await;

    let key = rcgen::KeyPair::generate().unwrap();
    let alone = leaf_params().self_signed(&key).unwrap();
    let alone = Forged { chain: vec![alone.into()], key: key.serialize_pem().into() };
    refused(&mesh, "self-signed", &alone, "unknown_issuer").await;
    refused(&mesh, "self-signed, before a right chain", &alone.and([issuing, root.certificate()]), "unknown_issuer")
        .await;
}

#[tokio::test]
async fn junk_in_the_chain_neither_helps_nor_floods() {
    let mesh = Mesh::new();
    let junk = || CertificateDer::from(vec![0x30, 0x03, 1, 1, 0xff]);
    let good = south(&mesh).leaf(|_| {});
    accepted(&mesh, mesh.view(), &good.clone().and([junk(), mesh.bank.ca.certificate().clone()])).await;
    refused(&mesh, "too long", &good.clone().and([junk(), junk(), junk()]), "chain_too_long").await;
    refused(&mesh, "very long", &good.and((0..1000).map(|_| junk())), "chain_too_long").await;
}

#[tokio::test]
async fn usages_are_required() {
    let mesh = Mesh::new();
    let south = south(&mesh);
    let with = |usages: Vec<_>| south.leaf(|p| p.extended_key_usages = usages);
    refused(&mesh, "no extended key usage", &with(vec![]), "key_usage").await;
    refused(&mesh, "any", &with(vec![ExtendedKeyUsagePurpose::Any]), "key_usage").await;
    refused(&mesh, "another", &with(vec![ExtendedKeyUsagePurpose::CodeSigning]), "key_usage").await;
    let server_only = with(vec![ExtendedKeyUsagePurpose::ServerAuth]);
    dials(&mesh, mesh.view(), &server_only).await.client_refused("server's as client", "key_usage");
    answers(&mesh, mesh.view(), &server_only).await.accepted();
    let client_only = with(vec![ExtendedKeyUsagePurpose::ClientAuth]);
    answers(&mesh, mesh.view(), &client_only).await.server_refused("client's as server", "key_usage");
    dials(&mesh, mesh.view(), &client_only).await.accepted();
    let bare = forged_issuing(&mesh, |p| p.extended_key_usages.clear());
    refused(&mesh, "issuing CA without", &bare.authority().leaf(|_| {}), "key_usage").await;
}

/// webpki's iterator over URIs skips one that is no UTF-8; taken alone it would count one name here.
#[tokio::test]
async fn revoked_and_departed_are_refused() {
    let mesh = Mesh::new();
    let leaf = south(&mesh).leaf(|_| {});
    for (case, certificate) in [("the leaf", &leaf.chain[0]), ("its issuing CA", &leaf.chain[1])] {
        let mut view = mesh.view();
        view.revoked.insert(identity::Facts::read(certificate).unwrap().serial);
        refused_by(&mesh, view, case, &leaf, "revoked").await;
    }
    let mut view = mesh.view();
    view.members.remove(&(domain("shop"), "south".to_owned()));
    refused_by(&mesh, view, "the cluster left shop", &leaf, "not_member").await;
    let mut view = mesh.view();
    view.members.remove(&(domain("bank"), "south".to_owned()));
    accepted(&mesh, view, &leaf).await;
}
