//! A running gateway: what its parts share, how they start, and how they stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use config::explain::{Answer, Question};
use config::live::{self, Live};
use config::resource::{GatewayAddresses, Name};
use config::snapshot::Snapshot;
use config::wire::{PeerReport, Rejection, RevisionPair};
use decide::health::State;
use identity::fingerprint;
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::connections::Connections;
use crate::descriptors;
use crate::explain;
use crate::health::census;
use crate::health::checker::Checker;
use crate::inputs::Inputs;
use crate::listener::doors::{self, Purpose};
use crate::listener::mesh;
use crate::listener::sockets::{BindError, Listening, Sockets};
use crate::metrics::Metrics;
use crate::news::News;
use crate::overload::{self, Overload};
use crate::plan::{Plan, TunnelTls};
use crate::planner::Planner;
use crate::record::{Log, LogError};
use crate::settings::Settings;
use crate::standings::Standings;
use crate::stream::Pipes;
use crate::takeover::Offer;
use crate::tunnel::pool::{PeerKey, Peers};
use crate::tunnel::report::Report;
use crate::tunnel::reports::{Listener, Reports};
use crate::tunnel::supervisor::Supervisor;
use crate::view::{self, View, Views};
use crate::workers::Workers;

/// A stopping gateway's idle connections have so long to bring a request that was on its way, and to end by themselves;
/// and so have those whose last request has ended, to send what is left of its answer.
const LAST_REQUESTS: Duration = Duration::from_millis(2_500);
/// What is cut has ended after so long.
const CUT: Duration = Duration::from_secs(1);
/// The peers of a gateway whose successor is there have so long to open tunnels to that one, before the old ones end.
const MOVE: Duration = Duration::from_secs(3);
/// From one count of instances to the next, at the least.
const RECOUNT: Duration = Duration::from_millis(10);
/// From one look at what is left to the next.
const LOOK: Duration = Duration::from_millis(20);

/// Which connections are asked to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopping {
    /// None: the gateway serves.
    #[default]
    None,
    /// Those of clients.
    Clients,
    /// Tunnels too.
    All,
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody serves in its place.
    Stopped,
    /// A successor of the same name serves.
    Succeeded,
}

/// What every request shares.
pub struct Core {
    /// As it was started.
    pub settings: Settings,
    /// What is decided by.
    pub plan: Live<Plan>,
    /// The gateways of other clusters.
    pub peers: Arc<Peers>,
    /// The health of instances.
    pub checker: Arc<Checker>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub log: Log,
    /// Told whenever health changed, here or at a peer, or this gateway began to drain.
    pub changes: Arc<watch::Sender<u64>>,
    /// The sockets on which it listens.
    pub sockets: Sockets,
    /// The connections that came in.
    pub connections: Arc<Connections>,
    /// Those of them, and tunnels that carry one stream, whose peers have proved who they are.
    pub standings: Standings,
    /// Through which streams go that are moved in bulk.
    pub pipes: Pipes,
    /// Which serve them.
    pub workers: Arc<Workers>,
    /// Whether there is too much to do.
    pub overload: Overload,
    /// Cancelled when every connection and check that is left shall end.
    pub cut: CancellationToken,
    /// Of this life, so that peers tell it from a successor's.
    boot: String,
    stopping: watch::Sender<Stopping>,
    draining: CancellationToken,
    /// A successor serves in its place.
    succeeded: CancellationToken,
    in_flight: AtomicUsize,
    /// Of which services something may have changed.
    news: Arc<News>,
    reports: Reports,
    views: Views,
}

/// A request that a stopping gateway waits for.
#[must_use]
pub struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    /// What this gateway says about a GNS to a peer: the report's number, and its line.
    pub fn report(&self, listener: Listener<'_>) -> (u64, Bytes) {
        self.reports.line((&self.plan, &self.news), listener, |plan| self.report_head(plan))
    }

    /// What this gateway says of its view to a DNS server that was told `said` last: the view's number, and its line.
    fn view_line(&self, said: Option<u64>) -> (u64, Bytes) {
        self.views.line((&self.plan, &self.peers, &self.news), self.draining.is_cancelled(), said)
    }

    /// A request begins: a stopping gateway waits for it until the guard is dropped.
    pub fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// Requests under way.
    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Comes back when connections of this kind are asked to end.
    pub fn stopping(&self, which: Stopping) -> impl Future<Output = ()> + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // Without a sender there is nothing left to end.
            _ = stopping.wait_for(|stopping| *stopping >= which).await;
        }
    }

    fn report_head(&self, plan: &Plan) -> Report {
        Report {
            gateway: Some(self.settings.name.clone()),
            boot: self.boot.clone(),
            draining: self.draining.is_cancelled(),
            moving: self.succeeded.is_cancelled(),
            gateways: neighbours(&plan.snapshot),
            ..Report::default()
        }
    }

    /// Whether it has been asked to stop, or a successor serves.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled() || self.succeeded.is_cancelled()
    }

    /// What this gateway knows of health everywhere.
    pub fn view(&self) -> View {
        let plan = self.plan.load();
        let table = self.peers.table();
        let (draining, gateways) = (self.draining.is_cancelled(), view::gateways(&table));
        let mut view = View { draining, gateways, ..View::default() };
        for (gns, services) in &plan.services {
            for (name, planned) in services {
                let here = planned.ports.values().next().map_or(0, |port| port.all.healthy());
                let counts = view.services.entry(gns.clone()).or_default().entry(name.clone()).or_default();
                counts.insert(plan.snapshot.place.cluster.clone(), here);
                for (cluster, peers) in table.of(gns, None).into_iter().flatten() {
                    let healthy = peers.iter().map(|peer| peer.healthy(name, None)).max().unwrap_or(0);
                    counts.insert(cluster.clone(), healthy);
                }
            }
        }
        view
    }
}

/// Where the gateways of this cluster are, for those of others.
fn neighbours(snapshot: &Snapshot) -> Arc<[GatewayAddresses]> {
    let own = snapshot.gateways.get(&snapshot.place.cluster).into_iter().flat_map(|gateways| gateways.iter());
    own.map(|gateway| GatewayAddresses { mesh: None, ..gateway.clone() }).collect()
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BuildError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the threads that serve connections cannot be started: {0}; more descriptors or threads must be allowed, or --workers be lower"
    )]
    Workers(std::io::Error),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A gateway whose sockets are bound, and which serves once it is run.
pub struct Gateway {
    core: Arc<Core>,
    planner: Planner,
    listeners: Vec<(Listening, Purpose)>,
}

impl Gateway {
    /// Opens the fixed sockets and makes a first plan. Must be called in a tokio runtime.
    pub fn build(
        settings: Settings,
        inputs: Inputs,
        sockets: Sockets,
        registry: &Registry,
    ) -> Result<Self, BuildError> {
        let descriptors = descriptors::raise_limit().saturating_sub(settings.workers.descriptors());
        let workers = Workers::start(settings.workers).map_err(BuildError::Workers)?;
        let mut listeners = Vec::new();
        let fixed = [
            (settings.http, Purpose::Http, "public HTTP"),
            (settings.https, Purpose::Https, "public HTTPS"),
            (settings.east_west, Purpose::EastWest, "tunnels"),
        ];
        for (address, purpose, text) in fixed {
            if let Some(address) = address {
                let listening = workers.open_at(listeners.len(), || sockets.open(address, text))?;
                listeners.push((listening, purpose));
            }
        }
        let metrics = Arc::new(Metrics::new(registry)?);
        let changes = Arc::new(watch::Sender::new(0));
        let cut = CancellationToken::new();
        let news = Arc::<News>::default();
        let checker = Arc::new(Checker::new(notifier(&changes), news.clone(), cut.clone()));
        let (publisher, plan) = live::channel(Arc::new(Plan::empty(inputs.snapshot.get())));
        let planner = Planner::new(inputs, publisher, checker.clone(), metrics.clone());
        let connections = Connections::new(settings.connections.clone(), descriptors);
        let core = Arc::new(Core {
            log: Log::open(&settings.access_log, metrics.clone())?,
            pipes: Pipes::new(descriptors),
            overload: Overload::new(settings.overload, settings.workers.count()),
            workers: Arc::new(workers),
            settings,
            plan,
            peers: Arc::default(),
            checker,
            metrics,
            changes,
            sockets,
            connections: Arc::new(connections),
            standings: Standings::default(),
            cut,
            boot: format!("{:016x}", fastrand::u64(..)),
            stopping: watch::Sender::default(),
            draining: CancellationToken::new(),
            succeeded: CancellationToken::new(),
            in_flight: AtomicUsize::new(0),
            news,
            reports: Reports::default(),
            views: Views::default(),
        });
        Ok(Gateway { core, planner, listeners })
    }

    /// A handle for whoever asks about the gateway while it runs.
    pub fn handle(&self) -> Handle {
        Handle(self.core.clone())
    }

    /// Serves until told to stop, or until a successor has taken over, then drains: first it is no longer ready but still
    /// serves (unless a successor does), then it takes no connection and lets requests end, then it cuts what is left.
    /// When this future is dropped, it cuts at once.
    pub async fn run(self, stop: CancellationToken, offer: Option<Offer>) -> End {
        let Gateway { core, planner, listeners } = self;
        let listening = CancellationToken::new();
        let _guards = [listening.clone().drop_guard(), core.cut.clone().drop_guard(), core.workers.end_guard()];
        let mut tasks = JoinSet::new();
        for (number, (listener, purpose)) in listeners.into_iter().enumerate() {
            core.workers.run(number, doors::serve(core.clone(), listener, purpose, listening.clone()));
        }
        let mesh = listening.clone().run_until_cancelled_owned(mesh::serve(core.clone()));
        tasks.spawn(async { _ = mesh.await });
        tasks.spawn(planner.run());
        tasks.spawn(keep_gauges(core.clone()));
        tasks.spawn(follow_trust(core.clone()));
        (0..core.workers.count()).for_each(|number| core.workers.run(number, overload::watch(core.clone())));
        tasks.spawn(core.supervisor().run(core.plan.clone()));
        if let Some(offer) = offer {
            tasks.spawn(offer.serve(Handle(core.clone()), core.succeeded.clone()));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = core.succeeded.cancelled() => {}
        }
        core.drain(&listening).await;
        core.cut.cancel();
        tasks.shutdown().await;
        core.quiet(CUT).await;
        core.log.close().await;
        if core.succeeded.is_cancelled() { End::Succeeded } else { End::Stopped }
    }
}

impl Core {
    fn supervisor(&self) -> Supervisor {
        let (workers, peers, changed) = (self.workers.clone(), self.peers.clone(), notifier(&self.changes));
        Supervisor::new(workers, peers, changed, self.news.clone(), self.metrics.clone())
    }

    async fn drain(&self, listening: &CancellationToken) {
        if !self.succeeded.is_cancelled() {
            self.draining.cancel();
            self.say();
            tracing::info!(wait = ?self.settings.drain_wait, "draining");
            // Who takes over meanwhile serves those who come from now on.
            _ = timeout(self.settings.drain_wait, self.succeeded.cancelled()).await;
        }
        listening.cancel();
        if self.succeeded.is_cancelled() {
            tracing::info!("a successor serves: draining");
            self.say();
            self.stopping.send_replace(Stopping::Clients);
            self.quiet(MOVE).await;
        }
        self.stopping.send_replace(Stopping::All);
        let drained = async {
            self.quiet(LAST_REQUESTS).await;
            while self.in_flight() > 0 {
                tokio::time::sleep(LOOK).await;
            }
            // A request ends when its answer is written: the last bytes of it may still be on their way to the socket.
            self.quiet(LAST_REQUESTS).await;
        };
        _ = timeout(self.settings.drain_timeout, drained).await;
        tracing::info!(cut = self.in_flight(), "drained");
    }

    /// Tells peers what has changed.
    fn say(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until no connection is open, but no longer than this.
    async fn quiet(&self, longest: Duration) {
        let quiet = async {
            while self.metrics.connections.get() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        _ = timeout(longest, quiet).await;
    }
}

/// Counts what changes rarely: tunnels, and how instances are. Many changes at once are counted as one.
async fn keep_gauges(core: Arc<Core>) {
    let (mut changes, mut plans) = (core.changes.subscribe(), core.plan.clone());
    loop {
        core.metrics.show_tunnels(core.peers.all().iter().map(|peer| peer.describe()));
        census::take(&core.plan.get(), &core.peers.table());
        let more = tokio::select! {
            changed = changes.changed() => changed.is_ok(),
            plan = plans.changed() => plan.is_some(),
        };
        if !more {
            return;
        }
        tokio::time::sleep(RECOUNT).await;
    }
}

async fn follow_trust(core: Arc<Core>) {
    core.standings.follow(core.plan.clone()).await;
}

fn notifier(changes: &Arc<watch::Sender<u64>>) -> Arc<dyn Fn() + Send + Sync> {
    let changes = changes.clone();
    Arc::new(move || changes.send_modify(|changes| *changes += 1))
}

/// Whom a gateway believes in a GNS, and what it shows there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// The GNS.
    pub global_namespace: Name,
    /// SHA-256 of the roots.
    pub roots: Vec<String>,
    /// Serial number of its certificate; nothing in a GNS of which its cluster is no member.
    pub serial: Option<String>,
}

/// Asks a running gateway.
#[derive(Clone)]
pub struct Handle(Arc<Core>);

impl Handle {
    /// Whether it serves: it has a world, and neither drains nor has a successor.
    pub fn ready(&self) -> bool {
        !self.0.draining.is_cancelled()
            && !self.0.succeeded.is_cancelled()
            && self.0.plan.load().snapshot.revision != RevisionPair::default()
    }

    /// Whether it is about to end, and nobody serves in its place.
    pub fn is_draining(&self) -> bool {
        self.0.draining.is_cancelled()
    }

    /// Whether a successor serves in its place.
    pub fn has_successor(&self) -> bool {
        self.0.succeeded.is_cancelled()
    }

    /// What it acts on.
    pub fn revision(&self) -> RevisionPair {
        self.0.plan.load().snapshot.revision
    }

    /// Follows what it acts on.
    pub fn plans(&self) -> Live<Plan> {
        self.0.plan.clone()
    }

    /// What it couldn't act on.
    pub fn rejected(&self) -> Vec<Rejection> {
        self.0.plan.load().rejected.clone()
    }

    /// The peers that it knows.
    pub fn peers(&self) -> Vec<PeerReport> {
        self.0.peers.all().iter().map(|peer| peer.describe()).collect()
    }

    /// Whom it believes in each GNS, and which certificate it shows there. A GNS of which its cluster is a member counts
    /// once it has one.
    pub fn trust(&self) -> Vec<Believed> {
        let plan = self.0.plan.load();
        let shown = |(name, tls): (&Name, &Arc<TunnelTls>)| Believed {
            global_namespace: name.clone(),
            roots: tls.roots.clone(),
            serial: Some(tls.source.identity.keyed().facts().serial.to_string()),
        };
        let is_member = |name: &Name| plan.snapshot.namespaces.get(name).is_some_and(|gns| !gns.visited);
        let others = plan.beliefs.iter().filter(|(name, _)| !is_member(name));
        let believed = others.map(|(name, belief)| Believed {
            global_namespace: name.clone(),
            roots: belief.bundle.certificates().map(fingerprint).collect(),
            serial: None,
        });
        plan.tunnels.iter().map(shown).chain(believed).collect()
    }

    /// Its sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.0.sockets
    }

    /// The peers that take requests.
    pub fn live_peers(&self) -> Vec<PeerKey> {
        self.0.peers.all().iter().filter(|peer| peer.is_live()).map(|peer| peer.key.clone()).collect()
    }

    /// How many instances have not been checked yet.
    pub fn unchecked(&self) -> usize {
        let plan = self.0.plan.load();
        let pools = plan.all_services().flat_map(|service| service.ports.values().map(|port| &port.all));
        pools.flat_map(|pool| &pool.targets).filter(|target| target.health.state() == State::Unknown).count()
    }

    /// Answers a question about the way of requests.
    pub async fn explain(&self, question: Question) -> Answer {
        explain::answer(&self.0, question).await
    }

    /// What it knows of health.
    pub fn view(&self) -> View {
        self.0.view()
    }

    /// What is told of that to a DNS server that wants only changes, and was told `said` last: the view's number, and its
    /// line, which is a beat if nothing is new.
    pub fn view_line(&self, said: Option<u64>) -> (u64, Bytes) {
        self.0.view_line(said)
    }

    /// Told whenever the view may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}
