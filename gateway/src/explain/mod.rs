//! Why a request gets through this gateway, or doesn't: the live plan is walked by the functions that serve requests, and
//! what is beyond it is tried.
//!
//! ```text
//! door.rs       is there a port, and who speaks TLS on it?    caller.rs: for whom
//! walk.rs       what is decided about the head                reasons.rs: why it is refused
//! instances.rs  do this cluster's instances answer?           peering.rs: do the other clusters' gateways?
//! patience.rs   how long is an answer waited for?
//! ```

mod caller;
mod certificate;
mod door;
mod instances;
mod patience;
mod peering;
mod reasons;
mod walk;

use std::time::Duration;

use config::explain::{Answer, Question};

use crate::runtime::Core;

/// Answers a question. Nothing of it is counted, logged, or taken for evidence about anybody's health.
pub async fn answer(core: &Core, question: Question) -> Answer {
    let plan = core.plan.get();
    let answer = match question {
        Question::Request(asked) => walk::request(core, &plan, &asked).await,
        Question::Tunnelled(asked) => walk::tunnelled(core, &plan, &asked).await,
        Question::Peering { cluster, within_ms } => {
            let within = Duration::from_millis(within_ms);
            Answer { steps: peering::test(core, &plan, &cluster, within).await, ..Answer::default() }
        }
        Question::Name { .. } | Question::Unknown => Answer::default(),
    };
    Answer { at: plan.snapshot.revision, ..answer }
}
