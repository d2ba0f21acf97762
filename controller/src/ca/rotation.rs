//! How a root takes another's place without anybody noticing. Pure but for the clock and the reports it is given.
//!
//! ```text
//! steady ──▶ overlap ──▶ re-issue, prove ──▶ drop ──▶ steady
//!            everybody    everybody holds     only the new
//!            believes     certificates below  one is believed
//!            both roots   the new root
//! ```
//!
//! A step is taken when every holder has said that it is so far. One that is away is waited for, but no longer than the
//! last certificate lives that it may hold; nor so long that the living ones would run out of life.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::Name;
use config::wire::Order;
use identity::Facts;
use identity::ca::{ControlCa, GnsCa, TopLevelCa, renew_at};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::holder::Holder;
use crate::store::{Record, Table};

/// So much of a root's life, as one part in so many, is left when the living are no longer kept waiting for the absent:
/// the longest life that a leaf below it may have.
const RESERVE: i32 = 9;

/// So long everybody must have believed both roots before the new one signs: then their disks know it too, and one that
/// starts anew, with nobody in reach, does not fall behind what it said.
const SETTLING: Duration = Duration::seconds(3);

/// A root authority.
pub(crate) trait RootCa {
    /// What its certificate says.
    fn facts(&self) -> &Facts;
}

impl RootCa for GnsCa {
    fn facts(&self) -> &Facts {
        self.facts()
    }
}

impl RootCa for Arc<ControlCa> {
    fn facts(&self) -> &Facts {
        ControlCa::facts(self)
    }
}

impl RootCa for TopLevelCa {
    fn facts(&self) -> &Facts {
        self.facts()
    }
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stage {
    /// There is one root.
    #[default]
    Steady,
    /// The old root signs; the new one is being made known.
    Overlap,
    /// The new root signs; what the old one signed is being replaced.
    Reissue,
}

/// How often certificates of a cluster were ordered anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turns {
    issuing: u64,
    leaf: u64,
}

/// What outlives the process. Moments are in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct State {
    /// SHA-256 of the root that signs.
    signing: String,
    stage: Stage,
    since: i64,
    turns: BTreeMap<Name, Turns>,
    /// When the last certificate ends that a cluster got from the root that signs.
    ends: BTreeMap<Name, i64>,
    /// The same of the root whose place it took.
    old_ends: BTreeMap<Name, i64>,
}

impl Record for State {
    const TABLE: Table = Table::Rotations;
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a successor, and make it known.
    Begin,
    /// Let the successor sign.
    Switch,
    /// Let go of the predecessor.
    Drop,
}

/// A root, and the one that takes its place or whose place it took.
#[derive(Debug)]
pub(crate) struct Roots<C> {
    signing: C,
    other: Option<C>,
    state: State,
    /// Since when everybody believes both, as far as this process saw.
    settling: Option<OffsetDateTime>,
}

impl<C: RootCa> Roots<C> {
    /// The first of its kind.
    pub(crate) fn new(first: C) -> Self {
        let signing = first.facts().fingerprint.clone();
        Roots { signing: first, other: None, state: State { signing, ..State::default() }, settling: None }
    }

    /// Those that the vault has, and what was known of them; also those that nothing needs, which a controller left
    /// that ended in the middle of a step. `None` when there is no root at all.
    pub(crate) fn restore(mut roots: Vec<C>, state: Option<State>) -> Option<(Self, Vec<C>)> {
        roots.sort_by_key(|root| root.facts().not_before);
        let mut state = state.unwrap_or_default();
        let at = roots.iter().position(|root| root.facts().fingerprint == state.signing).unwrap_or_default();
        let signing = (at < roots.len()).then(|| roots.remove(at))?;
        let other = if state.stage == Stage::Steady { None } else { roots.pop() };
        if other.is_none() {
            state.stage = Stage::Steady;
        }
        state.signing.clone_from(&signing.facts().fingerprint);
        Some((Roots { signing, other, state, settling: None }, roots))
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The one that signs.
    pub(crate) fn signing(&self) -> &C {
        &self.signing
    }

    /// All that are believed, the oldest first: so their order stays when another begins to sign.
    pub(crate) fn all(&self) -> Vec<&C> {
        let mut all: Vec<&C> = [Some(&self.signing), self.other.as_ref()].into_iter().flatten().collect();
        all.sort_by_key(|root| (root.facts().not_before, &root.facts().fingerprint));
        all
    }

    pub(crate) fn stage(&self) -> Stage {
        self.state.stage
    }

    /// The one whose place was taken, until it is dropped.
    pub(crate) fn predecessor(&self) -> Option<&C> {
        self.other.as_ref().filter(|_| self.state.stage == Stage::Reissue)
    }

    /// What a cluster is to hold now.
    pub(super) fn order(&self, cluster: &Name) -> Order {
        let Turns { issuing, leaf } = self.state.turns.get(cluster).copied().unwrap_or_default();
        Order { root: self.state.signing.clone(), issuing, leaf }
    }

    /// Orders a cluster's certificates anew: the issuing CA and what is below it, or that only.
    pub(super) fn turn(&mut self, cluster: &Name, issuing: bool) {
        let turns = self.state.turns.entry(cluster.clone()).or_default();
        if issuing { turns.issuing += 1 } else { turns.leaf += 1 }
    }

    /// Remembers what a cluster got.
    pub(super) fn issued(&mut self, cluster: &Name, not_after: OffsetDateTime) {
        let end = self.state.ends.entry(cluster.clone()).or_default();
        *end = not_after.unix_timestamp().max(*end);
    }

    /// Forgets what clusters had that are no longer members; says whether there was anything.
    pub(super) fn retain(&mut self, members: &BTreeSet<Name>) -> bool {
        let State { turns, ends, old_ends, .. } = &mut self.state;
        let before = (turns.len(), ends.len(), old_ends.len());
        turns.retain(|cluster, _| members.contains(cluster));
        ends.retain(|cluster, _| members.contains(cluster));
        old_ends.retain(|cluster, _| members.contains(cluster));
        before != (turns.len(), ends.len(), old_ends.len())
    }

    /// Since when it is so far, in seconds since 1970.
    pub(crate) fn since(&self) -> i64 {
        self.state.since
    }

    /// As it is told of.
    pub(super) fn status(&self) -> RootStatus {
        let roots = self.all().into_iter().map(|root| root.facts().clone()).collect();
        RootStatus { roots, renews: self.renews(), state: self.state.clone() }
    }

    /// When the root that signs is two thirds through its life, a little earlier or later: each root at a moment of its
    /// own, which stays the same.
    pub(crate) fn renews(&self) -> OffsetDateTime {
        let Facts { not_before, not_after, fingerprint, .. } = self.signing.facts();
        let random = fingerprint.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(128);
        renew_at(*not_before, *not_after, f64::from(random) / 255.0)
    }

    /// Who has yet to say that it is so far, for the next step to be taken.
    pub(crate) fn waiting<'h>(&self, holders: &'h [Holder], now: OffsetDateTime) -> Vec<&'h Holder> {
        self.status().waiting(holders, now)
    }

    /// What is to be done now.
    pub(crate) fn next(&mut self, holders: &[Holder], now: OffsetDateTime) -> Option<Step> {
        let ready = self.waiting(holders, now).is_empty();
        self.settling = self.settling.or(Some(now)).filter(|_| ready && self.state.stage == Stage::Overlap);
        match (self.state.stage, &self.other) {
            (Stage::Steady, _) => (self.renews() <= now).then_some(Step::Begin),
            (Stage::Overlap, _) => {
                let settled = self.settling.is_some_and(|since| now - since >= SETTLING);
                (self.reserve() <= now || settled).then_some(Step::Switch)
            }
            (Stage::Reissue, Some(old)) => (old.facts().not_after < now || ready).then_some(Step::Drop),
            (Stage::Reissue, None) => Some(Step::Drop),
        }
    }

    fn reserve(&self) -> OffsetDateTime {
        let Facts { not_before, not_after, .. } = self.signing.facts();
        *not_after - (*not_after - *not_before) / RESERVE
    }

    /// A successor is made known.
    pub(crate) fn begin(&mut self, successor: C, now: OffsetDateTime) {
        self.other = Some(successor);
        (self.state.stage, self.state.since) = (Stage::Overlap, now.unix_timestamp());
    }

    /// The successor signs.
    pub(crate) fn switch(&mut self, now: OffsetDateTime) {
        if let Some(other) = &mut self.other {
            std::mem::swap(&mut self.signing, other);
            self.state.signing.clone_from(&self.signing.facts().fingerprint);
            self.state.old_ends = std::mem::take(&mut self.state.ends);
            (self.state.stage, self.state.since) = (Stage::Reissue, now.unix_timestamp());
        }
    }

    /// The predecessor is let go of.
    pub(crate) fn drop_old(&mut self, now: OffsetDateTime) -> Option<C> {
        self.state.old_ends.clear();
        (self.state.stage, self.state.since) = (Stage::Steady, now.unix_timestamp());
        self.other.take()
    }
}

/// A root, or two while one takes the other's place, as an immutable value.
#[derive(Debug, Clone)]
pub(crate) struct RootStatus {
    /// What the certificates say, the oldest first.
    pub(crate) roots: Vec<Facts>,
    /// When the next rotation begins.
    pub(crate) renews: OffsetDateTime,
    state: State,
}

impl RootStatus {
    /// SHA-256 of the one that signs.
    pub(crate) fn signing(&self) -> &str {
        &self.state.signing
    }

    /// How far a rotation is.
    pub(crate) fn stage(&self) -> Stage {
        self.state.stage
    }

    /// Since when it is so far, in seconds since 1970.
    pub(crate) fn since(&self) -> i64 {
        self.state.since
    }

    /// When the last certificate ends that a cluster got from any of the roots, in seconds since 1970.
    pub(crate) fn last_end(&self, cluster: &Name) -> Option<i64> {
        let State { ends, old_ends, .. } = &self.state;
        ends.get(cluster).max(old_ends.get(cluster)).copied()
    }

    fn other(&self) -> Option<&str> {
        let other = self.roots.iter().find(|root| root.fingerprint != self.state.signing)?;
        Some(&other.fingerprint)
    }

    /// Who has yet to say that it is so far, for the next step to be taken.
    pub(crate) fn waiting<'h>(&self, holders: &'h [Holder], now: OffsetDateTime) -> Vec<&'h Holder> {
        let now = now.unix_timestamp();
        let State { signing, stage, ends, old_ends, .. } = &self.state;
        let behind = |holder: &&Holder| match (stage, self.other()) {
            (Stage::Overlap, Some(new)) => holder.refuses(new, ends.get(&holder.cluster), now),
            (Stage::Reissue, Some(_)) => holder.shows_other(signing, old_ends.get(&holder.cluster), now),
            _ => false,
        };
        holders.iter().filter(behind).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::wire::{CertificateReport, TrustReport, WorkloadsReport};
    use identity::TrustDomain;
    use identity::ca::Lifetimes;

    use super::*;
    use crate::ca::Party;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn root(at: OffsetDateTime) -> GnsCa {
        let domain = TrustDomain::global_namespace("shop", "mesh").unwrap();
        GnsCa::create(domain, &Lifetimes::default(), at).unwrap()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A gateway that believes in these, and holds a certificate below the last of them for an hour.
    fn holder(present: bool, roots: &[&str], below: &str, end: OffsetDateTime) -> Holder {
        let order = Order { root: below.to_owned(), ..Order::default() };
        let certificate = CertificateReport {
            serial: "1".into(),
            subject: String::new(),
            issuer: None,
            order,
            not_before: 0,
            not_after: end.unix_timestamp(),
            renews: 0,
        };
        let roots = roots.iter().map(|root| (*root).to_owned()).collect();
        let (global_namespace, certificate) = (Some(name("shop")), Some(certificate));
        let trust = Some(TrustReport { global_namespace, roots, certificate, workloads: vec![], visitors: vec![] });
        let party = Party::Gateway(name("a"));
        Holder { cluster: name("west"), party, present, agent_present: true, trust, visits: None }
    }

    fn overlapping(at: OffsetDateTime) -> (Roots<GnsCa>, String, String) {
        let mut roots = Roots::new(root(START));
        let old = roots.signing().facts().fingerprint.clone();
        let successor = root(at);
        let new = successor.facts().fingerprint.clone();
        roots.begin(successor, at);
        (roots, old, new)
    }

    /// What is done about this if it stays so.
    fn next(roots: &mut Roots<GnsCa>, holders: &[Holder], at: OffsetDateTime) -> Option<Step> {
        roots.next(holders, at).or_else(|| roots.next(holders, at + SETTLING))
    }

    #[test]
    fn a_root_is_replaced_at_two_thirds_of_its_life() {
        let mut roots = Roots::new(root(START));
        assert_eq!(roots.next(&[], START + Duration::days(55)), None);
        assert_eq!(roots.next(&[], START + Duration::days(65)), Some(Step::Begin));
    }

    #[test]
    fn the_new_root_signs_once_everybody_believes_it_and_the_old_one_goes_once_nobody_holds_it() {
        let now = START + Duration::days(60);
        let (mut roots, old, new) = overlapping(now);
        let end = now + Duration::hours(1);
        let behind = holder(true, &[&old], &old, end);
        assert_eq!(roots.next(std::slice::from_ref(&behind), now), None);
        assert_eq!(roots.waiting(std::slice::from_ref(&behind), now).len(), 1);
        let knows = holder(true, &[&old, &new], &old, end);
        assert_eq!(roots.next(std::slice::from_ref(&knows), now), None, "its disk may not know yet");
        assert_eq!(roots.next(std::slice::from_ref(&knows), now + SETTLING), Some(Step::Switch));
        assert_eq!(roots.order(&name("west")).root, old);
        let before: Vec<String> = roots.all().iter().map(|root| root.facts().fingerprint.clone()).collect();
        roots.switch(now);
        let after: Vec<String> = roots.all().iter().map(|root| root.facts().fingerprint.clone()).collect();
        assert_eq!(before, after, "the bundle stays as it is");
        assert_eq!(roots.order(&name("west")).root, new);
        assert_eq!(roots.next(std::slice::from_ref(&knows), now), None);
        assert_eq!(roots.next(&[holder(true, &[&old, &new], &new, end)], now), Some(Step::Drop));
        assert_eq!(roots.drop_old(now).unwrap().facts().fingerprint, old);
        assert_eq!(roots.all().len(), 1);
    }

    #[test]
    fn who_is_away_is_waited_for_as_long_as_its_certificate_lives() {
        let now = START + Duration::days(60);
        let (mut roots, old, _) = overlapping(now);
        let away = [holder(false, &[&old], &old, now + Duration::hours(1))];
        assert_eq!(next(&mut roots, &away, now + Duration::minutes(59)), None);
        assert_eq!(next(&mut roots, &away, now + Duration::minutes(61)), Some(Step::Switch));
        // What an agent that is away hands out meanwhile lives as long as its issuing CA.
        roots.issued(&name("west"), now + Duration::hours(3));
        let [mut gateway] = away;
        gateway.agent_present = false;
        assert_eq!(next(&mut roots, std::slice::from_ref(&gateway), now + Duration::hours(2)), None);
        assert_eq!(next(&mut roots, std::slice::from_ref(&gateway), now + Duration::hours(4)), Some(Step::Switch));
        roots.switch(now);
        assert_eq!(next(&mut roots, std::slice::from_ref(&gateway), now + Duration::hours(2)), None);
        assert_eq!(next(&mut roots, std::slice::from_ref(&gateway), now + Duration::hours(4)), Some(Step::Drop));
        let unheard = Holder { trust: None, party: Party::Agent, ..gateway };
        assert_eq!(next(&mut roots, std::slice::from_ref(&unheard), now + Duration::hours(2)), None);
        assert_eq!(next(&mut roots, std::slice::from_ref(&unheard), now + Duration::hours(4)), Some(Step::Drop));
    }

    /// The workloads of a cluster, of which one certificate is of this kind, besides one that has ended.
    fn workloads(below: &str, roots: &[&str], end: OffsetDateTime) -> [Holder; 1] {
        let mut holder = Holder { party: Party::Workloads, ..holder(true, &[], "none", end) };
        let report = |below: &str, roots: &[&str], end: OffsetDateTime| WorkloadsReport {
            below: below.to_owned(),
            roots: roots.iter().map(|root| (*root).to_owned()).collect(),
            until: end.unix_timestamp(),
        };
        let workloads = vec![report("none", &[], START), report(below, roots, end)];
        holder.trust.as_mut().unwrap().workloads = workloads;
        [holder]
    }

    #[test]
    fn workloads_certificates_are_waited_for_until_they_are_replaced_or_end() {
        let now = START + Duration::days(60);
        let (end, after) = (now + Duration::hours(1), now + Duration::minutes(61));
        let (mut roots, old, new) = overlapping(now);
        let unaware = workloads(&old, &[&old], end);
        assert_eq!(next(&mut roots, &unaware, now), None, "it would refuse the new root");
        assert_eq!(roots.waiting(&unaware, now).first().unwrap().name(), "the workloads of west");
        assert_eq!(next(&mut roots, &unaware, after), Some(Step::Switch));
        let aware = workloads(&old, &[&old, &new], end);
        assert!(roots.waiting(&aware, now).is_empty());
        roots.switch(now);
        assert_eq!(next(&mut roots, &aware, now), None, "nobody would believe it");
        assert_eq!(next(&mut roots, &aware, after), Some(Step::Drop));
        assert_eq!(next(&mut roots, &workloads(&new, &[&old, &new], end), now), Some(Step::Drop));
    }

    #[test]
    fn workloads_of_others_are_waited_for_until_they_believe_but_hold_no_old_root() {
        let now = START + Duration::days(60);
        let (end, after) = (now + Duration::hours(1), now + Duration::minutes(61));
        let (mut roots, old, new) = overlapping(now);
        let visitors = |roots: &[&str]| {
            let [mut holder] = workloads("none", &[], START);
            let trust = holder.trust.as_mut().unwrap();
            let roots = roots.iter().map(ToString::to_string).collect();
            trust.visitors = vec![WorkloadsReport { below: String::new(), roots, until: end.unix_timestamp() }];
            [holder]
        };
        assert_eq!(next(&mut roots, &visitors(&[&old]), now), None, "they would refuse who shows the new one");
        assert_eq!(next(&mut roots, &visitors(&[&old]), after), Some(Step::Switch));
        assert!(roots.waiting(&visitors(&[&old, &new]), now).is_empty());
        roots.switch(now);
        assert_eq!(next(&mut roots, &visitors(&[&old, &new]), now), Some(Step::Drop));
    }

    #[test]
    fn who_only_believes_is_waited_for_until_it_does_but_holds_no_old_root() {
        let now = START + Duration::days(60);
        let (mut roots, old, new) = overlapping(now);
        let visitor = |present: bool, roots: &[&str]| {
            let mut visitor = holder(present, roots, "none", now);
            visitor.visits = Some((now + Duration::hours(1)).unix_timestamp());
            visitor.trust.as_mut().unwrap().certificate = None;
            [visitor]
        };
        assert_eq!(next(&mut roots, &visitor(true, &[&old]), now), None);
        assert_eq!(next(&mut roots, &visitor(false, &[&old]), now), None, "it may come back and refuse the new root");
        assert_eq!(next(&mut roots, &visitor(false, &[&old]), now + Duration::minutes(61)), Some(Step::Switch));
        assert!(roots.waiting(&visitor(true, &[&old, &new]), now).is_empty());
        roots.switch(now);
        assert_eq!(next(&mut roots, &visitor(false, &[&old, &new]), now), Some(Step::Drop));
        let [unheard] = visitor(true, &[]);
        assert_eq!(next(&mut roots, &[Holder { trust: None, ..unheard }], now), Some(Step::Drop));
    }

    #[test]
    fn the_living_are_not_kept_waiting_until_their_own_end() {
        let now = START + Duration::days(60);
        let (mut roots, old, _) = overlapping(now);
        let deaf = [holder(true, &[&old], &old, now + Duration::days(90))];
        assert_eq!(next(&mut roots, &deaf, START + Duration::days(79)), None);
        assert_eq!(next(&mut roots, &deaf, START + Duration::days(81)), Some(Step::Switch));
    }

    #[test]
    fn a_restart_goes_on_where_it_was_and_clears_up_half_a_step() {
        let now = START + Duration::days(60);
        let (mut roots, old, new) = overlapping(now);
        roots.turn(&name("west"), true);
        let state = roots.state.clone();
        let Roots { signing, other, .. } = roots;
        let (again, orphans) = Roots::restore(vec![other.unwrap(), signing], Some(state)).unwrap();
        assert_eq!((again.stage(), again.signing().facts().fingerprint.clone()), (Stage::Overlap, old.clone()));
        assert_eq!((again.order(&name("west")).issuing, orphans.len()), (1, 0));
        let Roots { signing, other, .. } = again;
        // The successor was put into the vault, but the step was not written down.
        let steady = State { signing: old.clone(), ..State::default() };
        let (again, orphans) = Roots::restore(vec![signing, other.unwrap()], Some(steady)).unwrap();
        assert_eq!((again.all().len(), orphans.len()), (1, 1));
        assert_eq!(orphans.first().unwrap().facts().fingerprint, new);
        assert!(Roots::<GnsCa>::restore(vec![], None).is_none());
    }
}
