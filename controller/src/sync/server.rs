//! The source's end of the stream.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use config::wire::frame::Frame;
use config::wire::{Down, Hello, MemberRole, Observed, PROTOCOL, Up, Update};
use config::world;
use tokio::sync::watch;
use tokio::time::timeout;

use super::pipe::{Ending, Inlet, Outlet};
use super::relay::Awaited;
use super::steps::{Joiner, cut};
use super::{BEAT, Feed, Published, Refusal, Session, Source};
use crate::http::message::Errors;
use crate::http::{ClientCertificate, Peer};

/// `POST` [`PATH`](super::PATH): everyone whom `source` lets in follows its world.
pub fn handler<S: Clone + Send + Sync + 'static>(source: Arc<dyn Source>) -> MethodRouter<S> {
    post(move |Extension(Peer(peer)): Extension<Peer>, body: Body| {
        let source = source.clone();
        async move {
            let Some(peer) = peer else { return anonymous() };
            let (outlet, answer) = Outlet::new();
            // Ends with the connection: its inlet then ends, or its outlet is closed.
            tokio::spawn(converse(source, peer, Inlet::new(body), outlet));
            Response::new(Body::new(answer))
        }
    })
}

fn anonymous() -> Response {
    let errors = Errors::one("a client certificate of this mesh is needed to follow its world: enrol first");
    (StatusCode::UNAUTHORIZED, Json(errors)).into_response()
}

async fn converse(source: Arc<dyn Source>, peer: ClientCertificate, mut inlet: Inlet<Body>, outlet: Outlet) {
    let Err(ending) = attend(&*source, &peer, &mut inlet, &outlet).await;
    match &ending {
        Ending::Left | Ending::Closed | Ending::Broken(_) => {
            tracing::debug!(peer = %peer.id, %ending, "a stream ended")
        }
        _ => tracing::warn!(peer = %peer.id, %ending, "a stream was ended"),
    }
    let _ = outlet.message(&Down::Goodbye { reason: ending.to_string() }).await; // the peer may be gone
}

async fn attend(
    source: &dyn Source,
    peer: &ClientCertificate,
    inlet: &mut Inlet<Body>,
    outlet: &Outlet,
) -> Result<Infallible, Ending> {
    let hello = hello(inlet).await?;
    let Feed { world, mut session, mut questions, end } = source.open(peer, &hello)?;
    let awaited = questions.awaited();
    outlet.message(&Down::Welcome { mesh: source.mesh() }).await?;
    tokio::select! {
        ended = listen(inlet, &mut *session, &awaited) => ended,
        ended = questions.carry(outlet) => ended,
        ended = tell(outlet, world, needs_secrets(&hello)) => ended,
        () = end.cancelled() => Err(Refusal("the source stops, or a successor of this follower came, or it has left".into()).into()),
    }
}

/// A DNS server terminates no TLS: the keys of hosts are not its business.
fn needs_secrets(hello: &Hello) -> bool {
    hello.role != MemberRole::Dns
}

async fn hello(inlet: &mut Inlet<Body>) -> Result<Hello, Ending> {
    let Frame::Message(Up::Hello(hello)) = inlet.next().await? else {
        return Err(Ending::OutOfTurn("the first message must be Hello"));
    };
    if hello.protocol != PROTOCOL {
        return Err(Ending::Refused(Refusal(format!(
            "{} {} speaks version {} of the protocol, and this is Tombolo {} with version {PROTOCOL}: \
             run the same release on both sides",
            hello.name,
            hello.version,
            hello.protocol,
            env!("CARGO_PKG_VERSION"),
        ))));
    }
    Ok(hello)
}

async fn listen(inlet: &mut Inlet<Body>, session: &mut dyn Session, awaited: &Awaited) -> Result<Infallible, Ending> {
    let mut joiner = Joiner::default();
    loop {
        let frame = inlet.next().await?;
        session.heard();
        match frame {
            Frame::Message(Up::Beat | Up::Unknown) => {}
            Frame::Message(Up::Answer(answer)) => awaited.answered(answer),
            Frame::Message(Up::Leaving) => {
                session.leaving();
                return Err(Ending::Left);
            }
            Frame::Message(Up::Ack(ack)) => session.acknowledged(ack),
            Frame::Message(Up::Observed(Observed { at, reset, last, entries })) => {
                if let Some((reset, entries)) = joiner.take(reset, last, entries)? {
                    session.observed(Observed { at, reset, last: true, entries })?;
                }
            }
            Frame::Message(Up::Hello(_)) => return Err(Ending::OutOfTurn("Hello comes only once")),
            Frame::Secret(_) => return Err(Ending::OutOfTurn("secrets only ever travel towards the data plane")),
        }
    }
}

/// Sends the whole world, and then for ever what differs from it in the newest one.
async fn tell(
    outlet: &Outlet,
    mut world: watch::Receiver<Arc<Published>>,
    secrets: bool,
) -> Result<Infallible, Ending> {
    let gone = || Ending::Refused(Refusal("the source of the world is shutting down".into()));
    let mut sent = None;
    loop {
        let newest = world.borrow_and_update().clone();
        step(outlet, sent.as_deref(), &newest, secrets).await?;
        sent = Some(newest);
        while !changed(&mut world).await.ok_or_else(gone)? {
            outlet.message(&Down::Beat).await?;
        }
    }
}

/// Whether the value changed within a beat's time; `None` once it never will.
async fn changed<T>(value: &mut watch::Receiver<T>) -> Option<bool> {
    match timeout(BEAT, value.changed()).await {
        Ok(changed) => changed.ok().map(|()| true),
        Err(_) => Some(false),
    }
}

/// Secrets go first, so that no certificate arrives without its key.
async fn step(outlet: &Outlet, sent: Option<&Published>, newest: &Published, secrets: bool) -> Result<(), Ending> {
    let nothing = Published::default();
    let (reset, sent) = (sent.is_none(), sent.unwrap_or(&nothing));
    let unsent = newest.secrets.iter().filter(|(reference, _)| secrets && !sent.secrets.contains_key(reference));
    for (_, secret) in unsent {
        outlet.secret(secret).await?;
    }
    let parts = cut(world::diff(&sent.entries, &newest.entries));
    let count = parts.len();
    for (at, entries) in parts.into_iter().enumerate() {
        let update = Update { revision: newest.revision, reset, last: at + 1 == count, entries };
        outlet.message(&Down::Update(update)).await?;
    }
    Ok(())
}
