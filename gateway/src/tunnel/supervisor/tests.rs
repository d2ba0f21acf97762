#![allow(clippy::unwrap_used)]

use http::{Request, Response};
use prometheus::Registry;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring::default_provider};
use rustls_pki_types::PrivatePkcs8KeyDer;
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
    let [global_namespace, cluster, gateway] = ["shop", "south", "gw"].map(|name| name.parse().unwrap());
    let peer = Arc::new(Peer::new(
        PeerKey { global_namespace, from: None, cluster, gateway },
        means(&one, None),
        Arc::default(),
    ));
    let (here, moved) = (means(&one, Some(client.clone())), means(&two, Some(client.clone())));
    let renewed = means(&one, Some(client));
    tokio::spawn(serve(one, server.clone()));
    tokio::spawn(serve(two, server));
    let keeper = Keeper {
        means: peer.means(),
        peer: peer.clone(),
        changed: Arc::new(|| {}),
        metrics: Arc::new(Metrics::new(&Registry::new()).unwrap()),
        wait: FIRST_WAIT,
    };
    let keeping = tokio::spawn(keeper.keep());
    tokio::task::yield_now().await;
    assert!(peer.tunnel().is_none(), "it has no identity yet");
    peer.set_means(here);
    while peer.tunnel().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
