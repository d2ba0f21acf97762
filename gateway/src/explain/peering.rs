//! The way to the gateways of other clusters, step by step: who we are, where they are, whether they answer, who they
//! are, whether they take tunnels, and what they say of themselves.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use config::explain::{Hop, Step, Verdict};
use config::resource::{Address, Name};
use futures_util::future::join_all;
use identity::Refusal;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use super::certificate::out_of_date;
use crate::plan::Plan;
use crate::runtime::Core;
use crate::tunnel::dial::{self, Secured, TunnelError};
use crate::tunnel::pool::{Means, Peer, PeerKey};

/// Each step towards a peer may take so long: on a way around the world, too.
const STEP: Duration = Duration::from_millis(1_500);
/// All steps together, whatever whoever asks would wait for.
const LONGEST: Duration = Duration::from_secs(5);
/// No more peers are tried.
const MOST_PEERS: usize = 128;

/// Tests each step towards the gateways of a cluster, in every GNS, whether there are tunnels or not.
pub(super) async fn test(core: &Core, plan: &Plan, cluster: &Name, within: Duration) -> Vec<Step> {
    let until = Instant::now() + within.min(LONGEST);
    let peers: Vec<_> = core.peers.all().into_iter().filter(|peer| peer.key.cluster == *cluster).collect();
    if peers.is_empty() {
        return vec![unpeered(plan, cluster)];
    }
    let tested = peers.iter().take(MOST_PEERS).map(async |peer| {
        let mut steps = dial(plan, peer, until).await;
        steps.push(health(peer));
        steps
    });
    let mut steps = join_all(tested).await.concat();
    if let Some(untried @ 1..) = peers.len().checked_sub(MOST_PEERS) {
        steps.push(Step::unknown(Hop::Tunnel, format!("{untried} more ways to cluster {cluster} were not tried")));
    }
    steps
}

/// Why there is no peer in a cluster.
pub(super) fn unpeered(plan: &Plan, cluster: &Name) -> Step {
    let step = |what: String| Step::failed(Hop::Tunnel, what).about(format_args!("Cluster/{cluster}"));
    let member = plan.snapshot.namespaces.values().any(|gns| gns.labels.contains_key(cluster));
    let gateways = plan.snapshot.gateways.get(cluster).filter(|gateways| !gateways.is_empty());
    match gateways.map(|gateways| gateways.iter().any(|gateway| gateway.east_west.is_some())) {
        _ if *cluster == plan.snapshot.place.cluster => step("this gateway is of that cluster itself".to_owned()),
        _ if !member => step(format!("cluster {cluster} has no global namespace in common with this one"))
            .remedy("let both be matched by spec.members of one GlobalNamespace; a revoked cluster is reinstated by `tombolo certs reinstate`"),
        Some(true) => step(format!("every gateway of cluster {cluster} is revoked"))
            .remedy("reinstate them with `tombolo certs reinstate`, or start others"),
        Some(false) => step(format!("no gateway of cluster {cluster} takes tunnels"))
            .remedy("start its gateways with an --east-west-port other than 0"),
        None => step(format!("no gateway of cluster {cluster} is known"))
            .remedy("start a gateway there; is the cluster's agent connected to the controller?"),
    }
}

/// A tunnel to a peer that is up is so; towards another each step is tried.
pub(super) async fn way(plan: &Plan, peer: &Arc<Peer>, until: Instant) -> Vec<Step> {
    match peer.is_live() {
        true => vec![health(peer)],
        false => {
            let mut steps = dial(plan, peer, until).await;
            if steps.iter().all(|step| step.verdict == Verdict::Ok) {
                // It would be up in a moment, unless the peer is leaving.
                steps.push(health(peer));
            }
            steps
        }
    }
}

/// How the tunnels to a peer are, and what it says over them.
fn health(peer: &Peer) -> Step {
    let (name, report) = (name(peer), peer.describe());
    let about = |step: Step| step.about(format_args!("Cluster/{}", peer.key.cluster));
    match (report.tunnels, peer.is_live(), &report.answered_by) {
        (0, ..) => {
            let fault = report.fault.unwrap_or_else(|| "it is being dialled".to_owned());
            about(Step::failed(Hop::Tunnel, format!("no tunnel to {name} is up: {fault}")))
                .remedy(format!("see `tombolo check peering {} {}`", "CLUSTER", peer.key.cluster))
        }
        (_, false, _) => about(Step::failed(Hop::Health, format!("{name} is stopping and takes no new requests")))
            .remedy("wait for its successor, or start the gateway again"),
        (tunnels, true, None) => Step::ok(Hop::Tunnel, format!("{tunnels} tunnels to {name} are up, and it beats")),
        (tunnels, true, Some(other)) => {
            let what = format!("{tunnels} tunnels to {name} are up, but lead to {other}");
            misplaced(&peer.key, Step::new(Hop::Tunnel, Verdict::Impaired, what))
        }
    }
}

/// Another gateway of the cluster answers where one should be.
fn misplaced(PeerKey { cluster, gateway, .. }: &PeerKey, step: Step) -> Step {
    step.about(format_args!("Cluster/{cluster}")).remedy(format!(
        "correct the address of {gateway} in spec.gateways of Cluster/{cluster}, or take it out; requests get through meanwhile"
    ))
}

fn name(peer: &Peer) -> String {
    let PeerKey { global_namespace, from, cluster, gateway } = &peer.key;
    match from {
        None => format!("{cluster}/{gateway} in {global_namespace}"),
        Some(from) => format!("{cluster}/{gateway} in {global_namespace} from {from}"),
    }
}

/// Opens a tunnel of its own, and says how far it came: to where the peer should be, or else where it may be, too.
async fn dial(plan: &Plan, peer: &Peer, until: Instant) -> Vec<Step> {
    let means = peer.current();
    if let Err(failure) = own(plan, peer, &means) {
        return vec![failure];
    }
    let name = name(peer);
    let stage = Stage { peer, name: &name, address: &means.place.address, until };
    let first = reach(&stage, &means);
    // Beside one another: neither takes the time of the other.
    let Some(other) = &means.place.or_else else { return first.await };
    let other = Stage { peer, name: &name, address: other, until };
    let (mut steps, others) = tokio::join!(first, reach(&other, &means));
    let failed = |steps: &[Step]| steps.iter().any(|step| step.verdict != Verdict::Ok);
    if failed(&steps) {
        if !failed(&others) {
            let wrong = steps.iter_mut().filter(|step| step.verdict != Verdict::Ok);
            wrong.for_each(|step| step.verdict = Verdict::Impaired);
        }
        steps.extend(others);
    }
    steps
}

async fn reach(stage: &Stage<'_>, means: &Means) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Err(failure) = attempt(stage, means, &mut steps).await {
        steps.push(failure);
    }
    steps
}

async fn attempt(stage: &Stage<'_>, means: &Means, steps: &mut Vec<Step>) -> Result<(), Step> {
    let Stage { name, address, .. } = stage;
    stage.within(dial::look_up(address)).await?;
    let tcp = stage.within(dial::connect(address)).await?;
    steps.push(Step::ok(Hop::Tunnel, format!("{name}: {address} takes connections")));
    let secured = stage.within(dial::shake(means, tcp)).await?;
    steps.push(stage.met(&secured));
    stage.within(dial::greet(secured)).await?;
    steps.push(Step::ok(Hop::Tunnel, format!("{name}: {address} takes tunnels")));
    Ok(())
}

/// In whose name this gateway dials.
fn own(plan: &Plan, peer: &Peer, means: &Means) -> Result<(), Step> {
    let shown = peer.key.from.as_ref().unwrap_or(&peer.key.global_namespace);
    let failed = |what: String| Step::failed(Hop::Tls, what).about(format_args!("GlobalNamespace/{shown}"));
    let agent = "the cluster's agent certifies its gateways: see that it runs, and what it logs";
    if means.tls.is_none() {
        return Err(failed(format!("this gateway has no identity in {shown} yet")).remedy(agent));
    }
    let facts = plan.own.get(shown).map(|own| own.identity.keyed().facts());
    match facts.and_then(|facts| out_of_date(facts, OffsetDateTime::now_utc())) {
        Some(why) => Err(failed(format!("this gateway's own certificate in {shown} {why}")).remedy(agent)),
        None => Ok(()),
    }
}

struct Stage<'p> {
    peer: &'p Peer,
    name: &'p str,
    address: &'p Address,
    until: Instant,
}

impl Stage<'_> {
    async fn within<T>(&self, trying: impl Future<Output = Result<T, TunnelError>>) -> Result<T, Step> {
        let patience = self.until.saturating_duration_since(Instant::now()).min(STEP);
        match timeout(patience, trying).await {
            Ok(tried) => tried.map_err(|error| self.failure(&error)),
            Err(_) => Err(self.late(patience)),
        }
    }

    /// Who answered.
    fn met(&self, secured: &Secured) -> Step {
        let Stage { peer: Peer { key, .. }, name, address, .. } = self;
        match secured.instead_of(&key.gateway) {
            None => Step::ok(Hop::Tls, format!("{name} is who it should be")),
            Some(other) => {
                let what = format!("{name}: another gateway answers at {address}: {}/{other}", key.cluster);
                misplaced(key, Step::failed(Hop::Tls, what))
            }
        }
    }

    /// Nothing came in time. Where tunnels are up all the same, that is no evidence.
    fn late(&self, patience: Duration) -> Step {
        let Stage { peer, name, address, .. } = self;
        let cluster = &peer.key.cluster;
        let waited = format!("{name}: {address} does not answer within {} ms", patience.as_millis());
        let step = match peer.is_connected() {
            true => Step::unknown(Hop::Tunnel, format!("{waited}, though tunnels to it are up")),
            false => Step::failed(Hop::Tunnel, format!("{waited}: it hangs, or packets are lost on the way")),
        };
        step.about(format_args!("Cluster/{cluster}"))
            .remedy(format!("see whether the gateway of cluster {cluster} runs, and what firewalls there are between"))
    }

    fn failure(&self, error: &TunnelError) -> Step {
        let cluster = &self.peer.key.cluster;
        let address = self.address;
        let (hop, what, remedy) = match error {
            TunnelError::Lookup(name) => (
                Hop::Dns,
                format!("{name} cannot be looked up"),
                format!("correct spec.gateways of Cluster/{cluster}, or the name servers of this machine"),
            ),
            TunnelError::Connect(error) if error.kind() == ErrorKind::TimedOut => return self.late(STEP),
            TunnelError::Opening | TunnelError::Silence => return self.late(STEP),
            TunnelError::Connect(error) => (Hop::Tunnel, unconnected(&address.to_string(), error), listens(cluster)),
            TunnelError::Tls(error) => unproven(&address.to_string(), cluster, error),
            TunnelError::Http2(error) if refused(error) => (
                Hop::Tls,
                "it refused this gateway's certificate".to_owned(),
                format!(
                    "its own log says why; see `tombolo certs`, and the clocks of both machines ({cluster}'s and this)"
                ),
            ),
            other => (Hop::Tunnel, other.to_string(), listens(cluster)),
        };
        Step::failed(hop, format!("{}: {what}", self.name)).about(format_args!("Cluster/{cluster}")).remedy(remedy)
    }
}

fn listens(cluster: &Name) -> String {
    format!("start the gateway, or correct spec.gateways of Cluster/{cluster}: nobody takes tunnels there")
}

fn unconnected(address: &str, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("{address} refuses connections: nothing listens on the port"),
        _ => format!("{address} cannot be reached: {error}"),
    }
}

/// In TLS 1.3 the far end's refusal comes with the first bytes that are read (RFC 8446 section 4.4.2.4).
fn refused(error: &h2::Error) -> bool {
    let alert = |error: &std::io::Error| alert_in(error).is_some();
    error.get_io().is_some_and(alert)
}

fn alert_in(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(format!("{alert:?}")),
        _ => None,
    }
}

/// Why a handshake failed: by our own reason, by the peer's, or because it was none.
fn unproven(address: &str, cluster: &Name, error: &std::io::Error) -> (Hop, String, String) {
    let misplaced = || format!("another gateway answers at {address}: correct spec.gateways of Cluster/{cluster}");
    if let Some(refusal) = Refusal::in_handshake(error) {
        let remedy = match refusal.code() {
            "expired" => format!("see that the agent of cluster {cluster} runs: it renews its gateways' certificates"),
            "not_valid_yet" => "set the clocks of both machines".to_owned(),
            "revoked" | "not_member" => {
                format!("`tombolo certs reinstate` if cluster {cluster} is to be believed again; else remove it")
            }
            _ => misplaced(),
        };
        return (Hop::Tls, format!("it is not who it should be: {refusal}"), remedy);
    }
    match alert_in(error) {
        Some(alert) if alert == "UnrecognisedName" => {
            (Hop::Tls, format!("what answers at {address} does not know the name of cluster {cluster}"), misplaced())
        }
        Some(alert) => (
            Hop::Tls,
            format!("it refused the handshake ({alert})"),
            format!(
                "its own log says why; see `tombolo certs`, and the clocks of both machines ({cluster}'s and this)"
            ),
        ),
        None => {
            (Hop::Tls, format!("what answers at {address} does not speak TLS as a gateway does: {error}"), misplaced())
        }
    }
}
