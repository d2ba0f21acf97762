//! Agent to controller and member to agent: pinned roots, roles instead of addresses, certificates optional.

use std::sync::Arc;

use identity::ca::{Chain, ControlCa, TopLevelCa};
use identity::tls::{control_client_config, control_server_config, enrolment_client_config, pinned_root};
use identity::{Accept, Facts, Identity, Pinned, PrivateKey, Refusal, Role, RoleKind, SpiffeId, Trust};
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::CertificateDer;

use crate::handshake::{Outcome, shake};
use crate::mesh::*;

/// Dialled by any name: it proves nothing here.
const ANY: &str = "some.address.example";

fn pinned(mesh: &Mesh) -> Arc<dyn Trust> {
    Arc::new(Pinned::new(mesh_domain(), bundle([mesh.top.certificate()])))
}

fn accept(roles: impl IntoIterator<Item = RoleKind>) -> Accept {
    Accept::new(mesh_domain(), roles)
}

fn controller(mesh: &Mesh) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let request = request(&id("spiffe://mesh/controller"), &key);
    holder(mesh.top.issue_controller(&request, ["localhost", "127.0.0.1"], now()).unwrap(), &key)
}

fn agent(mesh: &Mesh) -> Identity {
    let key = PrivateKey::generate().unwrap();
    holder(mesh.top.issue_agent(&request(&agent_id("south"), &key), now()).unwrap(), &key)
}

/// A client with this certificate dials the controller.
async fn dials_controller(mesh: &Mesh, shown: Option<Forged>) -> Outcome {
    let server = control_server_config(&controller(mesh), pinned(mesh), accept([RoleKind::Agent]), &[]).unwrap();
    let mut client = control_client_config(None, pinned(mesh), accept([RoleKind::Controller]), &[]).unwrap();
    if let Some(shown) = shown {
        client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown.certified()));
    }
    shake(client, ANY, server).await
}

/// An agent dials what shows this certificate.
async fn controller_shows(mesh: &Mesh, shown: &Forged) -> Outcome {
    let mut server = control_server_config(&controller(mesh), pinned(mesh), accept([RoleKind::Agent]), &[]).unwrap();
    server.cert_resolver = Arc::new(SingleCertAndKey::from(shown.certified()));
    let client = control_client_config(Some(&agent(mesh)), pinned(mesh), accept([RoleKind::Controller]), &[]).unwrap();
    shake(client, ANY, server).await
}

fn forged(uri: &str, usage: ExtendedKeyUsagePurpose) -> rcgen::CertificateParams {
    let mut params = leaf_params();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![usage];
    params
}

#[tokio::test]
async fn an_agent_and_its_controller_know_each_other() {
    let mesh = Mesh::new();
    let server = control_server_config(&controller(&mesh), pinned(&mesh), accept([RoleKind::Agent]), &[b"h2"]).unwrap();
    let client =
        control_client_config(Some(&agent(&mesh)), pinned(&mesh), accept([RoleKind::Controller]), &[b"h2"]).unwrap();
    let (found_server, found_client) = shake(client, ANY, server).await.accepted();
    assert_eq!(found_server.role(), &Role::Controller);
    assert_eq!(found_client, Some(agent_id("south")));
}

#[tokio::test]
async fn a_certificate_is_optional_but_must_be_right() {
    let mesh = Mesh::new();
    let (_, found) = dials_controller(&mesh, None).await.accepted();
    assert_eq!(found, None);
    let gateway = Forger::new(&mesh.shop.south.export()).leaf(|_| {});
    dials_controller(&mesh, Some(gateway)).await.client_refused("a gateway's on the control port", "trust_domain");
    let top = Forger::new(&mesh.top.export());
    let member = top.sign(&forged("spiffe://mesh/cluster/south/member/gw-1", ExtendedKeyUsagePurpose::ClientAuth));
    dials_controller(&mesh, Some(member)).await.client_refused("a member at the controller", "role");
    let stranger = Forger::new(&Mesh::new().top.export());
    let agent = forged("spiffe://mesh/cluster/south/agent", ExtendedKeyUsagePurpose::ClientAuth);
    dials_controller(&mesh, Some(stranger.sign(&agent))).await.client_refused("another mesh's agent", "bad_signature");
}

#[tokio::test]
async fn nobody_but_the_controller_is_the_controller() {
    let mesh = Mesh::new();
    let top = Forger::new(&mesh.top.export());
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let agent = top.sign(&forged("spiffe://mesh/cluster/south/agent", server.clone()));
    controller_shows(&mesh, &agent).await.server_refused("an agent as controller", "role");
    let client_only = top.sign(&forged("spiffe://mesh/controller", ExtendedKeyUsagePurpose::ClientAuth));
    controller_shows(&mesh, &client_only).await.server_refused("a client's certificate", "key_usage");
    let other = top.sign(&forged("spiffe://other/controller", server.clone()));
    controller_shows(&mesh, &other).await.server_refused("another mesh's controller", "trust_domain");
    let right = top.sign(&forged("spiffe://mesh/controller", server));
    controller_shows(&mesh, &right).await.accepted();
    let key = PrivateKey::generate().unwrap();
    let chain = mesh.top.issue_public(["localhost"], &key, now()).unwrap();
    let public = Forged { chain, key: key.to_pem().as_str().into() };
    controller_shows(&mesh, &public).await.server_refused("a public certificate", "uri_names");
}

/// The top-level CA is pinned and cross-signs GNS CAs, so a path leads from it to every agent's issuing CA.
#[tokio::test]
async fn an_issuing_ca_cannot_make_a_controller_by_way_of_the_cross_signature() {
    let mesh = Mesh::new();
    let cross = mesh.top.cross_sign(&mesh.shop.ca).unwrap();
    let issuing = Forger::new(&mesh.shop.south.export());
    let params = forged("spiffe://mesh/controller", ExtendedKeyUsagePurpose::ServerAuth);
    let posing = issuing.sign(&params).and([issuing.certificate(), cross.clone()]);
    // webpki itself asks the usage of the cross-signed CA too, which has none; our own check does not rest on that.
    controller_shows(&mesh, &posing).await.server_refused("by the cross-signature", "key_usage");
    let top = Forger::new(&mesh.top.export());
    let mut params_ca = leaf_params();
    params_ca.subject_alt_names.clear();
    params_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params_ca.distinguished_name.push(rcgen::DnType::CommonName, "any");
    let middle = top.sign(&params_ca);
    let posing = middle.authority().sign(&params).and(middle.chain);
    controller_shows(&mesh, &posing).await.server_refused("by any CA in between", "issuer");
}

#[tokio::test]
async fn members_enrol_with_their_agent_alone() {
    let mesh = Mesh::new();
    let ca = ControlCa::create("mesh", "south", now()).unwrap();
    let root: Arc<dyn Trust> = Arc::new(Pinned::new(mesh_domain(), bundle([ca.certificate()])));
    let key = PrivateKey::generate().unwrap();
    let chain = ca.issue_agent(&request(&agent_id("south"), &key), ["127.0.0.1"], now()).unwrap();
    let agent = holder(chain, &key);
    let server = |accept: Accept| control_server_config(&agent, Arc::clone(&root), accept, &[]).unwrap();
    let members = || accept([RoleKind::Member]).only_cluster("south");

    let pin = Facts::read(ca.certificate()).unwrap().fingerprint;
    let enrol = |pin: &str| enrolment_client_config(mesh_domain(), RoleKind::Agent, pin, &[]).unwrap();
    shake(enrol(&pin), ANY, server(members())).await.accepted();
    shake(enrol(&"0".repeat(64)), ANY, server(members())).await.server_refused("another pin", "not_pinned");
    let leaf_pin = agent.keyed().facts().fingerprint.clone();
    shake(enrol(&leaf_pin), ANY, server(members())).await.server_refused("the leaf's pin", "not_pinned");
    assert_eq!(pinned_root(agent.keyed().chain(), &pin), Some(ca.certificate()));

    let id = SpiffeId::new(mesh_domain(), Role::Member { cluster: "south".into(), name: "gw-1".into() }).unwrap();
    let member = holder(ca.issue_member(&request(&id, &key), now()).unwrap(), &key);
    let dial = |of: &str| {
        let agents = accept([RoleKind::Agent]).only_cluster(of);
        control_client_config(Some(&member), Arc::clone(&root), agents, &[]).unwrap()
    };
    let (_, found) = shake(dial("south"), ANY, server(members())).await.accepted();
    assert_eq!(found, Some(id));
    let elsewhere = shake(dial("north"), ANY, server(members())).await;
    elsewhere.server_refused("another cluster's agent", "cluster");
    let agents_only = shake(dial("south"), ANY, server(accept([RoleKind::Agent]))).await;
    agents_only.client_refused("a member where agents are meant", "role");
    // The controller has another root: a cluster's control CA counts for nothing there.
    let forger = Forger::new(&ca.export());
    let posing = forger.sign(&forged("spiffe://mesh/cluster/north/agent", ExtendedKeyUsagePurpose::ClientAuth));
    dials_controller(&mesh, Some(posing)).await.client_refused("a control CA at the controller", "unknown_issuer");
}

/// What a server shows whose root took the place of the pinned one, while that is still shown.
fn succeeded(leaf: Chain, cross: &CertificateDer<'static>, pinned: &CertificateDer<'static>) -> Chain {
    leaf.into_iter().chain([cross.clone(), pinned.clone()]).collect()
}

/// Somebody enrols who knows this pin, with a server that shows this.
async fn enrols(pin: &str, role: RoleKind, shown: SingleCertAndKey) -> Outcome {
    let any = Arc::new(Pinned::new(mesh_domain(), bundle([])));
    let mut server = control_server_config(&agent(&Mesh::new()), any, accept([RoleKind::Agent]), &[]).unwrap();
    server.cert_resolver = Arc::new(shown);
    shake(enrolment_client_config(mesh_domain(), role, pin, &[]).unwrap(), ANY, server).await
}

fn shown(chain: Chain, key: &PrivateKey) -> SingleCertAndKey {
    SingleCertAndKey::from(holder(chain, key).keyed().certified_key())
}

#[tokio::test]
async fn a_token_that_pins_the_root_before_is_good_for_as_long_as_that_is_shown() {
    let key = PrivateKey::generate().unwrap();
    let (old, new) = (TopLevelCa::create("mesh", now()).unwrap(), TopLevelCa::create("mesh", now()).unwrap());
    let controller = request(&id("spiffe://mesh/controller"), &key);
    let leaf = new.issue_controller(&controller, ["localhost"], now()).unwrap();
    let cross = old.cross_sign_successor(&new).unwrap();
    let chain = succeeded(leaf.clone(), &cross, old.certificate());
    for pin in [&old, &new].map(|ca| &ca.facts().fingerprint) {
        enrols(pin, RoleKind::Controller, shown(chain.clone(), &key)).await.accepted();
    }
    let pin = &old.facts().fingerprint;
    let dropped = enrols(pin, RoleKind::Controller, shown(leaf, &key)).await;
    dropped.server_refused("once the old root is dropped", "not_pinned");
    let stranger = TopLevelCa::create("mesh", now()).unwrap();
    let posing =
        succeeded(stranger.issue_controller(&controller, ["localhost"], now()).unwrap(), &cross, old.certificate());
    let refused = enrols(pin, RoleKind::Controller, shown(posing, &key)).await;
    refused.server_refused("the roots alone are no proof", "bad_signature");

    // Who is in the mesh already is told of new roots, and takes no path over another.
    let pinned: Arc<dyn Trust> = Arc::new(Pinned::new(mesh_domain(), bundle([old.certificate()])));
    let server = control_server_config(&holder(chain, &key), pinned.clone(), accept([RoleKind::Agent]), &[]).unwrap();
    let client = control_client_config(None, pinned, accept([RoleKind::Controller]), &[]).unwrap();
    shake(client, ANY, server).await.server_refused("by the cross-signature", "issuer");
}

#[tokio::test]
async fn only_the_successor_of_a_control_ca_stands_between_it_and_the_agent() {
    let key = PrivateKey::generate().unwrap();
    let create = || ControlCa::create("mesh", "south", now()).unwrap();
    let (old, new) = (create(), create());
    let leaf = new.issue_agent(&request(&agent_id("south"), &key), ["127.0.0.1"], now()).unwrap();
    let chain = succeeded(leaf, &old.cross_sign_successor(&new).unwrap(), old.certificate());
    let pin = &old.facts().fingerprint;
    enrols(pin, RoleKind::Agent, shown(chain, &key)).await.accepted();
    // Neither a control CA of another cluster, nor any other authority that the old one might have signed.
    for unit in ["tombolo cluster control", "tombolo global namespace"] {
        let mut params = leaf_params();
        params.subject_alt_names.clear();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let name = if unit.ends_with("control") { "north" } else { "south" };
        for (kind, text) in [
            (rcgen::DnType::OrganizationName, "mesh"),
            (rcgen::DnType::OrganizationalUnitName, unit),
            (rcgen::DnType::CommonName, name),
        ] {
            params.distinguished_name.push(kind, text);
        }
        let middle = Forger::new(&old.export()).sign(&params);
        let agent = forged("spiffe://mesh/cluster/south/agent", ExtendedKeyUsagePurpose::ServerAuth);
        let posing = middle.authority().sign(&agent).and(middle.chain).and([old.certificate().clone()]);
        let refused = enrols(pin, RoleKind::Agent, SingleCertAndKey::from(posing.certified())).await;
        refused.server_refused(unit, "issuer");
    }
}

#[test]
fn an_authority_signs_only_what_is_its_own() {
    let mesh = Mesh::new();
    let key = PrivateKey::generate().unwrap();
    let of = |text: &str| request(&id(text), &key);
    let lives = identity::ca::Lifetimes::default();
    let gateway = |text: &str| mesh.shop.south.issue_gateway(&of(text), ["t-shop-south"], &lives, now());
    assert!(gateway("spiffe://shop.mesh/cluster/south/gateway/a").is_ok());
    assert!(gateway("spiffe://shop.mesh/cluster/north/gateway/a").is_err());
    assert!(gateway("spiffe://bank.mesh/cluster/south/gateway/a").is_err());
    assert!(gateway("spiffe://shop.mesh/cluster/south/ns/a/svc/b").is_err());
    assert!(mesh.top.issue_agent(&of("spiffe://other/cluster/south/agent"), now()).is_err());
    assert!(mesh.top.issue_agent(&of("spiffe://mesh/controller"), now()).is_err());
    assert!(mesh.top.issue_controller(&of("spiffe://mesh/controller"), [], now()).is_err());
    assert!(mesh.top.issue_public(["not a host"], &key, now()).is_err());
    assert!(identity::ca::GnsCa::import(&mesh.top.export()).is_err());
    assert!(identity::ca::IssuingCa::import(&mesh.shop.ca.export()).is_err());
    assert!(identity::ca::TopLevelCa::import(&mesh.top.export()).is_ok());
    assert!(identity::peer_identity(&[]) == Err(Refusal::NoCertificate));
}
