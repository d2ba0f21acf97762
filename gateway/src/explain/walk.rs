//! The way of one request through this gateway: in by its door, decided on by its head, and on to instances or peers.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::explain::{Answer, Asked, Hop, Onward, Step, Tunnelled, Verdict};
use config::resource::Name;
use decide::balance::By;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue};
use identity::SpiffeId;
use tokio::time::Instant;

use super::patience::QUESTION;
use super::reasons::{Refused, malformed};
use super::{door, instances, peering};
use crate::choose::{self, Candidate, Wanted, Way};
use crate::exchange::{Door, Entry};
use crate::http1;
use crate::plan::{Plan, Pool};
use crate::request::{self, Foreseen};
use crate::runtime::Core;
use crate::stream;
use crate::tunnel::metadata::{self, Metadata};
use crate::tunnel::pool::Peer;

/// As the gateway that the request reaches first.
pub(super) async fn request(core: &Core, plan: &Plan, asked: &Asked) -> Answer {
    let mut answer = Answer::default();
    if let Err(end) = walk(core, plan, asked, &mut answer).await {
        answer.steps.push(end);
    }
    answer
}

async fn walk(core: &Core, plan: &Plan, asked: &Asked, answer: &mut Answer) -> Result<(), Step> {
    let until = Instant::now() + QUESTION;
    let entry = door::enter(core, plan, asked, &mut answer.steps)?;
    if let Some(wanted) = stream::foresee(plan, &entry) {
        let refused = Refused { plan, entry: &entry, authority: &asked.authority, target: "/" };
        let wanted = wanted.map_err(|refusal| refused.step(refusal))?;
        let what = format!("{} is passed through to {}", asked.authority, instances::name(&wanted.service));
        answer.steps.push(Step::ok(Hop::Route, what));
        let way = Admitted { asked, entry: &entry, wanted, target: "/".to_owned(), until };
        return onward(core, plan, &way, answer).await;
    }
    let foreseen = decide(core, plan, (&asked.method, &asked.target, &asked.authority), &entry, None)?;
    let (wanted, target) = match foreseen {
        Foreseen::Service(wanted, target) => (wanted, target),
        Foreseen::Redirect(url) => {
            answer.steps.push(Step::ok(Hop::Route, format!("the caller is sent to {url}: ask about that")));
            return Ok(());
        }
        Foreseen::Report => return Err(Step::failed(Hop::Route, "that path is for gateways among themselves")),
    };
    let service = instances::name(&wanted.service);
    let route = Step::ok(Hop::Route, format!("{}{target} leads to port {} of {service}", asked.authority, wanted.port));
    answer.steps.push(match &wanted.published {
        Some(host) => route.about(&host.public_service),
        None => route.about(&service),
    });
    answer.steps.push(access(&entry, &wanted));
    onward(core, plan, &Admitted { asked, entry: &entry, wanted, target, until }, answer).await
}

/// What the functions that serve requests decide about this one, which a peer sends where there is metadata.
fn decide(
    core: &Core,
    plan: &Plan,
    (method, target, authority): (&str, &str, &str),
    entry: &Entry,
    metadata: Option<&Metadata<'_>>,
) -> Result<Foreseen, Step> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    let mut marks = HeaderMap::new();
    metadata.inspect(|metadata| metadata.write(&mut marks));
    for (name, value) in &marks {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    let limits = core.settings.limits.head(&entry.door);
    let head = http1::head::of(bytes, &limits).map_err(malformed)?;
    let refused = Refused { plan, entry, authority, target };
    request::foresee(core, plan, &head, entry).map_err(|refusal| refused.step(refusal))
}

fn access(entry: &Entry, wanted: &Wanted) -> Step {
    let service = instances::name(&wanted.service);
    let what = match (&entry.door, entry.door.caller()) {
        (_, Some(proven)) => format!("{} may call {service}", proven.id),
        (Door::Mesh { .. }, None) => format!("callers from {} may call {service}", entry.client),
        _ => format!("{service} is published to everybody"),
    };
    Step::ok(Hop::Access, what)
}

/// A request that may go on.
struct Admitted<'a> {
    asked: &'a Asked,
    entry: &'a Entry,
    wanted: Wanted,
    target: String,
    /// By when the answer is due.
    until: Instant,
}

/// Each cluster that it may go to. What fails where requests do not go now, only impairs.
async fn onward(core: &Core, plan: &Plan, way: &Admitted<'_>, answer: &mut Answer) -> Result<(), Step> {
    let wanted = &way.wanted;
    let table = core.peers.table().clone();
    let mut candidates = choose::candidates(&plan.snapshot.place.cluster, &table, wanted);
    let by = choose::share(wanted, &mut candidates);
    if let Some(scheme) = by.is_none().then(|| stranded(plan, wanted, &candidates)).flatten() {
        answer.steps.push(scheme);
    }
    // Beside one another: whoever asks waits for no longer than one of them takes.
    let walks = candidates.iter().map(async |candidate| match candidate.way {
        Way::Here(pool) => (here(plan, way, pool).await, None),
        Way::There(peers) => there(plan, way, candidate, peers).await,
    });
    for (candidate, (mut steps, onward)) in candidates.iter().zip(join_all(walks).await) {
        if candidate.weight == 0 && by.is_some() {
            steps.iter_mut().for_each(soften);
        }
        answer.steps.extend(steps);
        answer.onward.extend(onward.map(|onward| Onward { taken: candidate.weight > 0 || by.is_none(), ..onward }));
    }
    if by == Some(By::Existence) {
        let what = format!(
            "nothing within reach of {} is healthy: requests are tried all the same",
            instances::name(&wanted.service)
        );
        answer.steps.push(Step::new(Hop::Endpoint, Verdict::Impaired, what).about(instances::name(&wanted.service)));
    }
    unknown_gateways(plan, wanted, &candidates, by.is_some()).into_iter().for_each(|step| answer.steps.push(step));
    let told = answer.steps.iter().any(|step| matches!(step.verdict, Verdict::Failed | Verdict::Unknown));
    if by.is_none() && !told && answer.onward.is_empty() {
        answer.steps.push(instances::none(plan, wanted));
    }
    Ok(())
}

fn soften(step: &mut Step) {
    if step.verdict != Verdict::Ok {
        step.verdict = Verdict::Impaired;
    }
}

/// Why no cluster takes it, where no candidate says so itself.
fn stranded(plan: &Plan, wanted: &Wanted, candidates: &[Candidate<'_>]) -> Option<Step> {
    let service = instances::name(&wanted.service);
    if let Some(host) = wanted
        .published
        .as_ref()
        .filter(|_| candidates.iter().any(|candidate| candidate.reachable && candidate.instances > 0))
    {
        return Some(
            Step::failed(
                Hop::Route,
                format!(
                    "the scheme of host {} allows none of the clusters with instances of {service} within reach",
                    host.host
                ),
            )
            .about(&host.public_service)
            .remedy("name such a cluster in the host's scheme"),
        );
    }
    let elsewhere = wanted.service.service.remote.keys().next().is_some();
    (candidates.is_empty() && !elsewhere).then(|| {
        Step::failed(
            Hop::Endpoint,
            format!("{service} has no instance anywhere, as far as {} knows", plan.snapshot.place.cluster),
        )
        .about(&service)
        .remedy("start one, or correct the instances in the Service's manifest")
    })
}

/// The clusters that have the service, but no gateway that is known here.
fn unknown_gateways(plan: &Plan, wanted: &Wanted, candidates: &[Candidate<'_>], others: bool) -> Vec<Step> {
    if wanted.reach == choose::Reach::Here {
        return Vec::new();
    }
    let reached = |cluster: &&Name| match &wanted.reach {
        choose::Reach::Cluster(only) => *cluster == only,
        _ => true,
    };
    let remote = wanted.service.service.remote.keys().filter(reached);
    let missing = remote.filter(|cluster| !candidates.iter().any(|candidate| candidate.cluster == *cluster));
    let steps = missing.map(|cluster| {
        let mut step = peering::unpeered(plan, cluster);
        if others {
            soften(&mut step);
        }
        step
    });
    steps.collect()
}

/// To instances of this cluster. That it has none is nothing to tell where others have some, unless they should be here.
async fn here(plan: &Plan, Admitted { wanted, until, .. }: &Admitted<'_>, pool: &Pool) -> Vec<Step> {
    let elsewhere = wanted.reach == choose::Reach::Everywhere && !wanted.service.service.remote.is_empty();
    match pool.targets.is_empty() && elsewhere && wanted.service.service.left_out.is_empty() {
        true => Vec::new(),
        false => instances::walk(plan, wanted, pool, *until).await,
    }
}

/// Through tunnels to a cluster's gateways.
async fn there(
    plan: &Plan,
    way: &Admitted<'_>,
    candidate: &Candidate<'_>,
    peers: &[Arc<Peer>],
) -> (Vec<Step>, Option<Onward>) {
    // By whom requests get there: where one gateway should be another may answer.
    let live: BTreeSet<Name> = peers.iter().filter(|peer| peer.is_live()).map(|peer| peer.reached()).collect();
    let mut steps = Vec::new();
    let ways = peers.iter().map(async |peer| (peer.is_live(), peering::way(plan, peer, way.until).await));
    for (is_live, mut found) in join_all(ways).await {
        if !live.is_empty() && !is_live {
            found.iter_mut().for_each(soften);
        }
        steps.extend(found);
    }
    let (cluster, service) = (candidate.cluster, instances::name(&way.wanted.service));
    if !live.is_empty() && candidate.healthy == 0 {
        // They say themselves why.
        let what = format!("the gateways of cluster {cluster} report no healthy instance of {service}");
        steps.push(Step::new(Hop::Endpoint, Verdict::Impaired, what).about(&service));
    }
    let question = (!live.is_empty()).then(|| question(plan, way)).flatten();
    let gateways = live.into_iter().collect();
    let onward = question.map(|question| Onward { cluster: cluster.clone(), gateways, taken: true, question });
    (steps, onward)
}

/// What the gateways of the other cluster are to be asked.
fn question(plan: &Plan, way: &Admitted<'_>) -> Option<Tunnelled> {
    let (wanted, service) = (&way.wanted, &way.wanted.service.service);
    let shown = wanted.from.as_ref().unwrap_or(&service.global_namespace);
    Some(Tunnelled {
        method: way.asked.method.clone(),
        authority: way.asked.authority.clone(),
        target: way.target.clone(),
        global_namespace: service.global_namespace.clone(),
        service: service.name.clone(),
        port: wanted.port,
        version: wanted.version.clone(),
        peer: plan.own.get(shown)?.identity.id().to_string(),
        source: way.entry.door.caller().map(|proven| proven.id.to_string()),
    })
}

/// As a gateway of the cluster that shall deliver the request.
pub(super) async fn tunnelled(core: &Core, plan: &Plan, asked: &Tunnelled) -> Answer {
    let until = Instant::now() + QUESTION;
    let steps = match delivered(core, plan, asked) {
        Ok(wanted) => {
            let service = instances::name(&wanted.service);
            let mut steps = vec![Step::ok(Hop::Access, format!("takes requests for {service} from {}", asked.peer))];
            let port = wanted.service.ports.get(&wanted.port);
            match port.and_then(|port| port.pool(wanted.version.as_ref(), wanted.from.is_some())) {
                Some(pool) => steps.extend(instances::walk(plan, &wanted, pool, until).await),
                None => steps.push(instances::none(plan, &wanted)),
            }
            steps
        }
        Err(end) => vec![end],
    };
    Answer { steps, ..Answer::default() }
}

fn delivered(core: &Core, plan: &Plan, asked: &Tunnelled) -> Result<Wanted, Step> {
    let unreadable = || Step::unknown(Hop::Tunnel, "the question of the other cluster's gateway makes no sense here");
    let peer: SpiffeId = asked.peer.parse().map_err(|_| unreadable())?;
    let source = asked.source.as_deref().map(HeaderValue::from_str).transpose().map_err(|_| unreadable())?;
    let door = Door::Tunnel { global_namespace: asked.global_namespace.clone(), peer: Arc::new(peer) };
    let entry = Entry::new(door, std::net::Ipv4Addr::UNSPECIFIED.into(), asked.port);
    let (cluster, service) = (metadata::value(&plan.snapshot.place.cluster), metadata::value(&asked.service));
    let metadata = Metadata {
        cluster: &cluster,
        service: &service,
        port: asked.port,
        version: asked.version.as_ref(),
        attempt: 1,
        source: source.as_ref(),
    };
    let head = (&*asked.method, &*asked.target, &*asked.authority);
    match decide(core, plan, head, &entry, Some(&metadata))? {
        Foreseen::Service(wanted, _) => Ok(wanted),
        Foreseen::Redirect(_) | Foreseen::Report => Err(unreadable()),
    }
}
