//! What the configurations insist on: TLS 1.3, client certificates, no resumption.

use std::sync::Arc;

use identity::tls::{gateway_server_config, tunnel_client_config};
use identity::{Accept, RoleKind};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::handshake::{shake, tls_error};
use crate::mesh::*;

fn server(mesh: &Mesh) -> ServerConfig {
    let accept = Accept::new(domain("shop"), [RoleKind::Gateway]);
    gateway_server_config(&mesh.shop.gateway("south"), Arc::new(mesh.view()), accept, &[b"tombolo/1"]).unwrap()
}

fn client(mesh: &Mesh, alpn: &[&[u8]]) -> ClientConfig {
    let gateway = mesh.shop.gateway("north");
    tunnel_client_config(&gateway, Arc::new(mesh.view()), domain("shop"), "south", alpn).unwrap()
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let mesh = Mesh::new();
    let mut bare = client(&mesh, &[b"tombolo/1"]);
    bare.client_auth_cert_resolver = Arc::new(NoCertificate);
    let outcome = shake(bare, &label("shop", "south"), server(&mesh)).await;
    let error = outcome.server.expect_err("no client certificate");
    assert!(matches!(tls_error(&error), Some(rustls::Error::NoCertificatesPresented)), "{error}");
    assert!(outcome.client.is_ok(), "the client is done before it is refused");
    assert!(outcome.read.unwrap().is_err());
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn tls_1_2_is_refused_by_either_side() {
    let mesh = Mesh::new();
    let provider = Arc::new(default_provider());
    let old_client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let outcome = shake(old_client, &label("shop", "south"), server(&mesh)).await;
    let error = outcome.server.expect_err("TLS 1.2");
    assert!(matches!(tls_error(&error), Some(rustls::Error::PeerIncompatible(_))), "{error}");

    let keyed = mesh.shop.gateway("south").keyed().certified_key();
    let old_server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(keyed)));
    assert!(shake(client(&mesh, &[]), &label("shop", "south"), old_server).await.client.is_err());
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let mesh = Mesh::new();
    let outcome = shake(client(&mesh, &[b"h2"]), &label("shop", "south"), server(&mesh)).await;
    let error = outcome.server.expect_err("ALPN h2");
    assert!(matches!(tls_error(&error), Some(rustls::Error::NoApplicationProtocol)), "{error}");
}

/// Also when the client would like to: the server hands out no tickets, so every handshake verifies.
#[tokio::test]
async fn nothing_is_resumed() {
    let mesh = Mesh::new();
    let mut eager = client(&mesh, &[b"tombolo/1"]);
    eager.resumption = Resumption::in_memory_sessions(16);
    let (connector, acceptor) = (TlsConnector::from(Arc::new(eager)), TlsAcceptor::from(Arc::new(server(&mesh))));
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let accept = async {
            let mut stream = acceptor.accept(far).await.unwrap();
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
        };
        let dial = async {
            let name = label("shop", "south").try_into().unwrap();
            let mut stream = connector.connect(name, near).await.unwrap();
            stream.read_u8().await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        };
        tokio::join!(accept, dial);
    }
}

/// One configuration lives on while what it knows changes.
#[tokio::test]
async fn knowledge_is_asked_in_each_handshake() {
    let mesh = Mesh::new();
    let view = Arc::new(Switch(std::sync::Mutex::new(mesh.view())));
    let accept = Accept::new(domain("shop"), [RoleKind::Gateway]);
    let server = gateway_server_config(&mesh.shop.gateway("south"), view.clone(), accept, &[]).unwrap();
    let name = label("shop", "south");
    shake(client(&mesh, &[]), &name, server.clone()).await.accepted();
    view.0.lock().unwrap().members.clear();
    shake(client(&mesh, &[]), &name, server).await.client_refused("the north left meanwhile", "not_member");
}

#[derive(Debug)]
struct Switch(std::sync::Mutex<identity::TrustView>);

impl identity::Trust for Switch {
    fn roots(&self, domain: &identity::TrustDomain) -> Option<Arc<identity::TrustBundle>> {
        self.0.lock().unwrap().roots(domain)
    }
    fn is_member(&self, domain: &identity::TrustDomain, cluster: &str) -> bool {
        self.0.lock().unwrap().is_member(domain, cluster)
    }
    fn is_revoked(&self, id: &identity::SpiffeId, serial: &identity::Serial) -> bool {
        self.0.lock().unwrap().is_revoked(id, serial)
    }
}
