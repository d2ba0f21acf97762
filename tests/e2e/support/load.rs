//! Steady requests from several clients at once, each through one gateway; every answer counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::http::{Answer, Connection, Outcome};
use super::{eventually, holds};

/// From one request of a client to its next.
const PACE: Duration = Duration::from_millis(80);

/// What has been answered, and by whom.
#[derive(Default)]
struct Tally {
    failures: Vec<String>,
    /// How often each instance served (`cluster/version/address`).
    served: BTreeMap<String, usize>,
}

/// Requests under way until the end. Tests with a load have a runtime of several threads, so that requests go on while
/// a command runs.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    clients: JoinSet<()>,
    stop: CancellationToken,
}

impl Load {
    /// Sends GETs on each of these connections.
    pub fn start(connections: Vec<Connection>) -> Load {
        let (tally, stop) = (Arc::new(Mutex::new(Tally::default())), CancellationToken::new());
        let mut clients = JoinSet::new();
        for connection in connections {
            clients.spawn(client(connection, tally.clone(), stop.clone()));
        }
        Load { tally, clients, stop }
    }

    /// Waits until those clusters or instances that satisfy the condition are exactly those that serve: it looks at
    /// one window of answers after another.
    pub async fn until_served_by(&self, what: &str, expected: impl Fn(&BTreeMap<String, usize>) -> bool) {
        eventually(what, || async {
            let served = self.window().await;
            holds(expected(&served), || format!("served by {served:?}"))
        })
        .await;
    }

    /// Who serves the next requests, some dozens of each client.
    pub async fn window(&self) -> BTreeMap<String, usize> {
        let before = self.tally.lock().unwrap().served.clone();
        let enough = before.values().sum::<usize>() + 27 * self.clients.len().max(1);
        eventually("requests are answered", || async {
            let answered = self.tally.lock().unwrap().served.values().sum::<usize>();
            holds(answered >= enough, || format!("{answered} of {enough}"))
        })
        .await;
        let mut after = self.tally.lock().unwrap().served.clone();
        after.iter_mut().for_each(|(who, count)| *count -= before.get(who).copied().unwrap_or(0));
        after.retain(|_, count| *count > 0);
        after
    }

    /// Ends it; panics if any request failed. Returns how many were answered.
    pub async fn end_without_failure(mut self) -> usize {
        self.stop.cancel();
        while let Some(done) = self.clients.join_next().await {
            done.unwrap();
        }
        let tally = self.tally.lock().unwrap();
        let answered = tally.served.values().sum::<usize>();
        assert!(tally.failures.is_empty(), "{} of {answered} failed: {:#?}", tally.failures.len(), tally.failures);
        answered
    }
}

async fn client(mut connection: Connection, tally: Arc<Mutex<Tally>>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PACE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let served = successful(connection.get("/").await);
        let mut tally = tally.lock().unwrap();
        match served {
            Ok(by) => *tally.served.entry(by).or_default() += 1,
            Err(error) => tally.failures.push(error),
        }
    }
}

fn successful(answer: Outcome<Answer>) -> Outcome<String> {
    let answer = answer?;
    holds(answer.status == 200, || format!("{answer:?}"))?;
    Ok(answer.served_by())
}
