//! Runs the active checks: one task an instance, however many routes lead to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use config::snapshot::{Check, Endpoint, Service};
use decide::health::{Shown, State, Tally, Why, may_eject};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::probe::probe;
use super::{Changes, InstanceHealth, InstanceKey};
use crate::plan::{Plan, PlannedService};

/// Knows every instance of this cluster, and checks those that the plan has.
pub struct Checker {
    known: Mutex<BTreeMap<InstanceKey, Known>>,
    changed: Arc<dyn Fn() + Send + Sync>,
    changes: Changes,
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
        Checker { known: Mutex::default(), changed, changes: Changes::default(), stop }
    }

    /// How often health has changed, of all the instances together.
    pub fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// The health of an instance: the same for as long as plans have it and its check is the same.
    pub fn health(&self, key: &InstanceKey, check: &Check) -> Arc<InstanceHealth> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(key).filter(|known| known.check == *check) {
            return known.health.clone();
        }
        let health = Arc::new(InstanceHealth::new(check, self.changes()));
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

    /// An attempt at a request, or a stream, showed something of an instance of this service. What is bad enough, or bad
    /// often enough, puts the instance out, but by the evidence of requests never more than half of those that serve.
    pub fn shown(&self, service: &PlannedService, health: &InstanceHealth, shown: Shown) {
        let now = Instant::now();
        if let Some(fault) = shown.fault() {
            service.metrics.fault(fault);
            if health.is_sick() {
                // It comes in late, or was sent there for want of anything better: no new evidence.
                return self.learn_connect(health, shown, now);
            }
        }
        health.share.record(shown, now);
        let full = health.streaks.record(shown);
        let stands_out = || {
            let own = health.share.tally(now);
            own.might_stand_out() && own.stands_out(others(service, health, now))
        };
        if full || (shown.fault().is_some() && stands_out()) {
            self.eject(service, health, now);
        }
        self.learn_connect(health, shown, now);
    }

    /// Who can't be connected to is dead, whatever else is known.
    fn learn_connect(&self, health: &InstanceHealth, shown: Shown, now: Instant) {
        if shown == Shown::Connect && health.learn(now, |tracker| _ = tracker.connect_failed(now)) {
            (self.changed)();
        }
    }

    fn eject(&self, service: &PlannedService, health: &InstanceHealth, now: Instant) {
        let all = service.instances();
        let ejected = all.iter().filter(|target| target.health.state() == State::Sick(Why::Responses)).count();
        let well = all.iter().filter(|target| !target.health.is_sick()).count();
        if !may_eject(ejected, ejected + well) {
            return;
        }
        health.streaks.clear();
        health.share.clear();
        if health.learn(now, |tracker| _ = tracker.eject(now, fastrand::f64())) {
            service.metrics.ejections.inc();
            let served_by = all.iter().find(|target| std::ptr::eq(&*target.health, health));
            let instance = served_by.map(|target| String::from_utf8_lossy(target.served_by.as_bytes()));
            tracing::info!(service = %service.service.name, ?instance, why = ?Why::Responses, "an instance is ejected");
            (self.changed)();
        }
    }
}

/// How the other instances do.
fn others(service: &PlannedService, health: &InstanceHealth, now: Instant) -> Tally {
    let others = service.instances().iter().filter(|target| !std::ptr::eq(&*target.health, health));
    others.map(|target| target.health.share.tally(now)).fold(Tally::default(), Tally::plus)
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
        let probed = probe(at, &check).await;
        let (now, mut wait) = (Instant::now(), check.interval.duration());
        if health.learn(now, |tracker| {
            tracker.record(probed, now);
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

#[cfg(test)]
mod tests;
