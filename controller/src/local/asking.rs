//! What the controller asks a member passes through the agent unread; of itself an agent is asked only to forget one.

use std::sync::Arc;

use config::wire::{Ask, Forget, Forgotten, Json, Unanswered};

use super::roster::Roster;
use crate::sync::relay::{Answerer, ONWARD, outcome};

/// Passes questions on to the members of this roster.
pub(super) fn answerer(roster: Arc<Roster>) -> Answerer {
    Arc::new(move |ask| {
        let roster = Arc::clone(&roster);
        Box::pin(async move { outcome(pass(&roster, ask).await) })
    })
}

async fn pass(roster: &Roster, ask: Ask) -> Result<Json, Unanswered> {
    let Some(member) = ask.member else { return forget(roster, &ask.question) };
    let asker = roster.asker(&member).ok_or(Unanswered::Away)?;
    let within = std::time::Duration::from_millis(ask.within_ms).saturating_sub(ONWARD);
    asker.ask(None, ask.question, within).await
}

fn forget(roster: &Roster, question: &Json) -> Result<Json, Unanswered> {
    // Whatever else a newer controller asks is not known here.
    let Forget { forget } = question.read().map_err(|_| Unanswered::Unable)?;
    Json::of(&Forgotten { forgotten: roster.forget(&forget) }).map_err(|_| Unanswered::Other)
}
