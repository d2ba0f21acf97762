//! Where a request finds a tunnel: the live tunnels to each peer gateway, and what each peer reports.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use config::resource::{Address, Host, Name};
use config::wire::PeerReport;
use h2::client::SendRequest;
use http::HeaderValue;
use rustls::ClientConfig;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::dial::TunnelError;
use super::metadata;
use super::report::Report;
use crate::news::News;
use crate::workers::Number;

/// The calls on a retired tunnel have so long to end: its peer is going, or no peer of this gateway any more.
pub const LAST_CALLS: Duration = Duration::from_secs(30);
/// And so long where only another tunnel to the same peer took its place. They may be streams that last for hours, but
/// what an identity or a root has vouched for must end some day.
pub const LONGEST_CALLS: Duration = Duration::from_secs(3600);

/// Which gateway, in which GNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// The GNS in whose identity the peer speaks, and this gateway too, unless it does `from` another.
    pub global_namespace: Name,
    /// The other GNS in whose identity this gateway speaks, for calls that come from there.
    pub from: Option<Name>,
    /// The peer's cluster.
    pub cluster: Name,
    /// The peer's name.
    pub gateway: Name,
}

/// Where a peer is dialled, and the opaque name that it must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPlace {
    /// The address.
    pub address: Address,
    /// Where else it may be, when its own cluster and the controller don't say the same.
    pub or_else: Option<Address>,
    /// The opaque name.
    pub label: Host,
}

/// What a tunnel to a peer is made of. When it changes, a new tunnel takes the place of the old one.
#[derive(Clone)]
pub struct Means {
    /// Where the peer is.
    pub place: PeerPlace,
    /// In whose name it is dialled, and whom it is believed to be; nothing while this gateway has no identity.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Means {
    /// Whether the same tunnel would be made of both.
    pub fn same(&self, other: &Means) -> bool {
        self.place == other.place && self.tls.as_ref().map(Arc::as_ptr) == other.tls.as_ref().map(Arc::as_ptr)
    }
}

/// A live connection to a peer gateway. It lives for as long as someone holds it.
pub struct Tunnel {
    sender: SendRequest<Bytes>,
    /// Which moves its frames.
    worker: Number,
    /// The gateway to which it leads, if that one has proved its name.
    leads_to: Option<Name>,
    /// How long its calls may go on, once it is retired.
    retired: watch::Sender<Option<Duration>>,
    closed: CancellationToken,
}

impl Tunnel {
    /// A tunnel that is up, to the gateway that has proved this name. The calling worker moves its frames.
    pub fn new(sender: SendRequest<Bytes>, leads_to: Option<Name>) -> Self {
        let (retired, closed) = (watch::Sender::new(None), CancellationToken::new());
        Tunnel { sender, worker: Number::here(), leads_to, retired, closed }
    }

    /// For one request.
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    /// Comes back when the tunnel is known to be dead.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// By which whoever moves the tunnel's frames tells everyone who waits on it that it is dead.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Comes back when the tunnel shall be cut: nobody holds it any more, or it is retired and its calls had their time.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        let (mut retired, closed) = (self.retired.subscribe(), self.closed.clone());
        async move {
            let last_calls = async {
                // Without a sender nobody holds the tunnel.
                let last_calls = retired.wait_for(Option::is_some).await.map_or(None, |last_calls| *last_calls);
                tokio::time::sleep(last_calls.unwrap_or_default()).await;
            };
            closed.run_until_cancelled(last_calls).await;
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// A peer gateway.
pub struct Peer {
    /// Which.
    pub key: PeerKey,
    /// Its cluster, as metadata has it.
    pub cluster: HeaderValue,
    means: watch::Sender<Means>,
    tunnels: ArcSwap<Vec<Arc<Tunnel>>>,
    turn: AtomicUsize,
    report: ArcSwap<Report>,
    /// Told when there may be another word on where its cluster's gateways are: a peer that comes, goes, or says something
    /// new of them.
    moved: Arc<Notify>,
    /// What it says of services is entered here, and that nothing it said counts any more.
    news: Arc<News>,
    fault: Mutex<Option<TunnelError>>,
}

impl Peer {
    /// A peer that isn't reached yet. `moved` is told whenever it comes, goes, or says something new of where
    /// its cluster's gateways are; `news` has the services of which it says something new.
    pub fn new(key: PeerKey, means: Means, moved: Arc<Notify>, news: Arc<News>) -> Self {
        Peer {
            cluster: metadata::value(&key.cluster),
            key,
            means: watch::Sender::new(means),
            tunnels: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            report: ArcSwap::default(),
            moved,
            news,
            fault: Mutex::new(None),
        }
    }

    /// Follows what tunnels to it are to be made of.
    pub(super) fn means(&self) -> watch::Receiver<Means> {
        self.means.subscribe()
    }

    /// What tunnels to it are made of now.
    pub fn current(&self) -> Means {
        self.means.borrow().clone()
    }

    /// From now on, tunnels to it are made of this.
    pub(super) fn set_means(&self, means: Means) {
        self.means.send_if_modified(|now| {
            let differ = !now.same(&means);
            *now = means;
            differ
        });
    }

    /// Where it is dialled.
    pub fn place(&self) -> PeerPlace {
        self.means.borrow().place.clone()
    }

    /// A live tunnel to it, each in its turn: one whose frames the calling worker moves, if it has any.
    pub fn tunnel(&self) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let here = Number::here();
        let own = || tunnels.iter().filter(|tunnel| tunnel.worker == here);
        match turn.checked_rem(own().count()) {
            Some(turn) => own().nth(turn).cloned(),
            None => tunnels.get(turn.checked_rem(tunnels.len())?).cloned(),
        }
    }

    /// How many instances it reports; none when no tunnel to it is up.
    pub fn healthy(&self, service: &Name, version: Option<&Name>) -> u32 {
        if self.tunnels.load().is_empty() { 0 } else { self.report.load().healthy(service, version) }
    }

    /// Whether a tunnel to it is up and it takes requests.
    pub fn is_live(&self) -> bool {
        !self.tunnels.load().is_empty() && !self.report.load().draining
    }

    /// What it said last; nothing yet of one that was never reached.
    pub(super) fn said(&self) -> Arc<Report> {
        self.report.load_full()
    }

    /// The gateway to which its tunnels lead.
    pub fn reached(&self) -> Name {
        self.answered_by().unwrap_or_else(|| self.key.gateway.clone())
    }

    /// Another gateway of its cluster, if that is who answers where it should be.
    pub fn answered_by(&self) -> Option<Name> {
        let said = self.report.load();
        said.gateway.as_ref().filter(|who| self.is_connected() && **who != self.key.gateway).cloned()
    }

    /// Whether a tunnel to it is up.
    pub fn is_connected(&self) -> bool {
        !self.tunnels.load().is_empty()
    }

    /// For `tombolo peers`.
    pub fn describe(&self) -> PeerReport {
        PeerReport {
            global_namespace: self.key.global_namespace.clone(),
            from: self.key.from.clone(),
            cluster: self.key.cluster.clone(),
            gateway: self.key.gateway.clone(),
            address: self.means.borrow().place.address.to_string(),
            tunnels: u32::try_from(self.tunnels.load().len()).unwrap_or(u32::MAX),
            draining: self.is_connected() && self.report.load().draining,
            answered_by: self.answered_by(),
            fault: self.fault().as_ref().map(ToString::to_string),
        }
    }

    /// A tunnel is up, and this is what the peer said first.
    pub(super) fn add(&self, tunnel: Arc<Tunnel>, report: Report) {
        // By another tunnel it may have said something newer already.
        if !report.is_before(&self.report.load()) {
            self.keep(report);
        }
        self.fault().take();
        self.tunnels.rcu(|tunnels| {
            let mut tunnels = Vec::clone(tunnels);
            tunnels.push(tunnel.clone());
            tunnels
        });
        // Only now: of who isn't connected nobody takes a word. It counts anew even if it is what was said last time.
        self.moved.notify_one();
        self.counts_anew();
    }

    /// The peer says something new. What a predecessor of whoever said something last still says, no longer counts.
    pub(super) fn update(&self, report: Report) {
        let known = self.report.load();
        // Each tunnel to it carries the same.
        let is_known = report.sequence != 0 && report.sequence == known.sequence;
        if known.boot == report.boot && !is_known && !report.is_before(&known) {
            drop(known);
            self.keep(report);
        }
    }

    fn keep(&self, report: Report) {
        let before = self.report.swap(Arc::new(report));
        let now = self.report.load();
        if before.gateways != now.gateways {
            self.moved.notify_one();
        }
        self.news.of_these(&self.key.global_namespace, before.differences(&now));
    }

    /// It is connected now, or is no longer: all that it says of services may begin or cease to count.
    fn counts_anew(&self) {
        self.news.of_these(&self.key.global_namespace, self.report.load().services.names());
    }

    /// No new request may find the tunnel, but those that are on it have so long to end in peace.
    pub(super) fn retire(&self, tunnel: &Arc<Tunnel>, last_calls: Duration) {
        self.tunnels.rcu(|tunnels| without(tunnels, tunnel));
        // What others say of it counts from now on.
        self.moved.notify_one();
        self.counts_anew();
        // Who was cut short once gets no more time.
        tunnel.retired.send_modify(|left| *left = Some(left.map_or(last_calls, |left| left.min(last_calls))));
    }

    /// The peer is believed no longer: whatever goes on with it is broken off.
    pub(super) fn forsake(&self) {
        self.forsake_unless(|_| false);
    }

    /// Breaks off whatever goes on with gateways that have proved a name which is believed no longer: another than the peer
    /// may answer in its place, and each tunnel may lead to another.
    pub(super) fn forsake_unless(&self, is_believed: impl Fn(&Name) -> bool) {
        for tunnel in self.tunnels.load().iter() {
            if !is_believed(tunnel.leads_to.as_ref().unwrap_or(&self.key.gateway)) {
                self.retire(tunnel, Duration::ZERO);
            }
        }
    }

    /// Why there is no tunnel, until there is one. Returns whether that is news.
    pub(super) fn fail(&self, fault: TunnelError) -> bool {
        let mut current = self.fault();
        let news = current.as_ref().is_none_or(|before| !before.is_as(&fault));
        *current = Some(fault);
        news
    }

    fn fault(&self) -> MutexGuard<'_, Option<TunnelError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without(tunnels: &[Arc<Tunnel>], gone: &Arc<Tunnel>) -> Vec<Arc<Tunnel>> {
    tunnels.iter().filter(|tunnel| !Arc::ptr_eq(tunnel, gone)).cloned().collect()
}

/// All peers of a gateway, replaced as a whole when one comes or goes.
#[derive(Default)]
pub struct Peers {
    table: ArcSwap<PeerTable>,
}

/// Cluster → its gateways.
pub type PeersByCluster = BTreeMap<Name, Vec<Arc<Peer>>>;

/// All peers, found by the GNS that is called, and by whence.
#[derive(Default)]
pub struct PeerTable {
    own: BTreeMap<Name, PeersByCluster>,
    /// By the GNS that is called, then by the one that calls.
    crossing: BTreeMap<Name, BTreeMap<Name, PeersByCluster>>,
}

impl PeerTable {
    /// The peers in a GNS that take calls from itself, or `from` another.
    pub fn of(&self, global_namespace: &Name, from: Option<&Name>) -> Option<&PeersByCluster> {
        match from {
            None => self.own.get(global_namespace),
            Some(from) => self.crossing.get(global_namespace)?.get(from),
        }
    }

    /// Every peer.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        let crossing = self.crossing.values().flat_map(BTreeMap::values);
        self.own.values().chain(crossing).flat_map(BTreeMap::values).flatten()
    }

    fn add(&mut self, peer: Arc<Peer>) {
        let PeerKey { global_namespace, from, cluster, .. } = &peer.key;
        let clusters = match from {
            None => self.own.entry(global_namespace.clone()).or_default(),
            Some(from) => {
                let crossing = self.crossing.entry(global_namespace.clone()).or_default();
                crossing.entry(from.clone()).or_default()
            }
        };
        clusters.entry(cluster.clone()).or_default().push(peer);
    }
}

impl Peers {
    /// The table as it is now. To be held for a moment only.
    pub fn table(&self) -> Guard<Arc<PeerTable>> {
        self.table.load()
    }

    /// Replaces the table.
    pub(super) fn replace(&self, peers: impl Iterator<Item = Arc<Peer>>) {
        let mut table = PeerTable::default();
        peers.for_each(|peer| table.add(peer));
        self.table.store(Arc::new(table));
    }

    /// Every peer.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.table.load().all().cloned().collect()
    }
}
