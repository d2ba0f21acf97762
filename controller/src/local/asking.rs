//! What the controller asks a member passes through the agent unread.

use std::sync::Arc;

use config::wire::{Ask, Unanswered};

use super::roster::Roster;
use crate::sync::relay::{Answerer, ONWARD, outcome};

/// Passes questions on to the members of this roster.
pub(super) fn answerer(roster: Arc<Roster>) -> Answerer {
    Arc::new(move |ask| {
        let roster = Arc::clone(&roster);
        Box::pin(async move { outcome(pass(&roster, ask).await) })
    })
}

async fn pass(roster: &Roster, ask: Ask) -> Result<config::wire::Json, Unanswered> {
    // Of itself an agent answers nothing.
    let member = ask.member.ok_or(Unanswered::Unable)?;
    let asker = roster.asker(&member).ok_or(Unanswered::Away)?;
    let within = std::time::Duration::from_millis(ask.within_ms).saturating_sub(ONWARD);
    asker.ask(None, ask.question, within).await
}
