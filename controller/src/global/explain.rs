//! The way of a request through the mesh, joined from what each data plane on it answers.

use config::explain::{Answer, Explanation, Hop, Question, Step};
use config::resource::Name;
use config::wire::{MemberReport, MemberRole};
use futures_util::future::join_all;

use super::asking::NoAnswer;
use super::core::Core;
use crate::access::{Oversee, Permit};

impl Core {
    /// Lets each gateway of a cluster test each step towards those of another.
    pub(crate) async fn peering(&self, _: &Permit<Oversee>, from: &Name, to: &Name) -> Explanation {
        let gateways = self.members_of(from, MemberRole::Gateway);
        if gateways.is_empty() {
            return Explanation::of(vec![no_gateway(from)]);
        }
        let question = Question::Peering { cluster: to.clone() };
        let tested = gateways.iter().map(async |gateway| match self.ask(from, &gateway.name, &question).await {
            Ok(answer) => signed(answer, from, &gateway.name).steps,
            Err(reason) => vec![unasked(from, gateway, &reason)],
        });
        Explanation::of(join_all(tested).await.concat())
    }
}

/// Says who answered.
fn signed(answer: Answer, cluster: &Name, member: &Name) -> Answer {
    let by = |step: Step| step.by(format_args!("{cluster}/{member}"));
    Answer { steps: answer.steps.into_iter().map(by).collect(), ..answer }
}

/// A member that could not be asked.
fn unasked(cluster: &Name, member: &MemberReport, reason: &NoAnswer) -> Step {
    let what = format!("{cluster}/{} could not be asked: {reason}", member.name);
    let remedy = match reason {
        NoAnswer::AgentAway(_) => "start the agent, or see what it logs; `tombolo status` shows since when it is away",
        _ => "see whether it runs, and what it logs; `tombolo status` shows since when it is away",
    };
    Step::unknown(Hop::Member, what).about(format_args!("Cluster/{cluster}")).remedy(remedy)
}

fn no_gateway(cluster: &Name) -> Step {
    Step::failed(Hop::Member, format!("cluster {cluster} has no gateway"))
        .about(format_args!("Cluster/{cluster}"))
        .remedy(format!("start one with `tombolo gateway` and the member token of the agent of {cluster}"))
}
