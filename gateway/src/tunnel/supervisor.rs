//! Keeps the tunnels that are wanted: some to each gateway of each other cluster of each GNS, dialled for ever. The plan
//! says where those are, and so do the gateways that are reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::live::Live;
use config::resource::Name;
use config::revoked::Revoked;
use config::snapshot::Namespace;
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::{self, Opened, TunnelError};
use super::neighbours::Neighbours;
use super::pool::{Means, Peer, PeerKey, PeerPlace, Peers};
use crate::metrics::Metrics;
use crate::news::News;
use crate::plan::Plan;
use crate::workers::Workers;

/// Tunnels to each peer at the least, so that one that breaks costs no more than its own requests.
const LEAST_TUNNELS: usize = 2;
/// A tunnel for each worker spares their requests the way to another one; beyond so many, the news that each tunnel brings
/// would cost more than that.
const MOST_TUNNELS: usize = 4;

/// The first wait after a failure; each further one doubles it up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// No wait is longer, so that a cluster that returns is back within seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Starts and stops tunnels as plans come and go.
pub struct Supervisor {
    workers: Arc<Workers>,
    /// The worker that keeps the next peer's first tunnel.
    next: usize,
    peers: Arc<Peers>,
    changed: Arc<dyn Fn() + Send + Sync>,
    metrics: Arc<Metrics>,
    running: BTreeMap<PeerKey, Running>,
    neighbours: Neighbours,
    /// Told when a peer says something new of where its cluster's gateways are.
    moved: Arc<Notify>,
    /// Has the services of which peers say something new.
    news: Arc<News>,
}

/// A peer to which tunnels are kept up until this is dropped.
struct Running {
    peer: Arc<Peer>,
    _until_dropped: DropGuard,
}

impl Supervisor {
    /// Supervises nothing yet. `changed` is called whenever the choice of remote clusters may have changed.
    pub fn new(
        workers: Arc<Workers>,
        peers: Arc<Peers>,
        changed: Arc<dyn Fn() + Send + Sync>,
        news: Arc<News>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (running, neighbours, moved) = (BTreeMap::new(), Neighbours::default(), Arc::default());
        Supervisor { workers, next: 0, peers, changed, metrics, running, neighbours, moved, news }
    }

    /// Follows the plan. Once this future is dropped, every tunnel ends.
    pub async fn run(mut self, mut plans: Live<Plan>) {
        let mut next = Some(plans.get());
        while let Some(plan) = next {
            self.reconcile(&plan);
            drop(plan);
            next = tokio::select! {
                plan = plans.changed() => plan,
                () = self.moved.notified() => Some(plans.get()),
            };
        }
    }

    fn reconcile(&mut self, plan: &Plan) {
        let connected = self.running.iter().filter(|(_, running)| running.peer.is_connected());
        let said = connected.map(|(key, running)| (key, running.peer.said()));
        self.neighbours.listen(&plan.snapshot, said);
        let wanted = wanted(plan, &self.neighbours);
        let gone: Vec<_> = self.running.extract_if(.., |key, _| !wanted.contains_key(key)).collect();
        let mut differ = !gone.is_empty();
        gone.iter().filter(|(key, _)| !is_believed(plan, key)).for_each(|(_, running)| running.peer.forsake());
        for Running { peer, .. } in self.running.values() {
            peer.forsake_unless(|gateway| is_believed(plan, &PeerKey { gateway: gateway.clone(), ..peer.key.clone() }));
        }
        for (key, means) in wanted {
            if let Some(running) = self.running.get(&key) {
                running.peer.set_means(means);
                continue;
            }
            let started = self.start(key.clone(), means);
            self.running.insert(key, started);
            differ = true;
        }
        if differ {
            self.peers.replace(self.running.values().map(|running| running.peer.clone()));
            // Even of a cluster that was never reached it is told that nothing is healthy there.
            self.news.of_all();
            (self.changed)();
        }
    }

    fn start(&mut self, key: PeerKey, means: Means) -> Running {
        let (peer, stop) =
            (Arc::new(Peer::new(key, means, self.moved.clone(), self.news.clone())), CancellationToken::new());
        // From where the last peer's ended, so that many peers' are spread over all workers.
        let tunnels = self.workers.count().clamp(LEAST_TUNNELS, MOST_TUNNELS);
        let first = self.next;
        self.next = (first + tunnels) % self.workers.count();
        for number in (first..).take(tunnels) {
            let keeper = Keeper {
                means: peer.means(),
                peer: peer.clone(),
                changed: self.changed.clone(),
                metrics: self.metrics.clone(),
                wait: FIRST_WAIT,
            };
            let kept = stop.clone().run_until_cancelled_owned(keeper.keep());
            self.workers.run(number, kept.map(drop));
        }
        Running { peer, _until_dropped: stop.drop_guard() }
    }
}

/// Every gateway of every other cluster of every GNS in which that cluster has a name to verify.
fn wanted(plan: &Plan, neighbours: &Neighbours) -> BTreeMap<PeerKey, Means> {
    let snapshot = &plan.snapshot;
    let mut wanted = BTreeMap::new();
    for gns in snapshot.namespaces.values() {
        let own = (!gns.visited).then_some(None);
        let crossing = plan.crossings.get(&gns.name).into_iter().flat_map(BTreeMap::keys).map(Some);
        for from in own.into_iter().chain(crossing) {
            want(plan, neighbours, (gns, from), &mut wanted);
        }
    }
    wanted
}

/// Those of one GNS, in this gateway's identity there or in that `from` another.
fn want(
    plan: &Plan,
    neighbours: &Neighbours,
    (gns, from): (&Namespace, Option<&Name>),
    wanted: &mut BTreeMap<PeerKey, Means>,
) {
    let snapshot = &plan.snapshot;
    for (cluster, label) in gns.labels.iter().filter(|(cluster, _)| **cluster != snapshot.place.cluster) {
        let tls = plan.tunnel_client(&gns.name, from, cluster).map(|dialling| dialling.requests.clone());
        for (gateway, (address, or_else)) in neighbours.places(snapshot, &gns.name, cluster) {
            if is_revoked(gns, cluster, gateway) {
                continue;
            }
            let key = PeerKey {
                global_namespace: gns.name.clone(),
                from: from.cloned(),
                cluster: cluster.clone(),
                gateway: gateway.clone(),
            };
            let place = PeerPlace { address: address.clone(), label: label.clone(), or_else: or_else.cloned() };
            wanted.insert(key, Means { place, tls: tls.clone() });
        }
    }
}

/// Whether a gateway that is no longer wanted is so for other reasons than that nobody believes it.
fn is_believed(plan: &Plan, PeerKey { global_namespace, cluster, gateway, .. }: &PeerKey) -> bool {
    let gns = plan.snapshot.namespaces.get(global_namespace);
    gns.is_none_or(|gns| gns.labels.contains_key(cluster) && !is_revoked(gns, cluster, gateway))
}

fn is_revoked(gns: &Namespace, cluster: &Name, gateway: &Name) -> bool {
    let this = Revoked::Gateway { cluster: cluster.clone(), name: gateway.clone() };
    gns.revoked.contains(&Revoked::Cluster(cluster.clone())) || gns.revoked.contains(&this)
}

/// Keeps one tunnel up.
struct Keeper {
    peer: Arc<Peer>,
    means: watch::Receiver<Means>,
    changed: Arc<dyn Fn() + Send + Sync>,
    metrics: Arc<Metrics>,
    wait: Duration,
}

impl Keeper {
    async fn keep(mut self) {
        let changed = self.changed.clone();
        let mut current = self.open().await;
        loop {
            let (mut tunnel, means) = current;
            let (began, moving) = (Instant::now(), tunnel.moving());
            let next = tokio::select! {
                end = tunnel.follow(&*changed) => Err(end),
                next = self.successor(&means, moving) => next,
            };
            current = match next {
                Ok(next) => {
                    // Only now does the old tunnel go: no request falls between the two.
                    tunnel.make_way();
                    changed();
                    next
                }
                Err(end) => {
                    drop(tunnel);
                    changed();
                    if began.elapsed() > LONGEST_WAIT {
                        self.wait = FIRST_WAIT;
                    }
                    self.failed(end).await;
                    self.open().await
                }
            };
        }
    }

    /// Another tunnel, once there is need: to a new address, in a renewed identity, or to the peer's own successor.
    ///
    /// # Errors
    /// When the peer shows what is below no root that is believed now: then the one before must not be used either.
    async fn successor(
        &mut self,
        means: &Means,
        mut moving: watch::Receiver<bool>,
    ) -> Result<(Opened, Means), TunnelError> {
        tokio::select! {
            _ = self.means.wait_for(|now| now.tls.is_some() && !now.same(means)) => {}
            Ok(_) = moving.wait_for(|moving| *moving) => {}
        }
        loop {
            match self.dial().await {
                Ok(opened) => return Ok(opened),
                Err(error) if error.is_rootless() => return Err(error),
                Err(error) => self.failed(error).await,
            }
        }
    }

    /// Dials until a tunnel is up.
    async fn open(&mut self) -> (Opened, Means) {
        loop {
            match self.dial().await {
                Ok(opened) => return opened,
                Err(error) => self.failed(error).await,
            }
        }
    }

    /// Dials once there is an identity to show.
    async fn dial(&mut self) -> Result<(Opened, Means), TunnelError> {
        let means = loop {
            let means = self.means.borrow_and_update().clone();
            if means.tls.is_some() {
                break means;
            }
            self.peer.fail(TunnelError::Identity);
            drop(self.means.changed().await);
        };
        let tunnel = dial::open(&self.peer, &means).await?;
        self.misplaced(&means);
        (self.changed)();
        Ok((tunnel, means))
    }

    /// Tells when it is another gateway that answered. Its cluster vouches for it as well: it takes requests all the same.
    fn misplaced(&self, means: &Means) {
        let Some(answered_by) = self.peer.answered_by() else { return };
        let (PeerKey { cluster, gateway, .. }, address) = (&self.peer.key, &means.place.address);
        tracing::warn!(%cluster, %gateway, %address, %answered_by, "another gateway answers: correct spec.gateways of the Cluster");
    }

    /// Tells, and waits a while; no longer than until the means change.
    async fn failed(&mut self, error: TunnelError) {
        self.tell(error);
        let wait = self.wait.mul_f64(0.8 + 0.4 * fastrand::f64());
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        drop(timeout(wait, self.means.changed()).await);
    }

    fn tell(&self, error: TunnelError) {
        let PeerKey { global_namespace, from, cluster, gateway } = &self.peer.key;
        let fault = error.to_string();
        if self.peer.fail(error) {
            let address = &self.means.borrow().place.address;
            let from = from.as_ref().map(Name::as_str);
            tracing::warn!(%global_namespace, from, %cluster, %gateway, %address, %fault, "no tunnel");
        }
        self.metrics.tunnel_failures.inc();
    }
}

#[cfg(test)]
mod tests;
