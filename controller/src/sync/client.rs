//! The follower's end of the stream: dials for ever, and publishes nothing but whole worlds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use config::resource::SecretRef;
use config::wire::frame::Frame;
use config::wire::{Ack, AgentSequence, Down, Entries, Entry, Hello, Holdings, Observed, Secret, Up, Update, feature};
use config::world;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::pipe::{Ending, Inlet, Outlet};
use super::relay::{Answerer, Answering, Asked};
use super::resume::{Base, holdings};
use super::steps::{Joiner, Part, Parts, Step};
use super::understood::understood;
use super::{BEAT, PATH, Published, secrets};
use crate::http::client::Client;

/// Before the first new attempt, and the longest before a later one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long a clean stop waits until the source has heard of it.
pub const FAREWELL: Duration = Duration::from_secs(1);
/// So many secrets may come in one step.
const MAX_SECRETS: usize = 10_000;
/// So many bytes may what is patched in one step have.
const MAX_PATCHED: usize = 64 << 20;

/// What an agent sees in its cluster.
#[derive(Clone, Default)]
pub struct Seen {
    /// How new it is.
    pub at: AgentSequence,
    /// All that it sees.
    pub entries: Arc<Entries>,
}

/// One who follows a source, and what it says there.
pub struct Follower {
    /// Dials the source.
    pub client: Client,
    /// Who follows.
    pub hello: Hello,
    /// What it sees, if it is an agent: sent whole, then whatever differs in the newest.
    pub seen: Option<watch::Receiver<Arc<Seen>>>,
    /// How far it is: the newest is sent whenever it changes.
    pub ack: watch::Receiver<Ack>,
    /// What answers questions, if it does: `hello` then says so.
    pub answerer: Option<Answerer>,
}

/// Follows until `shutdown`, and then says that it leaves; that takes no longer than [`FAREWELL`]. `world` gets each
/// whole step; a lost stream, and a new one until its whole world has come, change nothing in it.
pub async fn follow(mut follower: Follower, world: watch::Sender<Option<Arc<Published>>>, shutdown: CancellationToken) {
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        let mut welcome = false;
        let held = world.borrow().as_deref().cloned().unwrap_or_default();
        let publish = |published| {
            welcome = true;
            world.send_replace(Some(Arc::new(published)));
        };
        let Err(ending) = stream(&mut follower, held, publish, &shutdown).await else { return };
        let address = follower.client.address();
        match welcome || backoff.is_first() {
            true => tracing::warn!(%address, %ending, "not following; dialling again until it works"),
            false => tracing::debug!(%address, %ending, "still not following"),
        }
        if welcome {
            backoff = Backoff::default();
        }
        shutdown.run_until_cancelled(tokio::time::sleep(backoff.next())).await;
    }
}

/// 100 ms, doubling to 2 s, ± 20 %.
#[derive(Default)]
struct Backoff(Option<Duration>);

impl Backoff {
    fn is_first(&self) -> bool {
        self.0.is_none()
    }

    fn next(&mut self) -> Duration {
        let delay = self.0.map_or(BACKOFF.0, |last| (last * 2).min(BACKOFF.1));
        self.0 = Some(delay);
        delay.mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}

/// One stream; without an error it ends only by `shutdown`.
async fn stream(
    follower: &mut Follower,
    held: Published,
    publish: impl FnMut(Published),
    shutdown: &CancellationToken,
) -> Result<(), Ending> {
    let Some(dialled) = shutdown.run_until_cancelled(dial(follower, &held)).await else { return Ok(()) };
    let Accepted { outlet, mut inlet, features, seen: known } = dialled?;
    let assembly = Assembly::of(held, &features);
    tracing::info!(address = %follower.client.address(), "following");
    let (asked, mut answering) = Answering::new(follower.answerer.clone());
    let ended = tokio::select! {
        ended = listen(&mut inlet, (assembly, &asked), publish) => Some(ended),
        ended = answering.carry(&outlet) => Some(ended),
        ended = speak(&outlet, &features, (known, follower.seen.as_mut()), &mut follower.ack) => Some(ended),
        () = shutdown.cancelled() => None,
    };
    match ended {
        Some(Err(ending)) => Err(ending),
        None => {
            let _ = timeout(FAREWELL, leave(&outlet, &mut inlet)).await; // who doesn't hear it notices the lost stream
            Ok(())
        }
    }
}

/// A stream that the source has accepted.
struct Accepted {
    outlet: Outlet,
    inlet: Inlet<Incoming>,
    /// What the source can do.
    features: Vec<String>,
    /// What it has of what the follower sees; nothing from one that cannot resume.
    seen: Option<Holdings>,
}

async fn dial(follower: &Follower, held: &Published) -> Result<Accepted, Ending> {
    let (outlet, body) = Outlet::new();
    outlet.message(&Up::Hello(hello(follower))).await?;
    let mut inlet = Inlet::new(follower.client.stream(PATH, body).await?);
    let features = match inlet.next().await? {
        Frame::Message(Down::Welcome { features, .. }) => features,
        Frame::Message(Down::Goodbye { reason }) => return Err(Ending::Goodbye(reason)),
        _ => return Err(Ending::OutOfTurn("the first message must be Welcome")),
    };
    let mut seen = None;
    if feature::has(&features, feature::RESUME) {
        outlet.message(&Up::Holdings(holdings(&held.entries, &held.secrets))).await?;
        seen = Some(said_holdings(&mut inlet).await?);
    }
    Ok(Accepted { outlet, inlet, features, seen })
}

async fn said_holdings(inlet: &mut Inlet<Incoming>) -> Result<Holdings, Ending> {
    loop {
        match inlet.next().await? {
            Frame::Message(Down::Holdings(held)) => return Ok(held),
            Frame::Message(Down::Beat | Down::Unknown) | Frame::Unknown => {}
            Frame::Message(Down::Goodbye { reason }) => return Err(Ending::Goodbye(reason)),
            _ => return Err(Ending::OutOfTurn("what it holds must come next")),
        }
    }
}

fn hello(follower: &Follower) -> Hello {
    let mut hello = follower.hello.clone();
    hello.features.extend(feature::all());
    hello.features.extend(follower.answerer.as_ref().map(|_| feature::ASK.to_owned()));
    hello
}

/// Returns when the source has heard it, and ended the stream.
async fn leave(outlet: &Outlet, inlet: &mut Inlet<Incoming>) -> Result<(), Ending> {
    outlet.message(&Up::Leaving).await?;
    while !matches!(inlet.next().await?, Frame::Message(Down::Goodbye { .. })) {}
    Ok(())
}

async fn listen(
    inlet: &mut Inlet<Incoming>,
    (mut assembly, asked): (Assembly, &Asked),
    mut publish: impl FnMut(Published),
) -> Result<Infallible, Ending> {
    loop {
        match inlet.next().await? {
            Frame::Message(Down::Beat | Down::Unknown) | Frame::Unknown => {}
            Frame::Message(Down::Ask(ask)) => asked.put(ask),
            Frame::Message(Down::Patch { entries }) => assembly.patch(entries)?,
            Frame::Message(Down::Update(update)) => assembly.update(update)?.into_iter().for_each(&mut publish),
            Frame::Message(Down::Goodbye { reason }) => return Err(Ending::Goodbye(reason)),
            Frame::Message(Down::Welcome { .. } | Down::Holdings(_)) => {
                return Err(Ending::OutOfTurn("the welcome comes only once"));
            }
            Frame::Secret(secret) => assembly.secret(secret)?,
        }
    }
}

/// The world of one stream, as it comes.
#[derive(Default)]
struct Assembly {
    joiner: Joiner,
    arrived: BTreeMap<SecretRef, Secret>,
    /// What comes with the next step.
    patched: Vec<Entry>,
    whole: Published,
}

impl Assembly {
    /// Of a stream that begins with this world, if the source can go on from it.
    fn of(held: Published, features: &[String]) -> Self {
        match feature::has(features, feature::RESUME) && !held.entries.is_empty() {
            true => Assembly { joiner: Joiner::resuming(), whole: held, ..Assembly::default() },
            false => Assembly { whole: held, ..Assembly::default() },
        }
    }

    fn secret(&mut self, secret: Secret) -> Result<(), Ending> {
        if let Err(error) = secrets::check(&secret) {
            tracing::warn!(%error, "a secret was refused");
            return Ok(()); // its certificate's scope goes without; the others are unharmed
        }
        self.arrived.insert(secret.reference().clone(), secret);
        match self.arrived.len() > MAX_SECRETS {
            true => Err(Ending::OutOfTurn("too many secrets for one step")),
            false => Ok(()),
        }
    }

    /// Takes patches of values that are here.
    fn patch(&mut self, entries: Vec<Entry>) -> Result<(), Ending> {
        if !self.patched.is_empty() {
            return Err(Ending::OutOfTurn("patches come once with a step"));
        }
        let mut bytes = 0;
        for Entry { key, value: patch } in entries {
            let held = self.whole.entries.get(&key).zip(patch);
            let whole = held.and_then(|(held, patch)| held.patched(&patch).ok());
            let whole = whole.ok_or(Ending::OutOfTurn("a patch of something that isn't here"))?;
            bytes += whole.as_str().len();
            if bytes > MAX_PATCHED {
                return Err(Ending::OutOfTurn("too much is patched in one step"));
            }
            self.patched.push(Entry { key, value: Some(whole) });
        }
        Ok(())
    }

    /// Takes a part; returns the new world when it was a step's last.
    fn update(&mut self, update: Update) -> Result<Option<Published>, Ending> {
        let Update { revision, reset, replaces, last, entries } = update;
        let Some(step) = self.joiner.take(Part { reset, replaces, last, entries })? else { return Ok(None) };
        let Step { reset, replaces, entries: mut changes } = step;
        changes.append(&mut self.patched);
        let before = if reset { Published::default() } else { self.whole.clone() };
        let (mut entries, mut secrets) = (Arc::unwrap_or_clone(before.entries), Arc::unwrap_or_clone(before.secrets));
        // Reading all names takes time, and most steps leave them alone.
        let old_names = changes.iter().filter_map(|change| entries.get(&change.key)).any(secrets::names_any);
        let names_change = reset || !replaces.is_empty() || old_names || !self.arrived.is_empty();
        world::patch(&mut entries, reset, &replaces, changes.clone());
        let understood = understood(&self.whole, &changes, &entries);
        secrets.append(&mut self.arrived);
        if names_change {
            secrets::retain_named(&mut secrets, &entries);
        }
        self.whole = Published { revision, entries: Arc::new(entries), understood, secrets: Arc::new(secrets) };
        Ok(Some(self.whole.clone()))
    }
}

async fn speak(
    outlet: &Outlet,
    features: &[String],
    (known, mut seen): (Option<Holdings>, Option<&mut watch::Receiver<Arc<Seen>>>),
    ack: &mut watch::Receiver<Ack>,
) -> Result<Infallible, Ending> {
    let mut base = Base::nothing();
    if let Some(seen) = &mut seen {
        if let Some(known) = &known {
            base = Base::held(known, &seen.borrow().entries);
        }
        base = observe(outlet, &base, seen).await?;
    }
    let deltas = feature::has(features, feature::ACK_DELTAS);
    let mut said: Option<Ack> = None;
    ack.mark_changed();
    loop {
        tokio::select! {
            () = changed(seen.as_deref_mut()) => {
                if let Some(seen) = &mut seen {
                    base = observe(outlet, &base, seen).await?;
                }
            }
            () = changed(Some(ack)) => {
                let newest = ack.borrow_and_update().clone();
                let told = said.as_ref().filter(|_| deltas).map_or_else(|| newest.clone(), |said| newest.delta(said));
                outlet.message(&Up::Ack(told)).await?;
                said = Some(newest);
            }
            () = tokio::time::sleep(BEAT) => outlet.message(&Up::Beat).await?,
        }
    }
}

/// Waits for a change; for ever if there never will be one.
async fn changed<T>(value: Option<&mut watch::Receiver<T>>) {
    if let Some(value) = value
        && value.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Tells what is seen now; returns what the source then has.
async fn observe(outlet: &Outlet, base: &Base, seen: &mut watch::Receiver<Arc<Seen>>) -> Result<Base, Ending> {
    let newest = seen.borrow_and_update().clone();
    for Part { reset, replaces, last, entries } in Parts::of(base, &newest.entries) {
        outlet.message(&Up::Observed(Observed { at: newest.at, reset, replaces, last, entries })).await?;
    }
    Ok(Base::sent(&newest.entries))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use config::wire::{Json, RevisionPair};
    use serde_json::json;

    fn part(reset: bool, last: bool, key: &str) -> Update {
        let entries = vec![Entry { key: key.into(), value: Some(json!(1).into()) }];
        Update { revision: RevisionPair::default(), reset, replaces: vec![], last, entries }
    }

    #[test]
    fn nothing_counts_before_its_last_part() {
        let mut assembly = Assembly::default();
        assert!(assembly.update(part(true, false, "a")).unwrap().is_none());
        let whole = assembly.update(part(true, true, "b")).unwrap().unwrap();
        assert_eq!(whole.entries.keys().collect::<Vec<_>>(), ["a", "b"]);
        let whole = assembly.update(part(false, true, "c")).unwrap().unwrap();
        assert_eq!(whole.entries.len(), 3);
        let whole = assembly.update(part(true, true, "d")).unwrap().unwrap();
        assert_eq!(whole.entries.keys().collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn a_patch_counts_with_its_step_and_only_for_what_is_here() {
        let entry = |key: &str, value| Entry { key: key.into(), value: Some(Json::from(value)) };
        let mut assembly = Assembly::default();
        assembly
            .update(Update { entries: vec![entry("a", json!({"x": 1, "y": 2}))], ..part(true, true, "b") })
            .unwrap();
        assembly.patch(vec![entry("a", json!({"x": 3, "y": null}))]).unwrap();
        let again = assembly.patch(vec![entry("a", json!({"x": 4}))]);
        assert!(matches!(again, Err(Ending::OutOfTurn(_))), "they would add up without end");
        assert!(assembly.update(part(false, false, "c")).unwrap().is_none());
        let whole = assembly.update(part(false, true, "d")).unwrap().unwrap();
        assert_eq!(whole.entries.get("a"), Some(&json!({"x": 3}).into()));
        assert_eq!(whole.entries.keys().collect::<Vec<_>>(), ["a", "c", "d"]);
        let whole = assembly.update(part(false, true, "e")).unwrap().unwrap();
        assert_eq!(whole.entries.get("a"), Some(&json!({"x": 3}).into()), "once");
        for strange in [entry("none", json!({})), Entry { key: "a".into(), value: None }] {
            assert!(matches!(assembly.patch(vec![strange]), Err(Ending::OutOfTurn(_))));
        }
        let mut assembly = Assembly::default();
        let long = entry("a", json!("x".repeat(1 << 20)));
        assembly.update(Update { entries: vec![long.clone()], ..part(true, true, "b") }).unwrap();
        assert!(matches!(assembly.patch(vec![long; 65]), Err(Ending::OutOfTurn(_))), "nor would one without end");
    }

    #[test]
    fn the_delays_grow_to_two_seconds() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..8).map(|_| backoff.next()).collect();
        assert!(delays.first().unwrap() <= &Duration::from_millis(120));
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(2400)));
        assert!(delays.last().unwrap() >= &Duration::from_millis(1600));
    }
}
