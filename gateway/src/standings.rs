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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::pending;
    use std::time::Duration;

    use config::compile::compile;
    use config::live::{self, Publisher};
    use config::snapshot::Place;
    use config::world::World;
    use identity::SpiffeId;
    use tokio::time::timeout;

    use super::*;

    fn id(gateway: &str) -> SpiffeId {
        format!("spiffe://shop.mesh/cluster/north/gateway/{gateway}").parse().unwrap()
    }

    fn standing(gateway: &str) -> Standing {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(id(gateway).to_string().try_into().unwrap())];
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        Standing::of(&[certificate.der().clone()]).unwrap()
    }

    /// A plan that believes north's gateways, but for these.
    fn plan(revoked: &[&str]) -> Arc<Plan> {
        let snapshot = compile(&World::default(), &Place { cluster: "north".parse().unwrap() }, None);
        let trust = TrustView {
            members: [("shop.mesh".parse().unwrap(), "north".to_owned())].into(),
            revoked_ids: revoked.iter().map(|gateway| id(gateway)).collect(),
            ..TrustView::default()
        };
        Arc::new(Plan { trust: Arc::new(trust), ..Plan::empty(Arc::new(snapshot)) })
    }

    struct Gateway {
        standings: Arc<Standings>,
        publisher: Publisher<Plan>,
        plan: Live<Plan>,
    }

    impl Gateway {
        /// One that follows its plan.
        fn start(first: Arc<Plan>) -> Self {
            let (standings, (publisher, plan)) = (Arc::<Standings>::default(), live::channel(first));
            tokio::spawn({
                let (standings, plan) = (standings.clone(), plan.clone());
                async move { standings.follow(plan).await }
            });
            Gateway { standings, publisher, plan }
        }

        async fn serve(&self, gateway: &str, serving: impl Future<Output = ()>) -> Result<(), Refusal> {
            self.standings.serve(&self.plan, standing(gateway), serving).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_revoked_is_cut_and_nobody_else() {
        let gateway = Gateway::start(plan(&[]));
        let (mut a, mut b) = (Box::pin(gateway.serve("a", pending())), Box::pin(gateway.serve("b", pending())));
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, &mut a).await.is_err() && timeout(moment, &mut b).await.is_err());
        gateway.publisher.publish(plan(&["a"]));
        assert_eq!(a.await, Err(Refusal::Revoked(id("a"))));
        assert!(timeout(moment, &mut b).await.is_err());
        drop(b);
        assert!(gateway.standings.table().all.is_empty(), "nothing is left of connections that are gone");
    }

    #[tokio::test]
    async fn who_was_revoked_between_the_handshake_and_now_is_not_served() {
        let gateway = Gateway::start(plan(&["a"]));
        assert_eq!(gateway.serve("a", async { unreachable!() }).await, Err(Refusal::Revoked(id("a"))));
        assert_eq!(gateway.serve("b", async {}).await, Ok(()));
    }
}
