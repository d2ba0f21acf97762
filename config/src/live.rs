//! `Publisher<T>` and `Live<T>`: the only way state reaches a data plane.
//!
//! Reading is one `arc-swap` load, without a lock. Waiting for a change takes a lock, but only at the moment of
//! registering or publishing, never on the request path.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use arc_swap::{ArcSwap, Guard};

struct Shared<T> {
    value: ArcSwap<T>,
    waiting: Mutex<Waiting>,
}

/// Who waits for the next publication; `version` counts publications.
#[derive(Default)]
struct Waiting {
    version: u64,
    closed: bool,
    /// The number of the reader that comes next.
    next: u64,
    /// At most one for each reader, however often it asks.
    wakers: BTreeMap<u64, Waker>,
}

impl<T> Shared<T> {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is waited for, and wakes whoever waits. Wakers run and end outside the lock: their tasks may hold
    /// readers of their own.
    fn wake(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting();
        change(&mut waiting);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_values().for_each(Waker::wake);
    }
}

/// The writing end: there is one for each [`Live`].
pub struct Publisher<T>(Arc<Shared<T>>);

/// The reading end: cheap to clone; each clone notices changes for itself.
pub struct Live<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
    number: u64,
}

/// Makes a value that can be replaced while others read it.
pub fn channel<T>(initial: Arc<T>) -> (Publisher<T>, Live<T>) {
    let shared = Arc::new(Shared { value: ArcSwap::new(initial), waiting: Mutex::default() });
    let live = Live::new(shared.clone(), 0);
    (Publisher(shared), live)
}

impl<T> Publisher<T> {
    /// Replaces the value, whole, and wakes whoever waits for a change.
    pub fn publish(&self, value: Arc<T>) {
        self.0.value.store(value);
        self.0.wake(|waiting| waiting.version += 1);
    }

    /// The value as last published.
    pub fn current(&self) -> Arc<T> {
        self.0.value.load_full()
    }

    /// A further reader, which has seen the current value.
    pub fn subscribe(&self) -> Live<T> {
        let seen = self.0.waiting().version;
        Live::new(self.0.clone(), seen)
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.0.wake(|waiting| waiting.closed = true);
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live::new(self.shared.clone(), self.seen)
    }
}

impl<T> Drop for Live<T> {
    fn drop(&mut self) {
        let waker = self.shared.waiting().wakers.remove(&self.number);
        drop(waker);
    }
}

impl<T> Live<T> {
    fn new(shared: Arc<Shared<T>>, seen: u64) -> Self {
        let mut waiting = shared.waiting();
        let number = waiting.next;
        waiting.next += 1;
        drop(waiting);
        Live { shared, seen, number }
    }

    /// The current value, for the time of a request: no reference count is touched.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.shared.value.load()
    }

    /// The current value, to keep.
    pub fn get(&self) -> Arc<T> {
        self.shared.value.load_full()
    }

    /// Waits until something newer than what this reader last waited for was published, and returns it.
    /// Returns `None` once the publisher is gone and its last value was returned.
    pub async fn changed(&mut self) -> Option<Arc<T>> {
        poll_fn(|context| {
            let mut waiting = self.shared.waiting();
            if waiting.version != self.seen {
                self.seen = waiting.version;
                return Poll::Ready(Some(self.shared.value.load_full()));
            }
            if waiting.closed {
                return Poll::Ready(None);
            }
            let before = waiting.wakers.insert(self.number, context.waker().clone());
            drop(waiting);
            drop(before);
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn a_reader_sees_each_publication_and_the_end() {
        let (publisher, mut live) = channel(Arc::new(1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(live.changed()).poll(&mut context).is_pending());
        publisher.publish(Arc::new(2));
        publisher.publish(Arc::new(3));
        assert_eq!(pin!(live.changed()).poll(&mut context), Poll::Ready(Some(Arc::new(3))));
        assert!(pin!(live.changed()).poll(&mut context).is_pending());
        drop(publisher);
        assert_eq!(pin!(live.changed()).poll(&mut context), Poll::Ready(None));
        assert_eq!(**live.load(), 3);
    }

    #[test]
    fn whoever_asks_often_waits_once() {
        let (_publisher, mut live) = channel(Arc::new(1));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..1000 {
            assert!(pin!(live.changed()).poll(&mut context).is_pending());
        }
        assert_eq!(live.shared.waiting().wakers.len(), 1);
        let shared = live.shared.clone();
        drop(live);
        assert!(shared.waiting().wakers.is_empty());
    }

    #[test]
    fn a_late_subscriber_waits_for_the_next() {
        let (publisher, _live) = channel(Arc::new(1));
        publisher.publish(Arc::new(2));
        let mut late = publisher.subscribe();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(late.changed()).poll(&mut context).is_pending());
    }
}
