//! Which instances of this cluster can take requests: checked once per gateway, and judged by what requests meet.

mod call;
pub mod census;
pub mod checker;
#[cfg(test)]
pub mod fixtures;
pub mod probe;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use config::resource::{Name, Protocol};
use config::snapshot::Check;
use decide::balance::Ramp;
use decide::health::{Fault, Share, State, Streaks, Thresholds, Tracker, Why};
use http::HeaderValue;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

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

/// How often the health of any instance of a service has changed: by which to know that what was made of it still holds.
#[derive(Debug, Clone, Default)]
pub struct Changes(Arc<AtomicU64>);

impl Changes {
    /// The number so far. Who reads it first and health then sees health at least as new.
    pub fn number(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// How one instance is. It is checked for as long as this is held: by a plan, or by a request that it was chosen for.
pub struct InstanceHealth {
    tracker: Mutex<Tracker>,
    watch: Mutex<Option<Watch>>,
    /// What the tracker believes, for requests to read without its lock.
    belief: AtomicU8,
    streaks: Streaks,
    share: Share,
    ramp: Ramp,
    died: Notify,
    changes: Changes,
}

/// Where an instance is checked and how it is spoken to, and the task that does it.
struct Watch {
    at: (SocketAddr, u64),
    _task: AbortOnDropHandle<()>,
}

/// The states by their number in [`InstanceHealth::belief`].
const STATES: [State; 7] = [
    State::Unknown,
    State::Well,
    State::Sick(Why::Unready),
    State::Sick(Why::Silent),
    State::Sick(Why::Connect),
    State::Sick(Why::Checks),
    State::Sick(Why::Responses),
];

fn number(state: State) -> u8 {
    match state {
        State::Unknown => 0,
        State::Well => 1,
        State::Sick(Why::Unready) => 2,
        State::Sick(Why::Silent) => 3,
        State::Sick(Why::Connect) => 4,
        State::Sick(Why::Checks) => 5,
        State::Sick(Why::Responses) => 6,
    }
}

impl InstanceHealth {
    /// Of which nothing is known yet.
    pub fn new(check: &Check, changes: &Changes) -> Self {
        let thresholds = Thresholds { unhealthy: check.unhealthy_threshold, healthy: check.healthy_threshold };
        let now = Instant::now();
        InstanceHealth {
            tracker: Mutex::new(Tracker::new(thresholds)),
            watch: Mutex::default(),
            belief: AtomicU8::new(number(State::Unknown)),
            streaks: Streaks::default(),
            share: Share::new(now),
            ramp: Ramp::new(now),
            died: Notify::new(),
            changes: changes.clone(),
        }
    }

    /// What is believed of it.
    pub fn state(&self) -> State {
        STATES.get(usize::from(self.belief.load(Ordering::Relaxed))).copied().unwrap_or(State::Unknown)
    }

    /// Whether it is known to be well.
    pub fn is_well(&self) -> bool {
        self.state() == State::Well
    }

    /// Whether it is known to be sick.
    pub fn is_sick(&self) -> bool {
        matches!(self.state(), State::Sick(_))
    }

    /// The failures of the last requests to it, if nothing good came after them.
    pub fn streak(&self) -> Option<(Fault, u8)> {
        self.streaks.longest()
    }

    /// Where it is checked, if it is.
    pub fn checked_at(&self) -> Option<SocketAddr> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|watch| watch.at.0)
    }

    /// Whether it is checked.
    #[cfg(test)]
    pub fn is_checked(&self) -> bool {
        self.watch.lock().is_ok_and(|watch| watch.is_some())
    }

    /// Its part of the turns that it would have, as a [`Rota`](decide::balance::Rota) takes it: little when it has just come back.
    pub fn weight(&self) -> u32 {
        self.ramp.weight(Instant::now)
    }

    /// Comes back when it is known to be dead; at once when it is already. Who merely answers badly may still answer what
    /// waits there, and a request that must not be repeated depends on it.
    pub async fn dead(&self) {
        let mut told = std::pin::pin!(self.died.notified());
        told.as_mut().enable();
        if !is_dead(self.state()) {
            told.await;
        }
    }

    /// Something was learnt about the instance: lets the tracker judge, and tells who waits. Returns whether the
    /// belief changed.
    fn learn(&self, now: Instant, evidence: impl FnOnce(&mut Tracker)) -> bool {
        let mut tracker = self.tracker.lock().unwrap_or_else(PoisonError::into_inner);
        evidence(&mut tracker);
        let state = tracker.state(now);
        let before = self.state();
        self.belief.store(number(state), Ordering::Relaxed);
        drop(tracker);
        if matches!(before, State::Sick(_)) && state == State::Well {
            self.ramp.begin(now);
        }
        if state != before {
            self.changes.add();
        }
        if is_dead(state) && !is_dead(before) {
            self.died.notify_waiters();
        }
        state != before
    }
}

fn is_dead(state: State) -> bool {
    matches!(state, State::Sick(Why::Silent | Why::Connect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_found_by_its_number() {
        for (index, state) in STATES.into_iter().enumerate() {
            assert_eq!(usize::from(number(state)), index);
        }
    }
}
