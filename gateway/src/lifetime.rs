//! How long a connection goes on: it is asked to end when it is old, idle for long, or the gateway stops, in a way that
//! costs no request; and it is cut when it doesn't.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A connection without requests is asked to end after so long.
const IDLE: Duration = Duration::from_secs(75);

/// A connection that was asked to end and has no request any more has so long to end: for a round trip over a bad line
/// and back, in which a request may be on its way.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Ages differ by so much, up or down, so that connections that began together don't end together.
const JITTER: f64 = 0.1;

/// What ends a connection, besides the gateway's own end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// It is not older, give or take a tenth.
    pub age: Option<Duration>,
    /// It is not longer without a request.
    pub idle: Option<Duration>,
}

impl Bounds {
    /// Those of a client's connection.
    pub fn of_client(age: Option<Duration>) -> Self {
        Bounds { age: age.map(|age| age.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())), idle: Some(IDLE) }
    }

    /// Those of a tunnel: its dialler says when it ends.
    pub fn of_tunnel() -> Self {
        Bounds::default()
    }
}

/// One connection's.
#[derive(Debug)]
pub struct Lifetime {
    began: Instant,
    /// Requests under way.
    busy: AtomicUsize,
    /// Milliseconds from the connection's begin to the end of its last request.
    free_at: AtomicU64,
    ending: watch::Sender<bool>,
}

impl Default for Lifetime {
    /// It begins now.
    fn default() -> Self {
        Lifetime {
            began: Instant::now(),
            busy: AtomicUsize::new(0),
            free_at: AtomicU64::new(0),
            ending: watch::Sender::new(false),
        }
    }
}

/// A request on the connection, until dropped.
#[must_use]
pub struct Busy(Arc<Lifetime>);

impl Drop for Busy {
    fn drop(&mut self) {
        // The time first: who finds nothing under way must not take an older time for the newest.
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.free_at.fetch_max(now, Ordering::Release);
        self.0.busy.fetch_sub(1, Ordering::Release);
    }
}

impl Lifetime {
    /// A request begins.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Turns true once the connection shall bring no further request: GOAWAY on HTTP/2, `Connection: close` on the next
    /// answer of HTTP/1.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Asks the connection to end.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// For how long it has been without a request; nothing while there is one.
    pub fn idle(&self) -> Option<Duration> {
        let free = self.busy.load(Ordering::Acquire) == 0;
        let at = self.began + Duration::from_millis(self.free_at.load(Ordering::Acquire));
        free.then(|| at.elapsed())
    }

    /// Whether it was asked to end.
    pub fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Asks the connection to end when it is time, and comes back when it had time enough to do so.
    pub async fn run(&self, bounds: Bounds, stopping: impl Future<Output = ()>) {
        let mut asked = self.ending();
        tokio::select! {
            () = after(bounds.age) => {}
            () = self.idle_for(bounds.idle) => {}
            () = stopping => {}
            _ = asked.wait_for(|ending| *ending) => {}
        }
        self.end();
        self.idle_for(Some(LAST_WORDS)).await;
    }

    /// Comes back when it was without a request for so long.
    async fn idle_for(&self, bound: Option<Duration>) {
        let Some(bound) = bound else { return std::future::pending().await };
        let called = Instant::now();
        loop {
            let idle = self.idle().map(|idle| idle.min(called.elapsed()));
            match idle.map_or(Some(bound), |idle| bound.checked_sub(idle)) {
                Some(rest) if !rest.is_zero() => tokio::time::sleep(rest).await,
                _ => return,
            }
        }
    }
}

async fn after(bound: Option<Duration>) {
    match bound {
        Some(bound) => tokio::time::sleep(bound).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    fn start(bounds: Bounds) -> (Arc<Lifetime>, tokio::task::JoinHandle<()>) {
        let lifetime = Arc::new(Lifetime::default());
        let running = lifetime.clone();
        let run = tokio::spawn(async move { running.run(bounds, std::future::pending()).await });
        (lifetime, run)
    }

    #[tokio::test]
    async fn an_idle_connection_is_asked_to_end_but_none_with_a_request() {
        let bounds = Bounds { age: None, idle: Some(SOON) };
        let (lifetime, _run) = start(bounds);
        lifetime.ending().wait_for(|ending| *ending).await.unwrap();
        let (lifetime, run) = start(bounds);
        let request = lifetime.begin();
        assert_eq!(lifetime.idle(), None);
        tokio::time::sleep(10 * SOON).await;
        assert!(!lifetime.is_ending() && !run.is_finished());
        drop(request);
        lifetime.ending().wait_for(|ending| *ending).await.unwrap();
    }

    #[tokio::test]
    async fn an_old_connection_is_asked_to_end_even_with_a_request() {
        let (lifetime, run) = start(Bounds::of_client(Some(SOON)));
        let _request = lifetime.begin();
        lifetime.ending().wait_for(|ending| *ending).await.unwrap();
        assert!(!run.is_finished(), "it is not cut");
    }

    #[tokio::test]
    async fn a_tunnel_goes_on_until_it_is_asked() {
        let (lifetime, run) = start(Bounds::of_tunnel());
        tokio::time::sleep(SOON).await;
        assert!(!lifetime.is_ending() && !run.is_finished());
        lifetime.end();
        assert!(lifetime.is_ending());
    }

    #[test]
    fn ages_differ_by_a_tenth() {
        let hour = Duration::from_secs(3600);
        let ages: Vec<_> = (0..1000).map(|_| Bounds::of_client(Some(hour)).age.unwrap()).collect();
        assert!(ages.iter().all(|age| (hour.mul_f64(0.9)..=hour.mul_f64(1.1)).contains(age)));
        assert!(ages.iter().min() < ages.iter().max());
    }
}
