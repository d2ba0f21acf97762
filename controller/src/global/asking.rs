//! Questions to the members of clusters, by way of their agents.

use std::time::Duration;

use config::explain::{Answer, Question};
use config::resource::Name;
use config::wire::{Json, MemberReport, MemberRole, Unanswered};

use super::core::Core;

/// Why a member gives no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Its agent's stream is lost, so that nobody can ask it.
    #[error("the agent of cluster {0} is not connected to the controller")]
    AgentAway(Name),
    /// It wasn't answered.
    #[error("{0}")]
    Unanswered(Unanswered),
    /// It makes no sense here.
    #[error("its answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Core {
    /// The members of this role that a cluster's agent has not given up.
    pub(super) fn members_of(&self, cluster: &Name, role: MemberRole) -> Vec<MemberReport> {
        let state = self.state();
        let ack = state.links.get(cluster).and_then(|link| link.ack.as_ref());
        let members = ack.into_iter().flat_map(|(ack, _)| &ack.members);
        members.filter(|member| member.role == role && !member.absent).cloned().collect()
    }

    /// Asks a member of a cluster, and waits so long for its answer.
    pub(super) async fn ask(
        &self,
        cluster: &Name,
        member: &Name,
        question: &Question,
        patience: Duration,
    ) -> Result<Answer, NoAnswer> {
        let connected = self.state().links.get(cluster).filter(|link| link.connected).map(|link| link.asker.clone());
        let asker = connected.ok_or_else(|| NoAnswer::AgentAway(cluster.clone()))?;
        let answer = asker.ask(Some(member.clone()), Json::of(question)?, patience).await;
        Ok(answer.map_err(NoAnswer::Unanswered)?.read()?)
    }
}
