//! Members that are gone for good: their agent is told to wait for them no more.

use std::time::Duration;

use config::resource::Name;
use config::wire::{Forget, Forgotten, Json, MemberReport};

use super::core::Core;
use super::error::Error;
use crate::access::{Administer, Permit};

/// An agent has so long to answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Core {
    /// Whether the member may be forgotten; if so, that is written down. Blocks.
    pub(crate) fn check_forget(&self, permit: &Permit<Administer>, cluster: &Name, member: &Name) -> Result<(), Error> {
        let known = self.report_of(cluster, member);
        let known = known.ok_or_else(|| {
            let text = format!("cluster {cluster} has no member {member}: `tombolo status` lists those that there are");
            Error::Conflict(text)
        })?;
        if known.connected {
            let text = format!(
                "{cluster}/{member} is connected, and would be a member again at once: stop it, or shut it out with \
                 `tombolo certs revoke --cluster {cluster} --gateway {member}`"
            );
            return Err(Error::Conflict(text));
        }
        Ok(self.audit.record(&permit.entry("member.forget").on(format_args!("{cluster}/{member}")))?)
    }

    fn report_of(&self, cluster: &Name, member: &Name) -> Option<MemberReport> {
        let report = self.reports().remove(cluster)?;
        report.ack.members.iter().find(|known| known.name == *member).cloned()
    }

    /// Has the cluster's agent forget a member.
    pub(crate) async fn forget(&self, cluster: &Name, member: &Name) -> Result<(), Error> {
        let asker = self.state().links.get(cluster).filter(|link| link.connected).map(|link| link.asker.clone());
        let away = || {
            let text = format!(
                "the agent of {cluster} is not connected, and only it can forget a member; after 10 minutes without it \
                 nobody waits for its members any more"
            );
            Error::Conflict(text)
        };
        let question =
            Json::of(&Forget { forget: member.clone() }).map_err(|error| Error::Internal(error.to_string()))?;
        let told = asker.ok_or_else(away)?.ask(None, question, PATIENCE).await;
        let told = told.map_err(|why| not_forgotten(cluster, member, why))?;
        let Forgotten { forgotten } = told.read().map_err(|error| not_forgotten(cluster, member, error))?;
        if !forgotten {
            return Err(not_forgotten(cluster, member, "it is connected again"));
        }
        tracing::info!(%cluster, %member, "a member is forgotten");
        Ok(())
    }
}

fn not_forgotten(cluster: &Name, member: &Name, why: impl std::fmt::Display) -> Error {
    Error::Conflict(format!("the agent of {cluster} did not forget {member}: {why}"))
}
