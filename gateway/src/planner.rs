//! Snapshot, keys and identities → plan. What didn't change is taken over from the plan before, so that connections,
//! turns and verdicts outlive changes.

mod host;
mod mesh;
mod service;
mod tls;

use std::collections::BTreeSet;
use std::sync::Arc;

use config::live::Publisher;
use config::snapshot::Snapshot;
use config::wire::Rejection;
use identity::KeyedCertificate;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::SingleCertAndKey;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use crate::health::checker::Checker;
use crate::inputs::{Identities, Inputs, Secrets};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::upstream::pool::Pools;
use host::Leads;
use service::Change;
pub(crate) use tls::same_identity;
pub use tls::{MESH_ALPN, REQUESTS_ALPN, STREAM_ALPN};

/// So many sessions of clients can be resumed; older ones are forgotten.
const SESSIONS: usize = 8_192;

/// Follows the inputs and publishes plans.
pub struct Planner {
    inputs: Inputs,
    publisher: Publisher<Plan>,
    checker: Arc<Checker>,
    pools: Arc<Pools>,
    metrics: Arc<Metrics>,
    public: PublicTls,
}

impl Planner {
    /// Publishes a first plan at once.
    pub fn new(inputs: Inputs, publisher: Publisher<Plan>, checker: Arc<Checker>, metrics: Arc<Metrics>) -> Self {
        let planner = Planner { inputs, publisher, checker, pools: Arc::default(), metrics, public: PublicTls::new() };
        planner.plan();
        planner
    }

    /// Makes a new plan whenever an input changes. What changes while one is made waits for the next, however often it
    /// does. Plans are made beside the runtime's workers: those have requests to serve.
    pub async fn run(self) {
        let Inputs { mut snapshot, mut secrets, mut identities } = self.inputs.clone();
        let _tidying = AbortOnDropHandle::new(tokio::spawn(self.pools.clone().tidy()));
        let planner = Arc::new(self);
        loop {
            let more = tokio::select! {
                next = snapshot.changed() => next.is_some(),
                next = secrets.changed() => next.is_some(),
                next = identities.changed() => next.is_some(),
            };
            let planner = planner.clone();
            // It fails only when the runtime ends.
            if !more || spawn_blocking(move || planner.plan()).await.is_err() {
                return;
            }
        }
    }

    fn plan(&self) {
        let (snapshot, secrets) = (self.inputs.snapshot.get(), self.inputs.secrets.get());
        let identities = self.inputs.identities.get();
        let previous = self.publisher.current();
        let revision = snapshot.revision;
        let Planner { checker, pools, metrics, public, .. } = self;
        let build = Build { previous: &previous, secrets: &secrets, checker, pools, metrics, public };
        let (plan, changes) = build.plan(snapshot, &identities);
        tell(&previous.rejected, &plan.rejected);
        for Change { of: (gns, name), .. } in changes.iter().filter(|change| change.now.is_none()) {
            self.metrics.forget(gns, name);
        }
        self.publisher.publish(Arc::new(plan));
        if !changes.is_empty() {
            self.checker.others_now();
        }
        self.metrics.revision.set(i64::try_from(revision.global).unwrap_or(i64::MAX));
    }
}

/// Logs what is rejected now and was not before.
fn tell(before: &[Rejection], now: &[Rejection]) {
    if before == now {
        return;
    }
    let known: BTreeSet<_> = before.iter().map(|Rejection { key, reason }| (key, reason)).collect();
    for Rejection { key, reason } in now.iter().filter(|fault| !known.contains(&(&fault.key, &fault.reason))) {
        tracing::warn!(%key, %reason, "cannot be served as it is written");
    }
}

/// What a plan knows of how it was made.
#[derive(Default)]
pub(crate) struct Kept {
    leads: Arc<Leads>,
    /// What was rejected for want of a port.
    clashes: Vec<Rejection>,
}

struct Build<'a> {
    previous: &'a Plan,
    secrets: &'a Secrets,
    checker: &'a Checker,
    pools: &'a Pools,
    metrics: &'a Metrics,
    public: &'a PublicTls,
}

impl Build<'_> {
    /// The plan, and which services are others in it.
    fn plan(&self, snapshot: Arc<Snapshot>, identities: &Identities) -> (Plan, Vec<Change>) {
        let mut rejected = snapshot.rejected.clone();
        let beliefs = self.beliefs(&snapshot, &mut rejected);
        let trust = self.trust(&beliefs);
        let own = self.own(&snapshot, identities, &beliefs);
        let (services, changes) = self.services(&snapshot, &own);
        let (hosts, leads) = self.hosts(&snapshot.public_hosts, (&services, &changes), &mut rejected);
        let tunnels = self.tunnels(&snapshot, (&own, &beliefs), &mut rejected);
        let crossings = self.crossings(&snapshot, (&own, &beliefs), &mut rejected);
        let callers = self.callers(&snapshot, (&own, &beliefs), &mut rejected);
        let (mesh, clashes) = mesh::ports(self.previous, &services, &changes);
        rejected.extend(clashes.iter().cloned());
        let kept = Kept { leads, clashes };
        let plan =
            Plan { snapshot, services, mesh, hosts, beliefs, trust, own, tunnels, crossings, callers, rejected, kept };
        (plan, changes)
    }
}

/// What all public hosts share of TLS, so that each costs little. A session belongs to the name that it was made for
/// (rustls looks at that when one is resumed), and no host asks for a client's certificate.
struct PublicTls {
    provider: Arc<CryptoProvider>,
    sessions: Arc<ServerSessionMemoryCache>,
}

impl PublicTls {
    fn new() -> Self {
        PublicTls { provider: Arc::new(default_provider()), sessions: ServerSessionMemoryCache::new(SESSIONS) }
    }

    /// HTTPS for the public: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    fn server(&self, keyed: &KeyedCertificate) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(keyed.certified_key())));
        config.session_storage = self.sessions.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
