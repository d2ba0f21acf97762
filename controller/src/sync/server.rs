//! The source's end of the stream.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use config::resource::SecretRef;
use config::wire::frame::Frame;
use config::wire::{
    Ack, Down, Hello, Holdings, MemberRole, Observed, PROTOCOL, Secret, Up, Update, feature, understands,
};
use tokio::sync::watch;
use tokio::time::timeout;

use super::patches::Patches;
use super::pipe::{Ending, Inlet, Outlet};
use super::relay::{Awaited, Questions};
use super::resume::{Base, holdings, names_digest};
use super::steps::{Joiner, Part, Parts, Step};
use super::{BEAT, Feed, Published, Refusal, Session, Source};
use crate::http::message::Errors;
use crate::http::{ClientCertificate, Peer};

/// The longest that the reports on an agent's members may be together, in bytes: of 1,000 members 16 KiB each.
const MAX_SAID: usize = 16 << 20;

/// `POST` [`PATH`](super::PATH): everyone whom `source` lets in follows its world.
pub fn handler<S: Clone + Send + Sync + 'static>(source: Arc<dyn Source>) -> MethodRouter<S> {
    let patches = Arc::<Patches>::default();
    post(move |Extension(Peer(peer)): Extension<Peer>, body: Body| {
        let (source, patches) = (source.clone(), patches.clone());
        async move {
            let Some(peer) = peer else { return anonymous() };
            let (outlet, answer) = Outlet::new();
            // Ends with the connection: its inlet then ends, or its outlet is closed.
            tokio::spawn(converse((source, patches), peer, Inlet::new(body), outlet));
            Response::new(Body::new(answer))
        }
    })
}

fn anonymous() -> Response {
    let errors = Errors::one("a client certificate of this mesh is needed to follow its world: enrol first");
    (StatusCode::UNAUTHORIZED, Json(errors)).into_response()
}

async fn converse(
    (source, patches): (Arc<dyn Source>, Arc<Patches>),
    peer: ClientCertificate,
    mut inlet: Inlet<Body>,
    outlet: Outlet,
) {
    let Err(ending) = attend((&*source, &patches), &peer, &mut inlet, &outlet).await;
    match &ending {
        Ending::Left | Ending::Closed | Ending::Broken(_) => {
            tracing::debug!(peer = %peer.id, %ending, "a stream ended")
        }
        _ => tracing::warn!(peer = %peer.id, %ending, "a stream was ended"),
    }
    let _ = outlet.message(&Down::Goodbye { reason: ending.to_string() }).await; // the peer may be gone
}

async fn attend(
    (source, patches): (&dyn Source, &Patches),
    peer: &ClientCertificate,
    inlet: &mut Inlet<Body>,
    outlet: &Outlet,
) -> Result<Infallible, Ending> {
    let hello = hello(inlet).await?;
    let Feed { world, mut session, questions, end } = source.open(peer, &hello)?;
    tokio::select! {
        ended = serve((&hello, patches), source.mesh(), (inlet, outlet), &mut *session, (world, questions)) => ended,
        () = end.cancelled() => Err(Refusal("the source stops, or a successor of this follower came, or it has left".into()).into()),
    }
}

/// From the welcome to the end.
async fn serve(
    (hello, patches): (&Hello, &Patches),
    mesh: String,
    (inlet, outlet): (&mut Inlet<Body>, &Outlet),
    session: &mut dyn Session,
    (world, mut questions): (watch::Receiver<Arc<Published>>, Questions),
) -> Result<Infallible, Ending> {
    outlet.message(&Down::Welcome { mesh, features: feature::all() }).await?;
    let (mut joiner, mut held) = (Joiner::default(), None);
    if feature::has(&hello.features, feature::RESUME) {
        let seen = holdings(&session.seen(), &BTreeMap::new());
        if !seen.folders.is_empty() {
            joiner = Joiner::resuming();
        }
        outlet.message(&Down::Holdings(seen)).await?;
        held = Some(said_holdings(inlet).await?);
    }
    let awaited = questions.awaited();
    let patches = feature::has(&hello.features, feature::PATCHES).then_some(patches);
    tokio::select! {
        ended = listen(inlet, joiner, session, &awaited) => ended,
        ended = questions.carry(outlet) => ended,
        ended = tell((outlet, patches), world, held, needs_secrets(hello)) => ended,
    }
}

async fn said_holdings(inlet: &mut Inlet<Body>) -> Result<Holdings, Ending> {
    loop {
        match inlet.next().await? {
            Frame::Message(Up::Holdings(held)) => return Ok(held),
            Frame::Message(Up::Beat | Up::Unknown) | Frame::Unknown => {}
            Frame::Message(Up::Leaving) => return Err(Ending::Left),
            _ => return Err(Ending::OutOfTurn("what it holds must come next")),
        }
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
    if !understands(hello.protocol) {
        return Err(Ending::Refused(Refusal(format!(
            "{} {} speaks version {} of the protocol, and this is Tombolo {} with version {PROTOCOL}: \
             run releases on both sides of which one follows upon the other",
            hello.name,
            hello.version,
            hello.protocol,
            env!("CARGO_PKG_VERSION"),
        ))));
    }
    Ok(hello)
}

async fn listen(
    inlet: &mut Inlet<Body>,
    mut joiner: Joiner,
    session: &mut dyn Session,
    awaited: &Awaited,
) -> Result<Infallible, Ending> {
    let mut said = Said::default();
    loop {
        let frame = inlet.next().await?;
        session.heard();
        match frame {
            Frame::Message(Up::Beat | Up::Unknown) | Frame::Unknown => {}
            Frame::Message(Up::Answer(answer)) => awaited.answered(answer),
            Frame::Message(Up::Leaving) => {
                session.leaving();
                return Err(Ending::Left);
            }
            Frame::Message(Up::Ack(ack)) => session.acknowledged(said.take(ack)?),
            Frame::Message(Up::Observed(Observed { at, reset, replaces, last, entries })) => {
                if let Some(step) = joiner.take(Part { reset, replaces, last, entries })? {
                    let Step { reset, replaces, entries } = step;
                    session.observed(Observed { at, reset, replaces, last: true, entries })?;
                }
            }
            Frame::Message(Up::Hello(_) | Up::Holdings(_)) => {
                return Err(Ending::OutOfTurn("who one is and what one holds is said only once"));
            }
            Frame::Secret(_) => return Err(Ending::OutOfTurn("secrets only ever travel towards the data plane")),
        }
    }
}

/// What a follower acknowledged last, and how much of it has come in parts since it was weighed.
#[derive(Default)]
struct Said {
    whole: Option<Arc<Ack>>,
    came: usize,
}

impl Said {
    /// An acknowledgement with what it leaves out. What comes whole fits a frame; parts must not add up to more than
    /// [`MAX_SAID`].
    fn take(&mut self, ack: Ack) -> Result<Arc<Ack>, Ending> {
        let came = if ack.partial { weight(&ack) } else { 0 };
        let whole = match &self.whole {
            Some(before) => ack.complete(before),
            None if ack.partial => {
                return Err(Ending::OutOfTurn("the first acknowledgement of a stream must be whole"));
            }
            None => ack,
        };
        self.came += came;
        if self.came > MAX_SAID {
            self.came = weight(&whole);
        }
        if self.came > MAX_SAID {
            return Err(Ending::Refused(Refusal("it reports more of its members than is taken in".into())));
        }
        Ok(Arc::clone(self.whole.insert(Arc::new(whole))))
    }
}

/// How long the reports on members are, in bytes.
fn weight(ack: &Ack) -> usize {
    serde_json::to_vec(&ack.members).map_or(usize::MAX, |json| json.len())
}

/// Sends the whole world, or what differs from what the follower holds, and then for ever what differs from that in the
/// newest one.
async fn tell(
    (outlet, patches): (&Outlet, Option<&Patches>),
    mut world: watch::Receiver<Arc<Published>>,
    held: Option<Holdings>,
    secrets: bool,
) -> Result<Infallible, Ending> {
    let gone = || Ending::Refused(Refusal("the source of the world is shutting down".into()));
    let mut newest = world.borrow_and_update().clone();
    let (mut base, mut known) = match held {
        Some(held) => (Base::held(&held, &newest.entries), known_secrets(&held, &newest)),
        None => (Base::nothing(), Arc::default()),
    };
    loop {
        if secrets {
            tell_secrets(outlet, &known, &newest.secrets).await?;
        }
        step(outlet, patches, base, &newest).await?;
        (base, known) = (Base::sent(&newest.entries), newest.secrets.clone());
        while !changed(&mut world).await.ok_or_else(gone)? {
            outlet.message(&Down::Beat).await?;
        }
        newest = world.borrow_and_update().clone();
    }
}

type Secrets = BTreeMap<SecretRef, Secret>;

/// All, if the follower holds just these; else none.
fn known_secrets(held: &Holdings, newest: &Published) -> Arc<Secrets> {
    match held.secrets == names_digest(&newest.secrets) {
        true => newest.secrets.clone(),
        false => Arc::default(),
    }
}

/// They go first, so that no certificate arrives without its key.
async fn tell_secrets(outlet: &Outlet, known: &Secrets, newest: &Secrets) -> Result<(), Ending> {
    for (_, secret) in newest.iter().filter(|(reference, _)| !known.contains_key(reference)) {
        outlet.secret(secret).await?;
    }
    Ok(())
}

/// Whether the value changed within a beat's time; `None` once it never will.
async fn changed<T>(value: &mut watch::Receiver<T>) -> Option<bool> {
    match timeout(BEAT, value.changed()).await {
        Ok(changed) => changed.ok().map(|()| true),
        Err(_) => Some(false),
    }
}

async fn step(outlet: &Outlet, patches: Option<&Patches>, mut base: Base, newest: &Published) -> Result<(), Ending> {
    if let Some(patches) = patches {
        let (entries, rest) = patches.of(base, &newest.entries);
        if !entries.is_empty() {
            outlet.message(&Down::Patch { entries }).await?;
        }
        base = rest;
    }
    for Part { reset, replaces, last, entries } in Parts::of(&base, &newest.entries) {
        let update = Update { revision: newest.revision, reset, replaces, last, entries };
        outlet.message(&Down::Update(update)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_in_parts_add_up_to_no_more_than_is_taken_in() {
        let report = |member: usize| {
            let reason = "x".repeat(1 << 20);
            let at = json!({"global": 1, "agent": {"incarnation": 1, "sequence": 1}});
            let member = json!({"name": format!("m{member}"), "role": "gateway", "connected": true, "silentForMs": 0,
                "at": at, "rejected": [{"key": "x", "reason": reason}]});
            serde_json::from_value::<Ack>(json!({"at": at, "members": [member], "partial": true})).unwrap()
        };
        let mut said = Said::default();
        assert!(matches!(said.take(report(0)), Err(Ending::OutOfTurn(_))), "it begins with a whole one");
        said.take(Ack::default()).unwrap();
        // The same member again and again takes no more room than once.
        assert!((0..40).all(|_| said.take(report(0)).is_ok()));
        let taken = (0..40).take_while(|member| said.take(report(*member)).is_ok()).count();
        assert!((8..=16).contains(&taken), "{taken}");
    }
}
