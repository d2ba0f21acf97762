//! What the agent tells its controller: what it sees, and how far it and its members are.

use std::sync::Arc;
use std::time::Duration;

use config::resource::Name;
use config::wire::{Ack, AgentSequence, Entries, Rejection, RevisionPair, TrustReport, WorkloadsReport};
use config::world::{ClusterGateways, Fact};
use identity::ca::IssuingCa;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::control::ControlView;
use super::roster::Roster;
use super::services::Sighting;
use super::standing::{Standing, Standings, Visited};
use super::workloads::Outstanding;
use crate::member::holdings::Held;
use crate::sync::Published;
use crate::sync::client::Seen;

/// Changes that come together are reported together.
const TOGETHER: Duration = Duration::from_millis(20);
/// A report is sent so often, even if nothing changed but how long ago members were heard.
const REPORT: Duration = Duration::from_secs(5);

/// What is seen: the services, and where the cluster's gateways say that they are reached.
pub(super) struct Seeing {
    pub(super) cluster: Name,
    pub(super) roster: Arc<Roster>,
    pub(super) sightings: watch::Receiver<Arc<Sighting>>,
}

impl Seeing {
    /// All that is seen now, as the first of an agent's life.
    pub(super) fn first(&mut self, incarnation: u64) -> Seen {
        Seen { at: AgentSequence { incarnation, sequence: 1 }, entries: Arc::new(self.entries()) }
    }

    /// Publishes what is seen, for ever.
    pub(super) async fn watch(mut self, seen: watch::Sender<Arc<Seen>>) {
        let mut roster = self.roster.changes();
        roster.mark_changed(); // something may have changed since the first was made
        loop {
            tokio::select! {
                Ok(()) = roster.changed() => {}
                Ok(()) = self.sightings.changed() => {}
                else => return,
            }
            roster.borrow_and_update();
            let entries = self.entries();
            seen.send_if_modified(|last| {
                let changed = *last.entries != entries;
                if changed {
                    let at = AgentSequence { sequence: last.at.sequence + 1, ..last.at };
                    *last = Arc::new(Seen { at, entries: Arc::new(entries) });
                }
                changed
            });
        }
    }

    fn entries(&mut self) -> Entries {
        let mut entries = self.sightings.borrow_and_update().entries.clone();
        let gateways = self.roster.gateways();
        if !gateways.is_empty() {
            let fact = Fact::Gateways(Arc::new(ClusterGateways { cluster: self.cluster.clone(), gateways }));
            entries.extend(fact.entry().ok());
        }
        entries
    }
}

/// Whom the agent believes, and what it holds.
pub(super) struct Holding {
    /// Towards its controller.
    pub(super) own: watch::Receiver<Option<TrustReport>>,
    /// In each GNS, as the world says.
    pub(super) standings: watch::Receiver<Arc<Standings>>,
    /// Its issuing CAs.
    pub(super) issuing: watch::Receiver<Arc<Held<IssuingCa>>>,
    /// Of GNSs of which the cluster is no member.
    pub(super) visited: watch::Receiver<Arc<Visited>>,
    /// What the certificates of workloads need.
    pub(super) workloads: watch::Receiver<Arc<Outstanding>>,
    /// The cluster's control CA.
    pub(super) control: watch::Receiver<Arc<ControlView>>,
}

impl Holding {
    async fn changed(&mut self) {
        tokio::select! {
            _ = self.own.changed() => {}
            _ = self.standings.changed() => {}
            _ = self.issuing.changed() => {}
            _ = self.visited.changed() => {}
            _ = self.workloads.changed() => {}
            _ = self.control.changed() => {}
        }
    }

    fn report(&mut self) -> Vec<TrustReport> {
        let own = self.own.borrow_and_update().clone();
        let (standings, issuing) =
            (self.standings.borrow_and_update().clone(), self.issuing.borrow_and_update().clone());
        let visited = self.visited.borrow_and_update().clone();
        // Last: what was issued below the CAs above is in it.
        let workloads = self.workloads.borrow_and_update().clone();
        let of = |(gns, standing): (&Name, &Standing)| TrustReport {
            global_namespace: Some(gns.clone()),
            roots: standing.roots.clone(),
            certificate: issuing.get(gns).map(|held| held.report().clone()),
            workloads: of_workloads(workloads.get(gns), false),
            visitors: of_workloads(workloads.get(gns), true),
        };
        let of_visited = |(gns, roots): (&Name, &Vec<String>)| TrustReport {
            global_namespace: Some(gns.clone()),
            roots: roots.clone(),
            certificate: None,
            workloads: vec![],
            visitors: of_workloads(workloads.get(gns), true),
        };
        own.into_iter().chain(standings.iter().map(of)).chain(visited.iter().map(of_visited)).collect()
    }
}

/// What is told of workloads of the GNS, or of those of others that only believe in it.
fn of_workloads(all: Option<&Vec<WorkloadsReport>>, visitors: bool) -> Vec<WorkloadsReport> {
    all.into_iter().flatten().filter(|report| report.below.is_empty() == visitors).cloned().collect()
}

/// How far the cluster is.
pub(super) struct Reporting {
    pub(super) roster: Arc<Roster>,
    pub(super) sightings: watch::Receiver<Arc<Sighting>>,
    /// What members are told, and so what the agent acts on.
    pub(super) feed: watch::Receiver<Arc<Published>>,
    /// What of it the agent couldn't read.
    pub(super) unread: watch::Receiver<Arc<Vec<Rejection>>>,
    pub(super) holding: Holding,
}

impl Reporting {
    /// Reports, for ever.
    pub(super) async fn report(mut self, ack: watch::Sender<Ack>) {
        let mut roster = self.roster.changes();
        let mut due = Instant::now();
        loop {
            self.roster.expire();
            roster.borrow_and_update();
            let newest = self.ack();
            let overdue = due <= Instant::now();
            if overdue {
                due = Instant::now() + REPORT;
            }
            ack.send_if_modified(|last| {
                let changed = overdue || !says_the_same(last, &newest);
                if changed {
                    *last = newest;
                }
                changed
            });
            tokio::select! {
                _ = roster.changed() => {}
                _ = self.sightings.changed() => {}
                _ = self.feed.changed() => {}
                _ = self.unread.changed() => {}
                () = self.holding.changed() => {}
                () = sleep(REPORT) => {}
            }
            sleep(TOGETHER).await;
        }
    }

    fn ack(&mut self) -> Ack {
        let at: RevisionPair = self.feed.borrow_and_update().revision;
        let mut rejected = self.sightings.borrow_and_update().rejected.clone();
        rejected.extend(self.unread.borrow_and_update().iter().cloned());
        let control = Some(self.holding.control.borrow_and_update().report.clone());
        let (members, trust) = (self.roster.reports(), self.holding.report());
        Ack { at, rejected, members, trust, control, ..Ack::default() }
    }
}

/// Whether two reports differ in nothing but how long ago members were heard.
fn says_the_same(one: &Ack, other: &Ack) -> bool {
    let timeless = |ack: &Ack| {
        let mut ack = ack.clone();
        ack.members.iter_mut().for_each(|member| member.silent_for_ms = 0);
        ack
    };
    timeless(one) == timeless(other)
}
