//! Where and when plans are made.

use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use config::live::Live;
use config::wire::RevisionPair;

use super::*;

/// Nothing here takes nearly so long.
const LONG: Duration = Duration::from_secs(30);
/// A plan is held up for longer than anybody waits for a worker.
const LONGER: Duration = Duration::from_secs(60);

/// Told of a plan by the thread that made it, which it then holds up until it may go on.
struct Hold {
    held: SyncSender<ThreadId>,
    go: Mutex<Receiver<()>>,
}

impl Wake for Hold {
    fn wake(self: Arc<Self>) {
        self.held.send(thread::current().id()).unwrap();
        self.go.lock().unwrap().recv_timeout(LONGER).unwrap();
    }
}

/// From now on the next plan is one that this reader waits for.
fn wait(plans: &mut Live<Plan>, waker: &Waker) {
    let mut context = Context::from_waker(waker);
    while let Poll::Ready(plan) = pin!(plans.changed()).poll(&mut context) {
        assert!(plan.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn workers_serve_while_a_plan_is_made_and_the_next_plan_is_of_the_newest() {
    let Fed { planner, snapshot, secrets, identities, .. } = Fed::new();
    let mut plans = planner.publisher.subscribe();
    let publish = |global| {
        let revision = RevisionPair { global, ..RevisionPair::default() };
        snapshot.publish(Arc::new(Snapshot { revision, ..publishing(None) }));
    };
    let ((held, maker), (go, going)) = (sync_channel(1), sync_channel(1));
    let waker = Waker::from(Arc::new(Hold { held, go: Mutex::new(going) }));
    wait(&mut plans, &waker);
    let _planner = AbortOnDropHandle::new(tokio::spawn(planner.run()));

    publish(1);
    let maker_id = maker.recv_timeout(LONG).unwrap();
    let worker = tokio::spawn(async { thread::current().id() });
    // The only worker serves meanwhile.
    let worker = tokio::time::timeout(LONG, worker).await.unwrap().unwrap();
    assert_ne!(worker, maker_id);

    (2..10).for_each(publish);
    wait(&mut plans, &waker);
    go.send(()).unwrap();
    maker.recv_timeout(LONG).unwrap();
    assert_eq!(plans.load().snapshot.revision.global, 9, "no plan is made of what is no longer so");
    go.send(()).unwrap();
    drop((secrets, identities));
}
