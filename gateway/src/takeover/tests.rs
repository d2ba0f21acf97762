#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use config::live;
use config::snapshot::{Place as Location, Snapshot};
use prometheus::Registry;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Listener};
use super::claim::take;
use super::offer::give;
use super::*;
use crate::listener::sockets::Sockets;
use crate::runtime::Handle;
use crate::settings::{AccessLog, Settings};
use crate::workers::Layout;
use crate::{Gateway, Inputs, connections, limits, overload};

const LATE: Duration = Duration::from_secs(20);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A gateway that listens nowhere and knows nothing, and so is ready for whatever is asked of it.
fn gateway(sockets: Sockets) -> Handle {
    let settings = Settings {
        name: name("gw"),
        http: None,
        https: None,
        east_west: None,
        mesh: None,
        proxy_protocol_from: Vec::new(),
        access_log: AccessLog::Off,
        limits: limits::Limits::default(),
        trusted_hops: Vec::new(),
        drain_wait: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        max_age: None,
        connections: connections::Limits::default(),
        overload: overload::Limits { requests: None, lag: None },
        workers: Layout::Caller,
    };
    let (_, snapshot) = live::channel(Arc::new(Snapshot::empty(Location { cluster: name("north") })));
    let ((_, secrets), (_, identities)) = (live::channel(Arc::default()), live::channel(Arc::default()));
    let inputs = Inputs { snapshot, secrets, identities };
    Gateway::build(settings, inputs, sockets, &Registry::new()).unwrap().handle()
}

/// The state directory that two gateways share.
struct State(TempDir);

impl State {
    fn new() -> State {
        State(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("takeover.sock")
    }

    /// Where the successor would be found.
    fn place(&self) -> (Listener, Place) {
        Listener::beside(&self.path()).unwrap()
    }

    /// One that has come into the running gateway's place.
    fn another(&self) -> Listener {
        let path = self.path().with_file_name("other.sock");
        let (listener, place) = Listener::beside(&path).unwrap();
        place.take().unwrap();
        std::fs::rename(path, self.path()).unwrap();
        listener
    }

    /// A running gateway that says what a test wants, and a successor that has its terms.
    async fn begun(&self) -> (Channel, Claim, Handle) {
        let (listener, place) = self.place();
        place.take().unwrap();
        let running = async {
            let channel = listener.accept().await.unwrap();
            assert!(matches!(said(&channel).await, Some(Message::Hello { .. })));
            give(&channel, &Terms { revision: RevisionPair::default(), peers: Vec::new() }, &[] as &[TcpListener])
                .await
                .unwrap();
            channel
        };
        let (path, gw) = (self.path(), name("gw"));
        let (channel, claimed) = tokio::join!(running, claim(&path, &gw));
        let (claim, sockets) = claimed.unwrap().unwrap();
        (channel, claim, gateway(sockets))
    }
}

async fn said(channel: &Channel) -> Option<Message> {
    channel.receive().await.unwrap().map(|(message, _)| message)
}

fn refusal(reason: &str) -> Message {
    Message::Refused { reason: reason.to_owned() }
}

#[tokio::test]
async fn a_successor_serves_and_is_found_in_the_place_of_the_running_gateway() {
    let state = State::new();
    let (offer, place) = Offer::open(&state.path(), name("gw"), Box::new(|_| {})).unwrap();
    place.take().unwrap();
    let succeeded = CancellationToken::new();
    let offered = tokio::spawn(offer.serve(gateway(Sockets::default()), succeeded.clone()));
    let (claim, sockets) = claim(&state.path(), &name("gw")).await.unwrap().unwrap();
    let (successor, place) = state.place();
    claim.complete(&gateway(sockets), Some(place)).await.unwrap();
    tokio::time::timeout(LATE, succeeded.cancelled()).await.unwrap();
    offered.await.unwrap();
    let _dialled = Channel::dial(&state.path()).unwrap().unwrap();
    successor.accept().await.unwrap();
}

#[tokio::test]
async fn whoever_comes_with_nonsense_is_told_that_the_running_gateway_goes_on() {
    let state = State::new();
    let (offer, place) = Offer::open(&state.path(), name("gw"), Box::new(|_| {})).unwrap();
    place.take().unwrap();
    let offered = tokio::spawn(offer.serve(gateway(Sockets::default()), CancellationToken::new()));
    for nonsense in 0..2 {
        let channel = Channel::dial(&state.path()).unwrap().unwrap();
        if nonsense == 1 {
            channel.send(&Message::Hello { protocol: PROTOCOL, name: name("gw") }, &[]).await.unwrap();
            take(&channel).await.unwrap();
        }
        channel.send(&nonsense, &[]).await.unwrap();
        let Some(Message::Refused { reason }) = said(&channel).await else { panic!("it is not told") };
        assert!(reason.contains("invalid"), "{reason}");
        assert!(said(&channel).await.is_none());
    }
    offered.abort();
}

#[tokio::test]
async fn terms_may_have_more_peers_than_fit_into_a_packet_and_more_sockets() {
    let state = State::new();
    let (listener, place) = state.place();
    place.take().unwrap();
    let dialled = Channel::dial(&state.path()).unwrap().unwrap();
    let accepted = listener.accept().await.unwrap();
    let long = |number: usize| name(&format!("{number:063}"));
    let peers = (0..2000).map(|number| (long(number), long(number), long(number))).collect();
    let terms = Terms { revision: RevisionPair::default(), peers };
    let sockets: Vec<_> = (0..100).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let (given, taken) = tokio::join!(give(&accepted, &terms, &sockets), take(&dialled));
    given.unwrap();
    let (taken, descriptors) = taken.unwrap();
    assert!(taken == terms);
    assert_eq!(descriptors.len(), sockets.len());
}

#[tokio::test]
async fn a_successor_serves_when_the_running_gateway_dies_before_it_is_ready() {
    let state = State::new();
    let (running, claim, handle) = state.begun().await;
    drop(running);
    assert!(claim.yours().await.unwrap(), "it is alone");
    let (_successor, place) = state.place();
    claim.complete(&handle, Some(place)).await.unwrap();
    assert!(Channel::dial(&state.path()).unwrap().is_some());
}

#[tokio::test]
async fn a_successor_hears_the_refusal_of_who_has_closed_the_channel() {
    for reads in [false, true] {
        let state = State::new();
        let (running, claim, _) = state.begun().await;
        let (heard, _) = tokio::join!(claim.yours(), async {
            if reads {
                assert!(matches!(said(&running).await, Some(Message::Ready)));
            }
            running.send(&refusal("it took too long"), &[]).await.unwrap();
            drop(running);
        });
        assert!(matches!(heard, Err(TakeoverError::Refused(reason)) if reason == "it took too long"), "{reads}");
    }
}

#[tokio::test]
async fn a_successor_serves_when_the_running_gateway_dies_after_it_made_way_unless_another_has_come() {
    for another in [false, true] {
        let state = State::new();
        let (running, claim, handle) = state.begun().await;
        let (_successor, place) = state.place();
        let dies = async {
            assert!(matches!(said(&running).await, Some(Message::Ready)));
            let come = another.then(|| state.another());
            running.send(&Message::Yours, &[]).await.unwrap();
            drop(running);
            come
        };
        let (ended, _come) = tokio::join!(claim.complete(&handle, Some(place)), dies);
        assert_eq!(ended.is_err(), another, "{ended:?}");
        assert_eq!(matches!(ended, Err(TakeoverError::Replaced)), another);
    }
}
