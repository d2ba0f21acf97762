//! The members of a cluster: who they are, and how far.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::resource::{GatewayAddresses, Name};
use config::wire::{Ack, Hello, MemberReport, MemberRole, TrustReport};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::sync::Refusal;
use crate::sync::cache::{read_checked, write_checked};
use crate::sync::relay::Asker;

/// A member that was not heard for so long has left. A root that its certificates need outlasts that: see
/// [`MemberReport::absent`].
const ABSENCE: Duration = Duration::from_secs(600);
/// No more than one write in this time, however fast members come and go.
const PAUSE: Duration = Duration::from_millis(200);
/// A cluster has no more members.
const MAX_MEMBERS: usize = 1000;

/// What outlives the agent's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Card {
    role: MemberRole,
    addresses: Option<GatewayAddresses>,
    /// What it said last of whom it believes and what it holds.
    #[serde(default)]
    trust: Vec<TrustReport>,
}

impl Card {
    /// Whether the member may still come back with what it holds: a gateway with a certificate of a GNS, a DNS server,
    /// which has none, with the one that it shows its agent.
    fn is_alive(&self, now: i64) -> bool {
        let counts = |trust: &&TrustReport| self.role == MemberRole::Dns || trust.global_namespace.is_some();
        let held = self.trust.iter().filter(counts).filter_map(|trust| trust.certificate.as_ref());
        held.map(|held| held.not_after).any(|end| end >= now)
    }
}

struct Entry {
    card: Card,
    heard: Instant,
    stream: Option<Stream>,
    ack: Arc<Ack>,
    /// It has left by its silence.
    absent: bool,
}

/// A member's stream.
struct Stream {
    number: u64,
    end: CancellationToken,
    asker: Asker,
}

impl Entry {
    fn new(card: Card) -> Self {
        Entry { card, heard: Instant::now(), stream: None, ack: Arc::default(), absent: false }
    }
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Name, Entry>,
    streams: u64,
}

/// All members. Known across restarts, because a silent agent, or one that forgot, is no evidence that a gateway is
/// gone.
pub(super) struct Roster {
    path: PathBuf,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// The file is older than the state.
    unsaved: Notify,
}

impl Roster {
    /// Those of the agent's last life, each with its full time to come back.
    pub(super) fn open(path: PathBuf) -> Self {
        let cards: BTreeMap<Name, Card> = read_checked(&path).unwrap_or_default();
        let entries = cards.into_iter().map(|(name, card)| (name, Entry::new(card))).collect();
        let (state, changed) = (Mutex::new(State { entries, streams: 0 }), watch::Sender::new(()));
        Roster { path, state, changed, unsaved: Notify::new() }
    }

    /// Tells of every change of who is there and how far.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member enrolled. Whoever had the name has left.
    pub(super) fn enrol(&self, name: &Name, role: MemberRole) -> Result<(), Refusal> {
        let mut state = self.state();
        check_room(&state, name)?;
        let before = state.entries.insert(name.clone(), Entry::new(Card { role, addresses: None, trust: Vec::new() }));
        cut(before.and_then(|before| before.stream));
        drop(state);
        self.members_changed();
        Ok(())
    }

    /// What the member is; `None` for one that enrolled with an agent of another life, and did not say hello yet.
    pub(super) fn role(&self, name: &Name) -> Option<MemberRole> {
        self.state().entries.get(name).map(|entry| entry.card.role)
    }

    /// A member's stream begins, in place of any earlier one. `end` is cancelled when another takes its place. Returns
    /// the stream's number.
    pub(super) fn open_stream(&self, hello: &Hello, end: CancellationToken, asker: Asker) -> Result<u64, Refusal> {
        let mut state = self.state();
        let trust = state.entries.get(&hello.name).map(|entry| entry.card.trust.clone()).unwrap_or_default();
        let card = Card { role: hello.role, addresses: hello.addresses.clone(), trust };
        check_room(&state, &hello.name)?;
        check_role(&state, hello)?;
        state.streams += 1;
        let number = state.streams;
        let entry = state.entries.entry(hello.name.clone()).or_insert_with(|| Entry::new(card.clone()));
        cut(entry.stream.replace(Stream { number, end, asker }));
        (entry.heard, entry.absent) = (Instant::now(), false);
        // How far it was is no evidence of how far it is: it may have started anew from an older disk.
        entry.ack = Arc::default();
        entry.card = card;
        drop(state);
        self.members_changed();
        Ok(number)
    }

    /// By which a member is asked, while it is connected.
    pub(super) fn asker(&self, name: &Name) -> Option<Asker> {
        self.state().entries.get(name)?.stream.as_ref().map(|stream| stream.asker.clone())
    }

    /// Acts on the entry of a member whose stream is still this one.
    fn with(&self, name: &Name, number: u64, act: impl FnOnce(&mut Entry)) {
        let mut state = self.state();
        let current = |entry: &&mut Entry| entry.stream.as_ref().is_some_and(|stream| stream.number == number);
        if let Some(entry) = state.entries.get_mut(name).filter(current) {
            act(entry);
        }
    }

    /// It said something.
    pub(super) fn heard(&self, name: &Name, number: u64) {
        self.with(name, number, |entry| entry.heard = Instant::now());
    }

    /// It is so far.
    pub(super) fn acknowledged(&self, name: &Name, number: u64, ack: Arc<Ack>) {
        let mut unsaved = false;
        self.with(name, number, |entry| {
            unsaved = entry.card.trust != ack.trust;
            entry.card.trust.clone_from(&ack.trust);
            entry.ack = ack;
        });
        if unsaved {
            self.unsaved.notify_one();
        }
        self.changed.send_replace(());
    }

    /// Its stream is lost.
    pub(super) fn lost(&self, name: &Name, number: u64) {
        self.with(name, number, |entry| entry.stream = None);
        self.changed.send_replace(());
    }

    /// It left of its own will, and is forgotten.
    pub(super) fn leave(&self, name: &Name, number: u64) {
        let mut state = self.state();
        let current = |entry: &Entry| entry.stream.as_ref().is_some_and(|stream| stream.number == number);
        if state.entries.get(name).is_some_and(current) {
            state.entries.remove(name);
            drop(state);
            tracing::info!(member = %name, "a member left");
            self.members_changed();
        }
    }

    /// It is gone for good, as somebody knows who was asked: nobody waits for it any more. Not if it is connected; returns
    /// whether it is forgotten.
    pub(super) fn forget(&self, name: &Name) -> bool {
        let mut state = self.state();
        if state.entries.get(name).is_some_and(|entry| entry.stream.is_some()) {
            return false;
        }
        let known = state.entries.remove(name).is_some();
        drop(state);
        if known {
            tracing::warn!(member = %name, "a member is forgotten by order");
            self.members_changed();
        }
        true
    }

    /// These are no members any more, and their streams end.
    pub(super) fn expel(&self, members: &BTreeSet<Name>) {
        let mut state = self.state();
        let gone: Vec<_> = state.entries.extract_if(.., |name, _| members.contains(name)).collect();
        drop(state);
        if gone.is_empty() {
            return;
        }
        for (member, entry) in gone {
            tracing::warn!(%member, "a member is revoked");
            cut(entry.stream);
        }
        self.members_changed();
    }

    /// Those that were silent for too long leave; those of them that may return with a living certificate are
    /// remembered as absent until it ends.
    pub(super) fn expire(&self) {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let (mut state, mut left) = (self.state(), 0);
        state.entries.retain(|name, entry| {
            if entry.stream.is_some() || entry.heard.elapsed() < ABSENCE {
                return true;
            }
            if !entry.absent {
                tracing::warn!(member = %name, "a member was not heard for {ABSENCE:?} and has left");
                (entry.absent, left) = (true, left + 1);
            }
            let stays = entry.card.is_alive(now);
            left += usize::from(!stays);
            stays
        });
        if left > 0 {
            drop(state);
            self.members_changed();
        }
    }

    /// The members, for the controller.
    pub(super) fn reports(&self) -> Vec<MemberReport> {
        let report = |(name, entry): (&Name, &Entry)| MemberReport {
            name: name.clone(),
            role: entry.card.role,
            connected: entry.stream.is_some(),
            silent_for_ms: u64::try_from(entry.heard.elapsed().as_millis()).unwrap_or(u64::MAX),
            at: entry.ack.at,
            rejected: entry.ack.rejected.clone(),
            peers: entry.ack.peers.clone(),
            trust: entry.card.trust.clone(),
            absent: entry.absent,
            draining: entry.ack.draining && entry.stream.is_some(),
        };
        self.state().entries.iter().map(report).collect()
    }

    /// Where the gateways are reached.
    pub(super) fn gateways(&self) -> Vec<GatewayAddresses> {
        let state = self.state();
        let gateways = state.entries.values().filter(|entry| entry.card.role == MemberRole::Gateway && !entry.absent);
        gateways.filter_map(|entry| entry.card.addresses.clone()).collect()
    }

    fn members_changed(&self) {
        self.unsaved.notify_one();
        self.changed.send_replace(());
    }

    /// Keeps the members on disk, for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            self.unsaved.notified().await;
            let roster = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || roster.save()).await.is_err() {
                return; // the runtime ends
            }
            sleep(PAUSE).await;
        }
    }

    fn cards(&self) -> BTreeMap<Name, Card> {
        self.state().entries.iter().map(|(name, entry)| (name.clone(), entry.card.clone())).collect()
    }

    /// Blocks.
    fn save(&self) {
        let cards = self.cards();
        if let Err(error) = write_checked(&self.path, &cards) {
            tracing::error!(%error, "the members could not be kept on disk");
        }
    }
}

fn cut(stream: Option<Stream>) {
    if let Some(stream) = stream {
        stream.end.cancel();
    }
}

fn check_room(state: &State, name: &Name) -> Result<(), Refusal> {
    match state.entries.len() < MAX_MEMBERS || state.entries.contains_key(name) {
        true => Ok(()),
        false => Err(Refusal(format!("the cluster has {MAX_MEMBERS} members already; give members stable names"))),
    }
}

fn check_role(state: &State, hello: &Hello) -> Result<(), Refusal> {
    match state.entries.get(&hello.name) {
        Some(entry) if entry.card.role != hello.role => Err(Refusal(format!(
            "{} enrolled as another kind of member: give each gateway and each DNS server a name of its own",
            hello.name
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::sync::relay;
    use config::wire::{PROTOCOL, RevisionPair};

    fn hello(name: &str, role: MemberRole) -> Hello {
        let name: Name = name.parse().unwrap();
        let addresses = GatewayAddresses { name: name.clone(), east_west: None, public: None, mesh: None };
        let addresses = (role == MemberRole::Gateway).then_some(addresses);
        let (version, boot) = (String::new(), String::new());
        Hello { protocol: PROTOCOL, version, features: vec![], name, boot, role, addresses }
    }

    fn asker(hello: &Hello) -> Asker {
        relay::line(hello).0
    }

    fn open(roster: &Roster, name: &str, role: MemberRole) -> Result<u64, Refusal> {
        let hello = hello(name, role);
        roster.open_stream(&hello, CancellationToken::new(), asker(&hello))
    }

    #[test]
    fn a_successor_ends_the_stream_of_its_predecessor() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(folder.path().join("members.json"));
        let hello = hello("gw1", MemberRole::Gateway);
        let ended = CancellationToken::new();
        let old = roster.open_stream(&hello, ended.clone(), asker(&hello)).unwrap();
        let new = roster.open_stream(&hello, CancellationToken::new(), asker(&hello)).unwrap();
        assert!(ended.is_cancelled());
        let ack = |global| Ack { at: RevisionPair { global, ..RevisionPair::default() }, ..Ack::default() };
        roster.acknowledged(&hello.name, new, ack(2).into());
        roster.acknowledged(&hello.name, old, ack(1).into());
        roster.lost(&hello.name, old);
        let report = roster.reports().remove(0);
        assert_eq!((report.at.global, report.connected), (2, true));
    }

    #[test]
    fn who_leaves_is_forgotten_unless_a_successor_came() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(folder.path().join("members.json"));
        let hello = hello("gw1", MemberRole::Gateway);
        let old = roster.open_stream(&hello, CancellationToken::new(), asker(&hello)).unwrap();
        let new = roster.open_stream(&hello, CancellationToken::new(), asker(&hello)).unwrap();
        roster.leave(&hello.name, old);
        assert_eq!(roster.gateways().len(), 1);
        roster.leave(&hello.name, new);
        assert!(roster.gateways().is_empty() && roster.reports().is_empty());
        roster.lost(&hello.name, new);
    }

    #[test]
    fn who_is_silent_for_long_is_absent_until_its_certificate_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.json");
        let roster = Roster::open(path.clone());
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let gateways = [("gw1", Some("shop"), now + 3600), ("gw2", Some("shop"), now - 1), ("gw3", None, now + 3600)];
        let dns = [("dns1", None, now + 3600), ("dns2", None, now - 1)];
        let all =
            gateways.map(|one| (MemberRole::Gateway, one)).into_iter().chain(dns.map(|one| (MemberRole::Dns, one)));
        for (role, (name, gns, ends)) in all {
            let hello = hello(name, role);
            let number = roster.open_stream(&hello, CancellationToken::new(), asker(&hello)).unwrap();
            let held =
                serde_json::json!({"serial": "1", "subject": "x", "notBefore": 0, "notAfter": ends, "renews": 0});
            let trust = serde_json::json!({"globalNamespace": gns, "roots": ["ab"], "certificate": held});
            let trust = vec![serde_json::from_value(trust).unwrap()];
            roster.acknowledged(&hello.name, number, Ack { trust, ..Ack::default() }.into());
            roster.lost(&hello.name, number);
        }
        roster.save();
        let again = Roster::open(path);
        again.state().entries.values_mut().for_each(|entry| entry.heard = Instant::now().checked_sub(ABSENCE).unwrap());
        again.expire();
        let reports = again.reports();
        let [dns1, gw1] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!((dns1.name.as_str(), dns1.absent), ("dns1", true));
        assert!(gw1.absent && gw1.trust.first().unwrap().roots == ["ab"], "{gw1:?}");
        assert!(again.gateways().is_empty(), "nobody dials it");
        open(&again, "gw1", MemberRole::Gateway).unwrap();
        assert!(!again.reports().remove(1).absent);
    }

    #[test]
    fn only_who_is_not_connected_is_forgotten_by_order() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(folder.path().join("members.json"));
        let number = open(&roster, "gw1", MemberRole::Gateway).unwrap();
        let gw1: Name = "gw1".parse().unwrap();
        assert!(!roster.forget(&gw1));
        roster.lost(&gw1, number);
        assert_eq!(roster.gateways().len(), 1);
        assert!(roster.forget(&gw1));
        assert!(roster.gateways().is_empty() && roster.reports().is_empty());
    }

    #[test]
    fn how_far_a_member_was_says_nothing_of_its_next_stream() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(folder.path().join("members.json"));
        let name = "gw1".parse().unwrap();
        let first = open(&roster, "gw1", MemberRole::Gateway).unwrap();
        let at = RevisionPair { global: 7, ..RevisionPair::default() };
        roster.acknowledged(&name, first, Ack { at, draining: true, ..Ack::default() }.into());
        assert!(roster.reports().remove(0).draining);
        open(&roster, "gw1", MemberRole::Gateway).unwrap();
        let report = roster.reports().remove(0);
        assert_eq!((report.connected, report.at.global, report.draining), (true, 0, false));
    }

    #[test]
    fn members_are_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.json");
        let roster = Roster::open(path.clone());
        roster.enrol(&"dns1".parse().unwrap(), MemberRole::Dns).unwrap();
        open(&roster, "gw1", MemberRole::Gateway).unwrap();
        roster.save();
        let again = Roster::open(path);
        assert_eq!(again.gateways(), roster.gateways());
        assert_eq!(again.gateways().len(), 1);
        assert!(again.reports().iter().all(|report| !report.connected));
        assert!(open(&again, "dns1", MemberRole::Gateway).is_err());
        assert_eq!(again.role(&"dns1".parse().unwrap()), Some(MemberRole::Dns));
    }
}
