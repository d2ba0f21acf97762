//! What waits to be written. Whoever puts something in neither waits nor wakes anybody: a thread that is woken for each
//! line costs a request more than the line.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What came first waits so long for more to be written with it.
const GATHER: Duration = Duration::from_millis(20);

/// A queue from many to one, with bounds.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    told: Condvar,
    bounds: Bounds,
}

/// How much may wait. What was taken and is being worked on comes on top: as much again at the most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// So many.
    pub number: usize,
    /// And so many bytes of them.
    pub bytes: usize,
}

struct State<T> {
    waiting: Vec<T>,
    bytes: usize,
    /// The one who takes waits for the first.
    idle: bool,
    /// Nothing is gathered any more: it shall be written now.
    hurry: bool,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Self {
        let state = State { waiting: Vec::new(), bytes: 0, idle: false, hurry: false, closed: false };
        Queue { state: Mutex::new(state), told: Condvar::new(), bounds }
    }

    /// Puts one in that holds so many bytes. Returns false when there is no room for it, or it is closed.
    pub fn put(&self, one: T, bytes: usize) -> bool {
        let mut state = self.state();
        let fits = state.waiting.len() < self.bounds.number && state.bytes.saturating_add(bytes) <= self.bounds.bytes;
        if state.closed || !fits {
            return false;
        }
        state.bytes += bytes;
        state.waiting.push(one);
        // Who gathers is told when half of the room is gone.
        let many = 2 * state.waiting.len() >= self.bounds.number || 2 * state.bytes >= self.bounds.bytes;
        let tells = mem::take(&mut state.idle) || (many && !mem::replace(&mut state.hurry, true));
        drop(state);
        if tells {
            self.told.notify_one();
        }
        true
    }

    /// Takes all that is there, once something is. Nothing once it is closed and empty.
    pub fn take(&self) -> Option<Vec<T>> {
        let mut state = self.state();
        while state.waiting.is_empty() && !state.closed {
            state.idle = true;
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        let gathers = |state: &mut State<T>| !state.hurry && !state.closed;
        let gathered = self.told.wait_timeout_while(state, GATHER, gathers);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        (state.hurry, state.bytes) = (false, 0);
        let room = state.waiting.len();
        let all = mem::replace(&mut state.waiting, Vec::with_capacity(room));
        (!all.is_empty()).then_some(all)
    }

    /// Nothing more may be put in. What is there can still be taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.told.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        let queue = Queue::new(Bounds { number: 2, bytes: 10 });
        assert!(queue.put('a', 4) && !queue.put('b', 7) && queue.put('c', 6) && !queue.put('d', 0));
        assert_eq!(queue.take().unwrap(), ['a', 'c']);
        assert!(queue.put('e', 10), "what was taken has made room");
    }

    #[test]
    fn what_was_put_in_before_the_end_is_taken_and_nothing_after() {
        let queue = Queue::new(Bounds { number: 2, bytes: 10 });
        assert!(queue.put('a', 1));
        queue.close();
        assert!(!queue.put('b', 1));
        assert_eq!((queue.take(), queue.take()), (Some(vec!['a']), None));
    }

    #[test]
    fn nothing_is_lost_between_many_and_one() {
        let queue = Arc::new(Queue::new(Bounds { number: 100, bytes: 1_000 }));
        let taker = thread::spawn({
            let queue = queue.clone();
            move || std::iter::from_fn(|| queue.take()).flatten().collect::<Vec<usize>>()
        });
        let putters: Vec<_> = (0..4)
            .map(|putter| {
                let queue = queue.clone();
                thread::spawn(move || {
                    for number in 0..1_000 {
                        while !queue.put(putter * 1_000 + number, 10) {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        queue.close();
        let mut taken = taker.join().unwrap();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..4_000));
    }
}
