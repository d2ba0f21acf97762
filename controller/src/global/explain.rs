//! The way of a request through the mesh, joined from what each data plane on it answers: DNS, then the gateways that it
//! names, then, over tunnels, those of other clusters. Nothing is decided here; what the desired state knows of a failing
//! step is added.

mod addresses;
mod refine;
mod scope;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use config::explain::{Answer, Explanation, Hop, Onward, Question, Step, Verdict};
use config::resource::Name;
use config::wire::{MemberReport, MemberRole};
use futures_util::future::join_all;
use serde::Deserialize;

use self::addresses::{Addresses, Closed, Owner};
use self::refine::Refinery;
use self::scope::{Scope, scope};
use super::asking::NoAnswer;
use super::core::Core;
use super::error::Error;
use crate::access::{Inspect, Oversee, Permit};

/// A member's answer about a request is waited for so long: two of them, one after the other, and what is between take
/// under 2 s.
const PATIENCE: Duration = Duration::from_millis(900);
/// And its answer about peers: the steps to them may be long ones.
const FAR: Duration = Duration::from_millis(4_800);
/// So long these may take, in milliseconds; the rest is for the way there and back.
const STEPS_MS: u64 = 4_500;
/// No more gateways are asked of a cluster, nor clusters of gateways.
const MOST_MEMBERS: usize = 16;
/// No more steps are taken from one of them.
const MOST_STEPS: usize = 512;

/// What somebody wants to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Explain {
    /// The method.
    pub method: String,
    /// Where the request goes.
    pub url: String,
    /// Who calls, as [`Origin`](config::explain::Origin) has it; nobody of the mesh unless given.
    #[serde(default)]
    pub from: Option<String>,
    /// The address to which the caller's resolver led it, instead of what the mesh's DNS servers answer.
    #[serde(default)]
    pub at: Option<IpAddr>,
}

impl Core {
    /// Asks the data planes on the way of a request. Takes under 2 s, whoever doesn't answer.
    ///
    /// # Errors
    /// When it is not clear what is asked, or it isn't for the caller to know.
    pub(crate) async fn explain(&self, permit: &Permit<Inspect>, explain: &Explain) -> Result<Explanation, Error> {
        let view = self.view();
        let scope = match scope(&view, permit, explain)? {
            Ok(scope) => scope,
            Err(step) => return Ok(Explanation::of(vec![step.by("controller")])),
        };
        let walk = Walk { core: self, scope: &scope, addresses: Addresses::of(&view, &scope) };
        let steps = walk.steps().await;
        let world = view.world();
        Ok(Explanation::of(Refinery::new(&view, &world, &scope).refine(steps)))
    }

    /// Lets each gateway of a cluster test each step towards those of another. Takes under 5 s.
    pub(crate) async fn peering(&self, _: &Permit<Oversee>, from: &Name, to: &Name) -> Explanation {
        let gateways = self.members_of(from, MemberRole::Gateway);
        if gateways.is_empty() {
            return Explanation::of(vec![no_gateway(from)]);
        }
        let question = Question::Peering { cluster: to.clone(), within_ms: STEPS_MS };
        let tested = gateways.iter().take(MOST_MEMBERS).map(async |gateway| {
            match self.ask(from, &gateway.name, &question, FAR).await {
                Ok(answer) => signed(answer, from, &gateway.name).steps,
                Err(reason) => vec![unasked(from, gateway, &reason)],
            }
        });
        Explanation::of(join_all(tested).await.concat())
    }
}

/// A member, and what it answered.
struct Asked {
    cluster: Name,
    member: MemberReport,
    answer: Result<Answer, NoAnswer>,
}

impl Asked {
    fn is(&self, owner: &Owner) -> bool {
        self.cluster == owner.cluster && self.member.name == owner.gateway
    }
}

struct Walk<'w> {
    core: &'w Core,
    scope: &'w Scope,
    addresses: Addresses,
}

impl Walk<'_> {
    async fn steps(&self) -> Vec<Step> {
        let name = Question::Name { name: self.scope.asked.host(), port: self.scope.asked.port };
        let request = Question::Request(self.scope.asked.clone());
        // At the same time: which of the gateways count is known when both have answered.
        let (servers, gateways) =
            tokio::join!(self.ask_all(MemberRole::Dns, &name), self.ask_all(MemberRole::Gateway, &request),);
        let mut steps = Vec::new();
        let named = self.named(&servers, &mut steps);
        let first = self.entered(&named, &servers, gateways, &mut steps);
        steps.extend(self.onward(first).await);
        steps
    }

    async fn ask_all(&self, role: MemberRole, question: &Question) -> Vec<Asked> {
        let members = self.scope.clusters.iter().flat_map(|cluster| {
            let members = self.core.members_of(cluster, role);
            members.into_iter().take(MOST_MEMBERS).map(move |member| (cluster.clone(), member))
        });
        let asked = members.map(async |(cluster, member)| {
            let answer = self.core.ask(&cluster, &member.name, question, PATIENCE).await;
            Asked { answer: answer.map(|answer| signed(answer, &cluster, &member.name)), cluster, member }
        });
        join_all(asked).await
    }

    /// The addresses to which the name leads; nothing where nobody could say.
    fn named(&self, servers: &[Asked], steps: &mut Vec<Step>) -> BTreeSet<IpAddr> {
        let mut named = BTreeSet::new();
        for Asked { cluster, member, answer } in servers {
            match answer {
                Ok(answer) => {
                    steps.extend(answer.steps.iter().cloned());
                    named.extend(&answer.addresses);
                    steps.extend(self.behind(cluster, member, answer));
                }
                Err(_) if self.scope.at.is_some() => {}
                Err(reason) => steps.push(unasked(cluster, member, reason)),
            }
        }
        if let Some(at) = self.scope.at {
            if !named.is_empty() && !named.contains(&at) {
                steps.push(self.stale(at));
            }
            return [at].into();
        }
        if servers.is_empty() {
            steps.push(no_dns(&self.scope.clusters));
        }
        named
    }

    /// The caller's resolver says something else than the mesh.
    fn stale(&self, at: IpAddr) -> Step {
        let what = format!("{at} is not what the mesh's DNS servers answer for {}: stale DNS", self.scope.asked.host());
        let step = Step::failed(Hop::Dns, what).about(&self.scope.resource).by("controller");
        step.remedy(
            "let the caller's resolver ask the mesh's DNS servers, and wait until what it keeps has ended (TTL)",
        )
    }

    /// The gateways that the name leads to, as they answered; the others are told of if they are away.
    fn entered(
        &self,
        named: &BTreeSet<IpAddr>,
        servers: &[Asked],
        gateways: Vec<Asked>,
        steps: &mut Vec<Step>,
    ) -> Vec<Asked> {
        let closed = Closed::of(servers.iter().filter_map(|server| server.answer.as_ref().ok()));
        let mut owners = Vec::new();
        for address in named {
            match self.addresses.owner(*address, closed.get(address).copied()) {
                Ok(owner) => owners.push(owner),
                Err(stale) => steps.push(stale.by("controller")),
            }
        }
        if gateways.is_empty() {
            steps.extend(self.scope.clusters.iter().map(no_gateway));
        }
        let all = named.is_empty();
        let (on_way, others): (Vec<_>, Vec<_>) =
            gateways.into_iter().partition(|asked| all || owners.iter().any(|owner| asked.is(owner)));
        for Asked { cluster, member, answer } in &others {
            if let Err(reason) = answer {
                let step = unasked(cluster, member, reason);
                steps.push(Step {
                    verdict: Verdict::Impaired,
                    what: format!("{}; DNS does not lead to it", step.what),
                    ..step
                });
            }
        }
        for asked in &on_way {
            let address = owners.iter().find(|owner| asked.is(owner)).map(|owner| owner.address);
            steps.extend(self.met(asked, address.and_then(|address| Some((address, *closed.get(&address)?)))));
        }
        on_way
    }

    /// What a gateway on the way says; `closed` is its address, where a DNS server could not connect to it.
    fn met(&self, asked: &Asked, closed: Option<(IpAddr, Closed)>) -> Vec<Step> {
        let Asked { cluster, member, answer } = asked;
        let unreachable = closed.map(|(address, closed)| {
            let port = self.scope.asked.port;
            let what = format!("{cluster}/{} {closed}: {address} port {port}", member.name);
            Step::new(Hop::Listener, closed.verdict(), what)
                .about(format_args!("Cluster/{cluster}"))
                .remedy("start the gateway to which the name leads; if it runs, see what is between")
                .by("controller")
        });
        match answer {
            Ok(answer) => {
                // It says itself what is wrong with its port.
                let told = answer.steps.iter().any(|step| step.verdict == Verdict::Failed);
                let behind = self.behind(cluster, member, answer).into_iter();
                behind.chain(answer.steps.clone()).chain(unreachable.filter(|_| !told)).collect()
            }
            Err(reason) => unreachable.into_iter().chain([unasked(cluster, member, reason)]).collect(),
        }
    }

    /// Whether a member answers by an older state than the one in which the resources on the way are as they are.
    fn behind(&self, cluster: &Name, member: &MemberReport, answer: &Answer) -> Option<Step> {
        let at = answer.at.global;
        let (id, revision) = self.scope.concerned.iter().find(|(_, revision)| *revision > at)?;
        let failed = answer.steps.iter().any(|step| step.verdict == Verdict::Failed);
        let verdict = if failed { Verdict::Failed } else { Verdict::Impaired };
        let what = format!("not yet acted on by {cluster}/{}, which is at revision {at} of {revision}", member.name);
        let remedy = "wait a moment; if it stays so, see what the agent and the member log";
        Some(Step::new(Hop::Member, verdict, what).about(id).remedy(remedy).by("controller"))
    }

    /// Whether what a gateway wants others to be asked is what was asked of it, in its own name: no gateway has those of
    /// another GNS, or of clusters that are none of the host's, say what they would do for whom it likes.
    fn may_ask(&self, cluster: &Name, gateway: &Name, onward: &Onward) -> bool {
        self.scope.may_ask((cluster, gateway), &onward.question)
            && self.core.view().members(&onward.question.global_namespace).contains(&onward.cluster)
    }

    /// What the gateways of other clusters say to which those may send the request.
    async fn onward(&self, first: Vec<Asked>) -> Vec<Step> {
        let first = first.into_iter().filter_map(|asked| Some((asked.cluster, asked.member.name, asked.answer.ok()?)));
        let further = first.flat_map(|(cluster, gateway, answer)| {
            answer.onward.into_iter().map(move |onward| (cluster.clone(), gateway.clone(), onward))
        });
        let mut questions: Vec<(Name, Name, bool, Question)> = Vec::new();
        for (_, _, Onward { cluster, gateways, taken, question }) in
            further.filter(|(cluster, gateway, onward)| self.may_ask(cluster, gateway, onward))
        {
            for gateway in gateways.into_iter().take(MOST_MEMBERS) {
                let question = (cluster.clone(), gateway, taken, Question::Tunnelled(question.clone()));
                if !questions.contains(&question) && questions.len() < MOST_MEMBERS * MOST_MEMBERS {
                    questions.push(question);
                }
            }
        }
        let walks = questions.iter().map(async |(cluster, gateway, taken, question)| {
            let mut steps = match self.core.ask(cluster, gateway, question, PATIENCE).await {
                Ok(answer) => signed(answer, cluster, gateway).steps,
                Err(reason) => vec![unanswered(cluster, gateway, &reason)],
            };
            if !taken {
                // Requests do not go there now.
                let impaired = steps.iter_mut().filter(|step| step.verdict != Verdict::Ok);
                impaired.for_each(|step| step.verdict = Verdict::Impaired);
            }
            steps
        });
        join_all(walks).await.concat()
    }
}

/// Says who answered.
fn signed(answer: Answer, cluster: &Name, member: &Name) -> Answer {
    let by = |step: Step| step.by(format_args!("{cluster}/{member}"));
    Answer { steps: answer.steps.into_iter().take(MOST_STEPS).map(by).collect(), ..answer }
}

fn unasked(cluster: &Name, member: &MemberReport, reason: &NoAnswer) -> Step {
    unanswered(cluster, &member.name, reason)
}

/// A member that could not be asked.
fn unanswered(cluster: &Name, member: &Name, reason: &NoAnswer) -> Step {
    let what = format!("{cluster}/{member} could not be asked: {reason}");
    let remedy = match reason {
        NoAnswer::AgentAway(_) => "start the agent, or see what it logs; `tombolo status` shows since when it is away",
        _ => "see whether it runs, and what it logs; `tombolo status` shows since when it is away",
    };
    Step::unknown(Hop::Member, what).about(format_args!("Cluster/{cluster}")).remedy(remedy).by("controller")
}

fn no_gateway(cluster: &Name) -> Step {
    Step::failed(Hop::Member, format!("cluster {cluster} has no gateway"))
        .about(format_args!("Cluster/{cluster}"))
        .remedy(format!("start one with `tombolo gateway` and the member token of the agent of {cluster}"))
        .by("controller")
}

fn no_dns(clusters: &[Name]) -> Step {
    let listed = clusters.iter().map(Name::to_string).collect::<Vec<_>>().join(", ");
    Step::unknown(Hop::Dns, format!("no DNS server of the mesh answers for {listed}: what the name means is not known"))
        .remedy("start one with `tombolo dns`, or say to which address the name leads: --at ADDRESS")
        .by("controller")
}
