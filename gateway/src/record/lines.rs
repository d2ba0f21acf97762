//! Lines that wait to be written. Whoever has one puts it in whole, and neither waits nor wakes anybody: a thread that is
//! woken for each line costs a request more than the line.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What came first waits so long for more to be written with it.
const GATHER: Duration = Duration::from_millis(20);
/// Unless so many bytes wait: these go in one call, and are still in the processor's cache.
pub const TOGETHER: usize = 64 << 10;

/// Lines on their way from many threads to one, one behind the other in one piece of memory.
pub struct Lines {
    state: Mutex<State>,
    told: Condvar,
    /// So many bytes may wait. What was taken and is being written comes on top: as much again at the most.
    room: usize,
}

struct State {
    waiting: Vec<u8>,
    /// The one who takes waits for the first.
    idle: bool,
    /// Nothing is gathered any more: it shall be written now.
    hurry: bool,
    closed: bool,
}

impl Lines {
    /// None yet, and room for so many bytes.
    pub fn new(room: usize) -> Self {
        let state = State { waiting: Vec::new(), idle: false, hurry: false, closed: false };
        Lines { state: Mutex::new(state), told: Condvar::new(), room }
    }

    /// Puts one in. Returns false when there is no room for it, or it is over.
    pub fn put(&self, line: &[u8]) -> bool {
        let mut state = self.state();
        if state.closed || state.waiting.len().saturating_add(line.len()) > self.room {
            return false;
        }
        state.waiting.extend_from_slice(line);
        let many = state.waiting.len() >= TOGETHER.min(self.room);
        let tells = mem::take(&mut state.idle) || (many && !mem::replace(&mut state.hurry, true));
        drop(state);
        if tells {
            self.told.notify_one();
        }
        true
    }

    /// Takes all that is there, once something is, and leaves `empty` in its place. Nothing once it is closed and empty.
    pub fn take(&self, mut empty: Vec<u8>) -> Option<Vec<u8>> {
        let mut state = self.state();
        while state.waiting.is_empty() && !state.closed {
            state.idle = true;
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        let gathers = |state: &mut State| !state.hurry && !state.closed;
        let gathered = self.told.wait_timeout_while(state, GATHER, gathers);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        empty.clear();
        let all = mem::replace(&mut state.waiting, empty);
        (!all.is_empty()).then_some(all)
    }

    /// Nothing more may be put in. What is there can still be taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.told.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
    fn what_waits_is_bounded() {
        let lines = Lines::new(10);
        assert!(lines.put(b"abc\n") && !lines.put(b"defghi\n") && lines.put(b"jklmn\n") && !lines.put(b"\n"));
        assert_eq!(lines.take(Vec::new()).unwrap(), b"abc\njklmn\n");
        assert!(lines.put(b"opqrstuvw\n"), "what was taken has made room");
    }

    #[test]
    fn what_was_put_in_before_the_end_is_taken_and_nothing_after() {
        let lines = Lines::new(10);
        assert!(lines.put(b"a\n"));
        lines.close();
        assert!(!lines.put(b"b\n"));
        assert_eq!((lines.take(Vec::new()), lines.take(b"old".to_vec())), (Some(b"a\n".to_vec()), None));
    }

    #[test]
    fn nothing_is_lost_between_many_and_one() {
        let lines = Arc::new(Lines::new(1_000));
        let taker = thread::spawn({
            let lines = lines.clone();
            move || {
                let mut text = Vec::new();
                let mut taken = Vec::new();
                while let Some(all) = lines.take(mem::take(&mut taken)) {
                    text.extend_from_slice(&all);
                    taken = all;
                }
                String::from_utf8(text).unwrap()
            }
        });
        let putters: Vec<_> = (0..4)
            .map(|putter| {
                let lines = lines.clone();
                thread::spawn(move || {
                    for number in 0..1_000 {
                        while !lines.put(format!("{}\n", putter * 1_000 + number).as_bytes()) {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        lines.close();
        let mut taken: Vec<usize> = taker.join().unwrap().lines().map(|line| line.parse().unwrap()).collect();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..4_000));
    }
}
