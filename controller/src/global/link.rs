//! What the stream of each cluster's agent shows: whether it is there, and how far it and its members are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::resource::Name;
use config::wire::{Ack, Hello, MemberReport, PeerReport};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use crate::sync::Published;
use crate::sync::relay::Asker;

/// The agents and members of every cluster that is in the mesh.
pub(crate) type Reports = BTreeMap<Name, LinkReport>;

/// The newest stream of one cluster's agent, living or lost.
pub(crate) struct Link {
    /// Which stream.
    pub(crate) stream: u64,
    pub(crate) hello: Hello,
    pub(crate) connected: bool,
    pub(crate) heard: Instant,
    /// What the agent said last of itself and its members, and when.
    pub(crate) ack: Option<(Arc<Ack>, Instant)>,
    pub(crate) feed: watch::Sender<Arc<Published>>,
    /// By which its members are asked.
    pub(crate) asker: Asker,
    pub(crate) end: CancellationToken,
}

/// What is known now of a cluster's agent and members.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkReport {
    /// Whether the agent's stream is up.
    pub(crate) connected: bool,
    /// Whether the agent was heard at all since this controller started.
    pub(crate) heard: bool,
    /// Whether it has said since its stream is up how far it and its members are.
    pub(crate) told: bool,
    /// How long ago the agent was last heard; since the controller started if never.
    pub(crate) silent_for: Duration,
    /// The agent's release.
    pub(crate) version: String,
    /// What the agent said last.
    pub(crate) ack: Arc<Ack>,
    /// Gateways in whose place another answers, as the members that are there see it now.
    pub(crate) misplaced: Vec<PeerReport>,
}

impl Link {
    /// What is known as of `now`: while the agent is away, its members are as unheard as it is.
    pub(crate) fn report(&self, now: Instant) -> LinkReport {
        let (mut ack, at) = self.ack.clone().unwrap_or_else(|| (Arc::default(), now));
        let age = now.saturating_duration_since(at);
        // Copied only where somebody is silent: there may be much in it.
        if !self.connected || ack.members.iter().any(|member| !member.connected) {
            Arc::make_mut(&mut ack).members.iter_mut().for_each(|member| grow_old(member, age, self.connected));
        }
        let there = ack.members.iter().filter(|member| member.connected);
        let peers = there.flat_map(|member| member.peers.iter());
        LinkReport {
            misplaced: peers.filter(|peer| peer.answered_by.is_some()).cloned().collect(),
            connected: self.connected,
            heard: true,
            told: self.ack.is_some(),
            silent_for: now.saturating_duration_since(self.heard),
            version: self.hello.version.clone(),
            ack,
        }
    }
}

impl Core {
    /// The agents and members of every cluster that has joined, as of now.
    pub(crate) fn reports(&self) -> Reports {
        let now = Instant::now();
        let unheard = LinkReport { silent_for: now.saturating_duration_since(self.began), ..LinkReport::default() };
        let enrolled = self.enrolments.clusters().into_iter();
        let mut reports: Reports = enrolled.map(|cluster| (cluster, unheard.clone())).collect();
        reports.extend(self.state().links.iter().map(|(cluster, link)| (cluster.clone(), link.report(now))));
        reports
    }
}

/// While the agent is connected it reports each change of its members, so their silence is as it said.
fn grow_old(member: &mut MemberReport, age: Duration, agent_connected: bool) {
    if !agent_connected || !member.connected {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        member.silent_for_ms = member.silent_for_ms.saturating_add(age);
        member.connected = false;
    }
}
