//! Runs the active checks: one task an instance, however many routes lead to it.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use config::resource::{HealthProtocol, Name, Protocol};
use config::snapshot::{Check, Endpoint, Service};
use decide::health::{Probed, Shown, State, Tally, Why, may_eject};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::probe::{Checked, probe};
use super::{InstanceHealth, Watch};
use crate::news::News;
use crate::plan::PlannedService;
use crate::upstream::secure::{Inside, Security};

/// Checks the instances that plans have.
pub struct Checker {
    changed: Arc<dyn Fn() + Send + Sync>,
    news: Arc<News>,
    stop: CancellationToken,
}

impl Checker {
    /// `changed` is called whenever an instance became usable or unusable, and `news` has its service then. No check runs
    /// on after `stop`.
    pub fn new(changed: Arc<dyn Fn() + Send + Sync>, news: Arc<News>, stop: CancellationToken) -> Self {
        Checker { changed, news, stop }
    }

    fn tell(&self, service: &PlannedService) {
        self.news.of(&service.service.global_namespace, &service.service.name);
        (self.changed)();
    }

    /// Checks the instance, until nobody holds its health any more. One that is checked there already stays so. Must be
    /// called in a tokio runtime.
    pub fn watch(
        &self,
        health: &Arc<InstanceHealth>,
        service: &Service,
        version: &Name,
        (endpoint, security): (&Endpoint, &Security),
    ) {
        let Some(address) = checked_at(service, endpoint) else { return };
        if matches!(security, Security::Missing) {
            // What cannot be asked says nothing.
            return;
        }
        let (at, number) =
            (Checked { address, security: security.clone(), inside: inside(service) }, security.number());
        let mut watch = health.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.as_ref().is_some_and(|watch| watch.at == (address, number)) {
            return;
        }
        let round = Round {
            at,
            check: service.health_check.clone(),
            health: Arc::downgrade(health),
            changed: self.changed.clone(),
            news: self.news.clone(),
            global_namespace: service.global_namespace.clone(),
            service: service.name.clone(),
            version: version.clone(),
        };
        let stop = self.stop.clone();
        let task = tokio::spawn(async move { _ = stop.run_until_cancelled(round.run()).await });
        *watch = Some(Watch { at: (address, number), _task: AbortOnDropHandle::new(task) });
    }

    /// Tells whoever follows health that there are other instances now: peers and DNS servers then need not wait for the
    /// next beat.
    pub fn others_now(&self) {
        (self.changed)();
    }

    /// An attempt at a request, or a stream, showed something of an instance of this service. What is bad enough, or bad
    /// often enough, puts the instance out, but by the evidence of requests never more than half of those that serve.
    pub fn shown(&self, service: &PlannedService, health: &InstanceHealth, shown: Shown) {
        let now = Instant::now();
        if let Some(fault) = shown.fault() {
            service.metrics.fault(fault);
            if health.is_sick() {
                // It comes in late, or was sent there for want of anything better: no new evidence.
                return self.learn_connect(service, health, shown, now);
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
        self.learn_connect(service, health, shown, now);
    }

    /// Who can't be connected to is dead, whatever else is known.
    fn learn_connect(&self, service: &PlannedService, health: &InstanceHealth, shown: Shown, now: Instant) {
        if shown == Shown::Connect && health.learn(now, |tracker| _ = tracker.connect_failed(now)) {
            self.tell(service);
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
            self.tell(service);
        }
    }
}

/// How the other instances do.
fn others(service: &PlannedService, health: &InstanceHealth, now: Instant) -> Tally {
    let others = service.instances().iter().filter(|target| !std::ptr::eq(&*target.health, health));
    others.map(|target| target.health.share.tally(now)).fold(Tally::default(), Tally::plus)
}

/// Where an instance is checked: on the check's own port, else on the service's first.
fn checked_at(service: &Service, endpoint: &Endpoint) -> Option<SocketAddr> {
    match service.health_check.port {
        Some(port) => Some(SocketAddr::new(endpoint.address, port)),
        None => service.ports.first().map(|port| endpoint.socket(port)),
    }
}

/// What is spoken inside TLS where an instance is checked.
pub fn inside(service: &Service) -> Inside {
    let first = service.ports.first().map(|port| port.protocol);
    match (service.health_check.protocol, first) {
        (HealthProtocol::Grpc, _) => Inside::Http2,
        (HealthProtocol::Http, _) if service.health_check.prior_knowledge => Inside::Http2,
        (HealthProtocol::Http, _) => Inside::Http1,
        (HealthProtocol::Tcp, Some(Protocol::Http2 | Protocol::Grpc)) => Inside::Http2,
        (HealthProtocol::Tcp, Some(Protocol::Tcp | Protocol::Tls)) => Inside::Stream,
        (HealthProtocol::Tcp, Some(Protocol::Http) | None) => Inside::Http1,
    }
}

/// The checks of one instance, again and again.
struct Round {
    at: Checked,
    check: Check,
    /// Whoever holds the instance lets it be checked; its checks don't hold it.
    health: Weak<InstanceHealth>,
    changed: Arc<dyn Fn() + Send + Sync>,
    news: Arc<News>,
    global_namespace: Name,
    service: Name,
    version: Name,
}

impl Round {
    async fn run(self) {
        loop {
            let probed = probe(&self.at, &self.check).await;
            let Some(wait) = self.learn(probed) else { return };
            // Checks of many instances must not march in step.
            tokio::time::sleep(wait.mul_f64(0.95 + 0.05 * fastrand::f64())).await;
        }
    }

    /// Returns when to check again; nothing when nobody holds the instance any more.
    fn learn(&self, probed: Probed) -> Option<Duration> {
        let (health, now, mut wait) = (self.health.upgrade()?, Instant::now(), self.check.interval.duration());
        if health.learn(now, |tracker| {
            tracker.record(probed, now);
            wait = tracker.next_check_in(wait);
        }) {
            let Round { global_namespace, service, version, at, .. } = self;
            let state = health.state();
            tracing::info!(%global_namespace, %service, %version, instance = %at.address, ?state, "an instance's health changed");
            self.news.of(global_namespace, service);
            (self.changed)();
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests;
