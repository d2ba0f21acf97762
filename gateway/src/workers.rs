//! The threads that serve connections. Each has a runtime of its own, and a connection stays with the worker to which it
//! was dealt, with all that its requests need: idle connections to instances, and tunnels, are kept by worker, too. So as
//! a rule a request wakes no other thread (`docs/decisions/0027-workers.md`).

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connections::Opener;

/// Says how many there are where no flag does, as it does in tokio.
const COUNT: &str = "TOKIO_WORKER_THREADS";

/// A worker that always has something to do takes what other threads give it after so many steps of its own, at the latest.
const FROM_OUTSIDE: u32 = 8;

/// Descriptors of a worker's runtime.
const DESCRIPTORS: usize = 4;

/// Which worker a thread is. Those that are none are as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number(usize);

const NONE: Number = Number(usize::MAX);

thread_local! {
    static HERE: Cell<Number> = const { Cell::new(NONE) };
}

impl Number {
    /// Of the calling thread.
    pub fn here() -> Self {
        HERE.get()
    }

    /// What a worker has of a thing that each has one of. Who is none has the first's.
    pub fn of<T>(self, each: &[T]) -> Option<&T> {
        each.get(self.0).or(each.first())
    }
}

/// Who serves connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// So many threads.
    Threads(NonZeroUsize),
    /// Whoever drives the runtime of one thread in which the gateway is built.
    Caller,
}

impl Layout {
    /// How many serve.
    pub fn count(self) -> usize {
        match self {
            Layout::Threads(count) => count.get(),
            Layout::Caller => 1,
        }
    }
}

impl Layout {
    /// How many descriptors they take for themselves.
    pub fn descriptors(self) -> usize {
        self.count() * DESCRIPTORS
    }
}

impl Default for Layout {
    /// A thread for each core that the process may use, unless it is told otherwise.
    fn default() -> Self {
        let said = std::env::var(COUNT).ok().and_then(|count| count.parse().ok());
        Layout::Threads(said.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN))
    }
}

/// All workers of a gateway. They end, with whatever they do, when this is dropped.
pub struct Workers {
    first: Worker,
    others: Box<[Worker]>,
    /// Where the next search for the one with the fewest connections begins.
    turn: AtomicUsize,
    over: CancellationToken,
    _until_dropped: DropGuard,
}

struct Worker {
    number: Number,
    runtime: Handle,
    load: Arc<Load>,
}

/// The connections that a worker was dealt and still has.
#[derive(Default)]
struct Load {
    of_clients: AtomicUsize,
    /// By address: a peer that has several shall not have them all with one worker.
    of_peers: Mutex<HashMap<IpAddr, usize>>,
}

impl Load {
    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.of_peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are of this peer, and how many of the kind. A tunnel carries what many clients bring, so that the
    /// two kinds are counted apart.
    fn count(&self, opener: Opener, from: IpAddr) -> (usize, usize) {
        match opener {
            Opener::Client => (0, self.of_clients.load(Ordering::Relaxed)),
            Opener::Peer => {
                let peers = self.peers();
                (peers.get(&from).copied().unwrap_or_default(), peers.values().sum())
            }
        }
    }
}

/// A worker that will have a connection.
pub struct Seat<'w> {
    worker: &'w Worker,
    held: Held,
}

impl Seat<'_> {
    /// Whether it is the calling worker: then the connection is in the right runtime already.
    pub fn is_here(&self) -> bool {
        self.worker.number == Number::here()
    }

    /// Has the worker serve the connection. The seat is taken until that has ended.
    pub fn serve(self, task: impl Future<Output = ()> + Send + 'static) {
        let Seat { worker, held } = self;
        worker.runtime.spawn(async move {
            task.await;
            drop(held);
        });
    }
}

/// A connection that a worker has, until dropped.
struct Held {
    load: Arc<Load>,
    opener: Opener,
    from: IpAddr,
}

impl Held {
    fn new(load: &Arc<Load>, opener: Opener, from: IpAddr) -> Self {
        match opener {
            Opener::Client => _ = load.of_clients.fetch_add(1, Ordering::Relaxed),
            Opener::Peer => *load.peers().entry(from).or_default() += 1,
        }
        Held { load: load.clone(), opener, from }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.opener {
            Opener::Client => _ = self.load.of_clients.fetch_sub(1, Ordering::Relaxed),
            Opener::Peer => {
                let mut peers = self.load.peers();
                if let Entry::Occupied(mut count) = peers.entry(self.from) {
                    match count.get() {
                        0 | 1 => _ = count.remove(),
                        _ => *count.get_mut() -= 1,
                    }
                }
            }
        }
    }
}

impl Workers {
    /// Starts them. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When there is no descriptor or thread for one.
    pub fn start(layout: Layout) -> io::Result<Self> {
        let over = CancellationToken::new();
        let until_dropped = over.clone().drop_guard();
        let start = |number| match layout {
            Layout::Threads(_) => Worker::start(Number(number), over.clone()),
            Layout::Caller => Ok(Worker::new(NONE, Handle::current())),
        };
        let others = (1..layout.count()).map(start).collect::<io::Result<_>>()?;
        Ok(Workers { first: start(0)?, others, turn: AtomicUsize::new(0), over, _until_dropped: until_dropped })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    fn at(&self, number: usize) -> &Worker {
        (number % self.count()).checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.first)
    }

    /// A seat for a connection from this address: with a worker that has the fewest from this peer, does not lag, and
    /// has the fewest of its kind. Of those that are alike, the calling worker is the nearest.
    pub fn seat(&self, opener: Opener, from: IpAddr, lags: impl Fn(Number) -> bool) -> Seat<'_> {
        let here = Number::here();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.count();
        let rank = |worker: &&Worker| {
            let (of_this, of_kind) = worker.load.count(opener, from);
            (of_this, lags(worker.number), of_kind, worker.number != here)
        };
        let in_turn = (turn..turn + self.count()).map(|number| self.at(number));
        let worker = in_turn.min_by_key(rank).unwrap_or(&self.first);
        Seat { worker, held: Held::new(&worker.load, opener, from) }
    }

    /// Has a task run by a worker: the first has the number 0, and beyond the last it begins anew.
    pub fn run(&self, number: usize, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.over.clone().run_until_cancelled_owned(task);
        self.at(number).runtime.spawn(async { _ = task.await });
    }

    /// Whatever is opened in there, that worker waits for.
    pub fn open_at<T>(&self, number: usize, open: impl FnOnce() -> T) -> T {
        let _entered = self.at(number).runtime.enter();
        open()
    }

    /// Ends them once it is dropped: whatever they do may keep this alive.
    pub fn end_guard(&self) -> DropGuard {
        self.over.clone().drop_guard()
    }
}

impl Worker {
    fn start(number: Number, over: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().global_queue_interval(FROM_OUTSIDE).build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name(format!("worker-{}", number.0)).spawn(move || {
            HERE.set(number);
            runtime.block_on(over.cancelled());
            // It waits for nobody who looks up a name.
            runtime.shutdown_background();
        })?;
        Ok(Worker::new(number, handle))
    }

    fn new(number: Number, runtime: Handle) -> Self {
        Worker { number, runtime, load: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn three() -> Workers {
        Workers::start(Layout::Threads(3.try_into().unwrap())).unwrap()
    }

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    /// The workers to which connections are dealt, each of which stays until what is returned is dropped.
    fn seated(workers: &Workers, opener: Opener, from: u8, count: usize) -> (Vec<usize>, CancellationToken) {
        let (told, tell) = mpsc::channel();
        let end = CancellationToken::new();
        for _ in 0..count {
            let (told, end) = (told.clone(), end.clone());
            workers.seat(opener, address(from), |_| false).serve(async move {
                told.send(Number::here().0).unwrap();
                end.cancelled().await;
            });
        }
        let mut seen: Vec<_> = (0..count).map(|_| tell.recv_timeout(SOON).unwrap()).collect();
        seen.sort_unstable();
        (seen, end)
    }

    #[test]
    fn each_gets_as_many_and_who_has_fewer_gets_the_next() {
        let workers = three();
        let (first, _end) = seated(&workers, Opener::Client, 1, 6);
        assert_eq!(first, [0, 0, 1, 1, 2, 2]);
        let (peers, end) = seated(&workers, Opener::Peer, 1, 4);
        assert!([[0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2]].contains(&peers.try_into().unwrap()), "counted apart");
        end.cancel();
        let emptied = || (0..3).all(|number| workers.at(number).load.peers().is_empty());
        while !emptied() {
            thread::yield_now();
        }
        let (again, _end) = seated(&workers, Opener::Peer, 1, 3);
        assert_eq!(again, [0, 1, 2]);
    }

    #[test]
    fn a_peers_connections_are_spread_whatever_others_have() {
        let workers = three();
        let (_, _others) = seated(&workers, Opener::Peer, 1, 1);
        let (_, _more) = seated(&workers, Opener::Peer, 2, 2);
        for peer in 3..10 {
            let (seen, _end) = seated(&workers, Opener::Peer, peer, 3);
            assert_eq!(seen, [0, 1, 2]);
        }
    }

    #[test]
    fn who_lags_gets_no_client_while_another_does_not() {
        let workers = three();
        let slow = [Number(0), Number(2)];
        for _ in 0..6 {
            let seat = workers.seat(Opener::Client, address(1), |number| slow.contains(&number));
            assert_eq!(seat.worker.number, Number(1));
            seat.serve(std::future::pending());
        }
        assert_ne!(workers.seat(Opener::Client, address(1), |_| true).worker.number, Number(1));
    }

    #[test]
    fn a_task_and_what_it_starts_stay_with_one_worker() {
        let workers = three();
        let (told, tell) = mpsc::channel();
        for number in 0..6 {
            let told = told.clone();
            workers.run(number, async move {
                let here = Number::here();
                let there = tokio::spawn(async { Number::here() }).await.unwrap();
                told.send((number, here, there)).unwrap();
            });
        }
        for _ in 0..6 {
            let (number, here, there) = tell.recv_timeout(SOON).unwrap();
            assert_eq!((here.0, there), (number % 3, here));
        }
    }

    #[test]
    fn of_workers_that_have_as_few_the_calling_one_is_chosen() {
        let workers = Arc::new(three());
        let (told, tell) = mpsc::channel();
        for number in [2, 0, 1, 1] {
            let (asked, told) = (workers.clone(), told.clone());
            workers.run(number, async move {
                let first = asked.seat(Opener::Client, address(1), |_| false);
                let second = asked.seat(Opener::Client, address(1), |_| false);
                told.send((first.is_here(), second.is_here())).unwrap();
            });
            assert_eq!(tell.recv_timeout(SOON).unwrap(), (true, false));
        }
    }

    #[test]
    fn they_end_with_what_they_do() {
        let workers = three();
        let (told, tell) = mpsc::channel::<()>();
        workers.run(1, async move {
            std::future::pending::<()>().await;
            drop(told);
        });
        drop(workers);
        assert_eq!(tell.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
