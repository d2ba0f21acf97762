//! Runs the active checks: one task an instance, however many routes lead to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use config::snapshot::{Check, Endpoint, Service};
use decide::health::may_eject;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::probe::probe;
use super::{InstanceHealth, InstanceKey};
use crate::plan::{Plan, Pool};

/// Knows every instance of this cluster, and checks those that the plan has.
pub struct Checker {
    known: Mutex<BTreeMap<InstanceKey, Known>>,
    changed: Arc<dyn Fn() + Send + Sync>,
    stop: CancellationToken,
}

struct Known {
    health: Arc<InstanceHealth>,
    check: Check,
    running: Option<(SocketAddr, JoinHandle<Option<()>>)>,
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.running {
            task.abort();
        }
    }
}

impl Checker {
    /// `changed` is called whenever an instance became usable or unusable. No check runs on after `stop`.
    pub fn new(changed: Arc<dyn Fn() + Send + Sync>, stop: CancellationToken) -> Self {
        Checker { known: Mutex::default(), changed, stop }
    }

    /// The health of an instance: the same for as long as plans have it and its check is the same.
    pub fn health(&self, key: &InstanceKey, check: &Check) -> Arc<InstanceHealth> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(key).filter(|known| known.check == *check) {
            return known.health.clone();
        }
        let health = Arc::new(InstanceHealth::new(check));
        known.insert(key.clone(), Known { health: health.clone(), check: check.clone(), running: None });
        health
    }

    /// Checks what the plan has, and forgets what it hasn't.
    pub fn keep(&self, plan: &Plan) {
        let wanted = instances(plan);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| wanted.contains_key(key));
        for (key, known) in known.iter_mut() {
            let Some(at) = wanted.get(key).copied() else { continue };
            if known.running.as_ref().is_some_and(|(running, _)| *running == at) {
                continue;
            }
            let watch = watch(at, known.check.clone(), known.health.clone(), self.changed.clone(), key.clone());
            let watch = self.stop.clone().run_until_cancelled_owned(watch);
            if let Some((_, old)) = known.running.replace((at, tokio::spawn(watch))) {
                old.abort();
            }
        }
    }

    /// A connect to an instance was refused, reset, or took too long.
    pub fn connect_failed(&self, health: &InstanceHealth) {
        let now = Instant::now();
        if health.learn(|tracker| _ = tracker.connect_failed(now)) {
            (self.changed)();
        }
    }

    /// An instance of this pool answered, well or not (a server error, or a break before the answer was whole). Too many
    /// failures in a row eject it for a while, but never more than half of a pool.
    pub fn answered(&self, pool: &Pool, health: &InstanceHealth, ok: bool) {
        if !health.streak.record(ok) {
            return;
        }
        let ejected = pool.targets.iter().filter(|target| target.health.ejected_by_responses()).count();
        if !may_eject(ejected, pool.targets.len()) {
            return;
        }
        health.streak.clear();
        let now = Instant::now();
        if health.learn(|tracker| _ = tracker.eject(now)) {
            (self.changed)();
        }
    }
}

fn instances(plan: &Plan) -> BTreeMap<InstanceKey, SocketAddr> {
    let mut all = BTreeMap::new();
    for planned in plan.all_services() {
        let service = &planned.service;
        for version in service.versions.values() {
            for endpoint in &version.instances {
                if let Some(at) = checked_at(service, endpoint) {
                    all.insert(InstanceKey::new(service, version, endpoint), at);
                }
            }
        }
    }
    all
}

/// Where an instance is checked: on the check's own port, else on the service's first.
fn checked_at(service: &Service, endpoint: &Endpoint) -> Option<SocketAddr> {
    match service.health_check.port {
        Some(port) => Some(SocketAddr::new(endpoint.address, port)),
        None => service.ports.first().map(|port| endpoint.socket(port)),
    }
}

async fn watch(
    at: SocketAddr,
    check: Check,
    health: Arc<InstanceHealth>,
    changed: Arc<dyn Fn() + Send + Sync>,
    key: InstanceKey,
) {
    loop {
        let well = probe(at, &check).await;
        let mut wait = check.interval.duration();
        if health.learn(|tracker| {
            tracker.record(well, Instant::now());
            wait = tracker.next_check_in(wait);
        }) {
            let InstanceKey { global_namespace, service, version, .. } = &key;
            let state = health.state();
            tracing::info!(%global_namespace, %service, %version, instance = %at, ?state, "an instance's health changed");
            changed();
        }
        // Checks of many instances must not march in step.
        tokio::time::sleep(wait.mul_f64(0.95 + 0.05 * fastrand::f64())).await;
    }
}
