#![allow(clippy::unwrap_used)]

use config::resource::Address;
use http::{Request, Response};
use identity::Refusal;
use prometheus::Registry;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tunnel::report::{Report, whole};

const LABEL: &str = "x.internal";

/// What both ends of a tunnel need.
fn tls() -> (Arc<ServerConfig>, ClientConfig) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([LABEL.to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into());
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server.unwrap()), client)
}

/// A peer that answers every request with a report which doesn't end.
async fn serve(listener: TcpListener, tls: Arc<ServerConfig>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let tls = TlsAcceptor::from(tls.clone());
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(tls.accept(tcp).await.unwrap()).await.unwrap();
            let mut open = Vec::new();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(whole(&Report::default()), false).unwrap();
                open.push(body);
            }
        });
    }
}

/// Waits until the peer's tunnel is another than this one; in between there is always one.
async fn successor(peer: &Peer, before: &Arc<crate::tunnel::pool::Tunnel>) {
    while Arc::ptr_eq(&peer.tunnel().unwrap(), before) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Believes in no root that is above anything.
#[derive(Debug)]
struct Rootless;

impl ServerCertVerifier for Rootless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(Refusal::NoRoots("shop.mesh".parse().unwrap()).into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("the certificate was refused")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("the certificate was refused")
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A peer that listens there, in `shop`; and what keeps a tunnel to it.
fn keeper(means: Means) -> (Arc<Peer>, Keeper) {
    let [global_namespace, cluster, gateway] = ["shop", "south", "gw"].map(|name| name.parse().unwrap());
    let key = PeerKey { global_namespace, from: None, cluster, gateway };
    let peer = Arc::new(Peer::new(key, means, Arc::default(), Arc::default()));
    let keeper = Keeper {
        means: peer.means(),
        peer: peer.clone(),
        changed: Arc::new(|| {}),
        metrics: Arc::new(Metrics::new(&Registry::new()).unwrap()),
        wait: FIRST_WAIT,
    };
    (peer, keeper)
}

async fn until(peer: &Peer, there: bool) {
    while peer.tunnel().is_some() != there {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_tunnel_to_whoever_shows_what_is_below_no_root_any_more_is_given_up() {
    let (server, client) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let means = |tls: &ClientConfig| Means {
        place: PeerPlace { address: address.clone(), label: LABEL.parse().unwrap(), or_else: None },
        tls: Some(Arc::new(tls.clone())),
    };
    tokio::spawn(serve(listener, server));
    let (peer, keeper) = keeper(means(&client));
    let _keeping = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(keeper.keep()));
    until(&peer, true).await;
    let mut rootless = client.clone();
    rootless.dangerous().set_certificate_verifier(Arc::new(Rootless));
    peer.set_means(means(&rootless));
    until(&peer, false).await;
    peer.set_means(means(&client));
    until(&peer, true).await;
}

#[tokio::test]
async fn a_new_identity_or_address_gets_a_new_tunnel_before_the_old_one_goes() {
    let (server, client) = tls();
    let [one, two] = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let means = |listener: &TcpListener, tls: Option<ClientConfig>| Means {
        place: PeerPlace {
            address: listener.local_addr().unwrap().to_string().parse().unwrap(),
            label: LABEL.parse().unwrap(),
            or_else: None,
        },
        tls: tls.map(Arc::new),
    };
    let (peer, keeper) = keeper(means(&one, None));
    let (here, moved) = (means(&one, Some(client.clone())), means(&two, Some(client.clone())));
    let renewed = means(&one, Some(client));
    tokio::spawn(serve(one, server.clone()));
    tokio::spawn(serve(two, server));
    let keeping = tokio::spawn(keeper.keep());
    tokio::task::yield_now().await;
    assert!(peer.tunnel().is_none(), "it has no identity yet");
    peer.set_means(here);
    until(&peer, true).await;
    for next in [renewed, moved] {
        let before = peer.tunnel().unwrap();
        peer.set_means(next);
        successor(&peer, &before).await;
        let mut sender = before.sender().ready().await.unwrap();
        assert!(sender.send_request(Request::new(()), true).unwrap().0.await.is_ok(), "calls on the old one go on");
    }
    keeping.abort();
    assert!(keeping.await.unwrap_err().is_cancelled());
    assert!(peer.tunnel().is_none());
}
