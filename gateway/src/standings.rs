//! Connections whose peers have proved who they are: each is cut as soon as its peer is no longer believed.
//!
//! A handshake asks once; a tunnel lives for days.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::live::Live;
use identity::trust::TrustView;
use identity::{Refusal, Standing};
use tokio::sync::watch;

use crate::plan::Plan;

/// All of them.
#[derive(Default)]
pub struct Standings(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    all: BTreeMap<u64, Held>,
}

struct Held {
    standing: Standing,
    lost: watch::Sender<Option<Refusal>>,
}

/// One that is watched, until dropped.
struct Watched<'s> {
    standings: &'s Standings,
    number: u64,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.standings.table().all.remove(&self.number);
    }
}

impl Standings {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection for as long as its peer is believed.
    ///
    /// # Errors
    /// When it is no longer; what was under way is broken off.
    pub async fn serve(
        &self,
        plan: &Live<Plan>,
        peer: Standing,
        serving: impl Future<Output = ()>,
    ) -> Result<(), Refusal> {
        let lost = watch::Sender::new(None);
        let mut told = lost.subscribe();
        let _watched = self.add(Held { standing: peer.clone(), lost });
        // What has changed since its handshake, and before it was watched.
        peer.check(&*plan.load().trust)?;
        tokio::select! {
            biased;
            Ok(lost) = told.wait_for(Option::is_some) => lost.clone().map_or(Ok(()), Err),
            () = serving => Ok(()),
        }
    }

    fn add(&self, held: Held) -> Watched<'_> {
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.all.insert(number, held);
        Watched { standings: self, number }
    }

    /// Follows whom the plan believes.
    pub async fn follow(&self, mut plans: Live<Plan>) {
        let mut trust = plans.get().trust.clone();
        while let Some(plan) = plans.changed().await {
            if !Arc::ptr_eq(&plan.trust, &trust) {
                trust = plan.trust.clone();
                self.check(&trust);
            }
        }
    }

    fn check(&self, trust: &TrustView) {
        for Held { standing, lost } in self.table().all.values() {
            if let Err(refusal) = standing.check(trust) {
                lost.send_replace(Some(refusal));
            }
        }
    }
}
