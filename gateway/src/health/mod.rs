//! Which instances of this cluster can take requests: checked once per gateway, and judged by what requests meet.

mod call;
pub mod checker;
mod probe;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use config::resource::{Name, Protocol};
use config::snapshot::{Check, Endpoint, Service, Version};
use decide::health::{State, Streak, Thresholds, Tracker, Why};
use http::HeaderValue;
use tokio::sync::Notify;

use crate::upstream::pool::Connections;

/// An instance on one port of its service, ready to be called.
pub struct Target {
    /// Its version.
    pub version: Name,
    /// What it speaks on that port.
    pub protocol: Protocol,
    /// `CLUSTER/VERSION/INSTANCE`, for `tombolo-served-by`.
    pub served_by: HeaderValue,
    /// Connections to it.
    pub connections: Arc<Connections>,
    /// How it is.
    pub health: Arc<InstanceHealth>,
}

/// Which instance. Its health outlives plans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The GNS.
    pub global_namespace: Name,
    /// The service.
    pub service: Name,
    /// The version.
    pub version: Name,
    /// The instance's address.
    pub address: IpAddr,
    /// Its own port, if it has one.
    pub port: Option<u16>,
}

impl InstanceKey {
    /// Where the instance is says which it is: its weight and its node may change.
    pub fn new(service: &Service, version: &Version, endpoint: &Endpoint) -> Self {
        InstanceKey {
            global_namespace: service.global_namespace.clone(),
            service: service.name.clone(),
            version: version.name.clone(),
            address: endpoint.address,
            port: endpoint.port,
        }
    }
}

/// How one instance is.
pub struct InstanceHealth {
    tracker: Mutex<Tracker>,
    /// What the tracker believes, for requests to read without its lock.
    belief: AtomicU8,
    streak: Streak,
    ejected: Notify,
}

const UNKNOWN: u8 = 0;
const WELL: u8 = 1;
const SICK: u8 = 2;

fn belief(state: State) -> u8 {
    match state {
        State::Unknown => UNKNOWN,
        State::Well => WELL,
        State::Sick(_) => SICK,
    }
}

impl InstanceHealth {
    fn new(check: &Check) -> Self {
        let thresholds = Thresholds { unhealthy: check.unhealthy_threshold, healthy: check.healthy_threshold };
        InstanceHealth {
            tracker: Mutex::new(Tracker::new(thresholds)),
            belief: AtomicU8::new(UNKNOWN),
            streak: Streak::default(),
            ejected: Notify::new(),
        }
    }

    /// What is believed of it.
    pub fn state(&self) -> State {
        match self.belief.load(Ordering::Relaxed) {
            UNKNOWN => State::Unknown,
            WELL => State::Well,
            _ => State::Sick(Why::Checks),
        }
    }

    /// Whether it is known to be well.
    pub fn is_well(&self) -> bool {
        self.belief.load(Ordering::Relaxed) == WELL
    }

    /// Whether it is known to be sick.
    pub fn is_sick(&self) -> bool {
        self.belief.load(Ordering::Relaxed) == SICK
    }

    /// Comes back when it is known to be sick; at once when it is already.
    pub async fn ejected(&self) {
        let mut told = std::pin::pin!(self.ejected.notified());
        told.as_mut().enable();
        if !self.is_sick() {
            told.await;
        }
    }

    /// Whether responses have ejected it, for a while.
    fn ejected_by_responses(&self) -> bool {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner).is_ejected(Instant::now())
    }

    /// Something was learnt about the instance: lets the tracker judge, and tells who waits. Returns whether the
    /// belief changed.
    fn learn(&self, evidence: impl FnOnce(&mut Tracker)) -> bool {
        let mut tracker = self.tracker.lock().unwrap_or_else(PoisonError::into_inner);
        evidence(&mut tracker);
        let now = belief(tracker.state(Instant::now()));
        let before = self.belief.swap(now, Ordering::Relaxed);
        drop(tracker);
        if now == SICK && before != SICK {
            self.ejected.notify_waiters();
        }
        now != before
    }
}
