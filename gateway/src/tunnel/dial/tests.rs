#![allow(clippy::unwrap_used, clippy::panic)]

use h2::server::{self, SendResponse};
use http::Response;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tunnel::pool::{PeerKey, PeerPlace};
use crate::tunnel::report::{BEAT, whole};

const SECOND: Duration = Duration::from_secs(1);

fn peer() -> Arc<Peer> {
    peer_that_tells(Arc::default())
}

/// A peer that tells when its word may count, or no longer does.
fn peer_that_tells(moved: Arc<Notify>) -> Arc<Peer> {
    let [global_namespace, cluster, gateway] = ["shop", "south", "gw"].map(|name| name.parse().unwrap());
    let place =
        PeerPlace { address: "127.0.0.1:7445".parse().unwrap(), label: "x.internal".parse().unwrap(), or_else: None };
    Arc::new(Peer::new(
        PeerKey { global_namespace, from: None, cluster, gateway },
        Means { place, tls: None },
        moved,
        Arc::default(),
    ))
}

/// The far end, with windows so wide that it may send whatever it likes.
async fn far_end(io: DuplexStream) -> server::Connection<DuplexStream, Bytes> {
    server::handshake(io).await.unwrap()
}

fn answer(mut respond: SendResponse<Bytes>, body: Bytes) -> h2::SendStream<Bytes> {
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    send.send_data(body, false).unwrap();
    send
}

async fn opened(peer: &Arc<Peer>, io: DuplexStream) -> Opened {
    let (raised, first) = raise_over(io, None).await.map_err(|error| error.to_string()).unwrap();
    peer.add(raised.tunnel.clone(), first);
    Opened { peer: peer.clone(), raised, moving: watch::Sender::new(false), last_calls: LAST_CALLS }
}

#[tokio::test]
async fn a_peer_that_never_reports_is_given_up_and_hung_up_on() {
    let (near, far) = duplex(1 << 20);
    let far = tokio::spawn(async move {
        let mut far = far_end(far).await;
        let mut taken = Vec::new();
        while let Some(Ok(stream)) = far.accept().await {
            taken.push(stream);
        }
        taken.len()
    });
    assert!(matches!(raise_over(near, None).await, Err(TunnelError::Opening)));
    assert_eq!(timeout(SECOND, far).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn pings_keep_a_tunnel_whose_reports_stall_and_silence_ends_it() {
    let ((near, far), peer) = (duplex(1 << 20), peer());
    let far = tokio::spawn(async move {
        let mut far = far_end(far).await;
        let (_, respond) = far.accept().await.unwrap().unwrap();
        let _report = answer(respond, whole(&Report::default()));
        drop(timeout(SILENCE * 2, far.accept()).await);
        // From here on it is as good as stopped: its socket is open, and nobody reads.
        sleep(SILENCE * 4).await;
    });
    let mut tunnel = opened(&peer, near).await;
    let began = Instant::now();
    let end = tunnel.follow(&|| {}).await;
    assert!(matches!(end, TunnelError::Silence), "{end}");
    assert!((SILENCE * 3 - BEAT..SILENCE * 4).contains(&began.elapsed()), "{:?}", began.elapsed());
    drop(tunnel);
    assert!(peer.tunnel().is_none());
    far.abort();
}

#[tokio::test]
async fn slow_readers_do_not_stall_a_tunnel() {
    const READERS: usize = 64;
    let ((near, far), peer) = (duplex(1 << 16), peer());
    let far = tokio::spawn(async move {
        let mut far = far_end(far).await;
        let mut kept = Vec::new();
        let (_, respond) = far.accept().await.unwrap().unwrap();
        let mut report = answer(respond, whole(&Report::default()));
        while let Some(Ok((_, respond))) = far.accept().await {
            kept.push(answer(respond, vec![0; 1 << 20].into()));
            if kept.len() == READERS {
                report.send_data(whole(&Report { draining: true, ..Report::default() }), false).unwrap();
            }
        }
    });
    let mut tunnel = opened(&peer, near).await;
    let mut sender = peer.tunnel().unwrap().sender().ready().await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..READERS {
        let (answer, _) = sender.send_request(Request::new(()), true).unwrap();
        unread.push(answer.await.unwrap());
    }
    assert!(timeout(SILENCE * 2, tunnel.follow(&|| {})).await.is_err());
    assert!(!peer.is_live(), "its last report came through");
    far.abort();
}

/// A far end that answers whatever it is asked with a report, and keeps its answers open.
async fn answer_all(io: DuplexStream) {
    let mut far = far_end(io).await;
    let mut kept = Vec::new();
    while let Some(Ok((_, respond))) = far.accept().await {
        kept.push(answer(respond, whole(&Report::default())));
    }
}

#[tokio::test]
async fn whoever_weighs_what_peers_say_is_told_once_one_is_connected_and_once_it_is_gone() {
    let (moved, (near, far)) = (Arc::new(Notify::new()), duplex(1 << 20));
    let (peer, told) = (peer_that_tells(moved.clone()), || timeout(SECOND, moved.notified()));
    let far = tokio::spawn(answer_all(far));
    // Its first report says nothing that was not known: it counts all the same, as of one who is there.
    let tunnel = opened(&peer, near).await;
    told().await.unwrap();
    assert!(peer.is_connected());
    drop(tunnel);
    told().await.unwrap();
    assert!(!peer.is_connected());
    far.abort();
}

#[tokio::test]
async fn calls_on_a_tunnel_outlive_its_retirement() {
    let ((near, far), peer) = (duplex(1 << 20), peer());
    let far = tokio::spawn(answer_all(far));
    let tunnel = opened(&peer, near).await;
    let call = peer.tunnel().unwrap();
    drop(tunnel);
    assert!(peer.tunnel().is_none());
    assert!(call.sender().ready().await.unwrap().send_request(Request::new(()), true).unwrap().0.await.is_ok());
    assert!(!far.is_finished());
    drop(call);
    timeout(SECOND, far).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_outlives_the_renewal_of_its_tunnel_by_far_but_not_a_peer_that_makes_way() {
    for moving in [false, true] {
        let ((near, far), peer) = (duplex(1 << 20), peer());
        let far = tokio::spawn(answer_all(far));
        let tunnel = opened(&peer, near).await;
        let call = peer.tunnel().unwrap();
        tunnel.moving.send_replace(moving);
        tunnel.make_way();
        assert!(peer.tunnel().is_none());
        assert_eq!(timeout(2 * LAST_CALLS, call.closed()).await.is_ok(), moving);
        assert!(timeout(LONGEST_CALLS, call.closed()).await.is_ok(), "no call lasts for ever");
        far.await.unwrap();
    }
}

/// A gateway of south that answers TLS by this name, and its certificate.
async fn gateway(name: &str) -> (Address, CertificateDer<'static>) {
    let mut params = rcgen::CertificateParams::new(["x.internal".to_owned()]).unwrap();
    let id = format!("spiffe://shop.mesh/cluster/south/gateway/{name}");
    params.subject_alt_names.push(rcgen::SanType::URI(id.as_str().try_into().unwrap()));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            open.push(acceptor.accept(tcp).await);
        }
    });
    (address, certificate)
}

fn believing(roots: &[&CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    roots.iter().for_each(|root| store.add((*root).clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(store).with_no_client_auth())
}

#[tokio::test]
async fn who_answers_is_known_by_name_and_the_right_one_is_taken_where_it_can_be_found() {
    let ((at_a, a), (at_b, b)) = (gateway("gw-a").await, gateway("gw-b").await);
    let tls = Some(believing(&[&a, &b]));
    let nowhere: Address = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap().to_string().parse().unwrap()
    };
    let answered = async |address: &Address, or_else: Option<&Address>| {
        let label = "x.internal".parse().unwrap();
        let place = PeerPlace { address: address.clone(), label, or_else: or_else.cloned() };
        let secured = secure(&Means { place, tls: tls.clone() }, &"gw-a".parse().unwrap()).await;
        secured.map(|secured| secured.gateway.unwrap().to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(answered(&at_a, None).await.as_deref(), Ok("gw-a"));
    assert_eq!(answered(&at_b, None).await.as_deref(), Ok("gw-b"), "its cluster vouches for it as well");
    assert_eq!(answered(&at_b, Some(&at_a)).await.as_deref(), Ok("gw-a"));
    assert_eq!(answered(&at_a, Some(&at_b)).await.as_deref(), Ok("gw-a"));
    assert_eq!(answered(&at_b, Some(&nowhere)).await.as_deref(), Ok("gw-b"));
    assert_eq!(answered(&nowhere, Some(&at_a)).await.as_deref(), Ok("gw-a"));
    assert!(answered(&nowhere, None).await.is_err());
}
