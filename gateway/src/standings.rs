//! Connections whose peers have proved who they are: each is cut as soon as its peer is no longer believed.
//!
//! A handshake asks once; a tunnel lives for days. Those below a root that has been dropped bring no further request; what
//! is under way on them has as long as on a tunnel that was renewed, because those who were there in time have done just
//! that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::live::Live;
use identity::trust::TrustView;
use identity::{Refusal, Standing, TrustBundle, TrustDomain};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::lifetime::Lifetime;
use crate::plan::Plan;
use crate::tunnel::pool::LONGEST_CALLS;

/// All of them.
#[derive(Default)]
pub struct Standings(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    /// Each under a lock of its own: to verify them all takes time, and new ones come meanwhile.
    all: BTreeMap<u64, Arc<Mutex<Held>>>,
}

/// Who has proved who they are.
pub struct Peer {
    /// By what.
    pub standing: Standing,
    /// Whom the gateway believed when the handshake began. It may be others by its end.
    pub trust: Arc<TrustView>,
}

struct Held {
    standing: Standing,
    /// By which it was verified last. While they stay, there is no need to do so again.
    roots: Arc<TrustBundle>,
    lifetime: Arc<Lifetime>,
    state: watch::Sender<State>,
}

/// What has become of a peer since its handshake.
#[derive(Debug, Clone, Default, PartialEq)]
enum State {
    #[default]
    Believed,
    /// The root above it is believed no more.
    Rootless,
    Lost(Refusal),
}

impl Held {
    fn check(&mut self, trust: &TrustView) {
        let state = match self.standing.check(trust) {
            Err(refusal) => State::Lost(refusal),
            Ok(()) if self.is_rooted(trust) => return,
            Ok(()) => State::Rootless,
        };
        self.lifetime.end();
        self.state.send_if_modified(|now| {
            let news = *now == State::Believed || matches!(state, State::Lost(_));
            if news {
                *now = state;
            }
            news
        });
    }
}

impl Held {
    fn is_rooted(&mut self, trust: &TrustView) -> bool {
        let now = roots(trust, &self.standing);
        let kept = self.roots.certificates().all(|root| now.certificates().any(|other| other == root));
        let rooted = kept || self.standing.is_rooted(trust);
        if rooted {
            self.roots = now;
        }
        rooted
    }
}

/// Of the peer's trust domain.
fn roots(trust: &TrustView, peer: &Standing) -> Arc<TrustBundle> {
    trust.bundles.get(peer.id().trust_domain()).cloned().unwrap_or_default()
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
        Peer { standing, trust }: Peer,
        lifetime: &Arc<Lifetime>,
        serving: impl Future<Output = ()>,
    ) -> Result<(), Refusal> {
        let (state, domain) = (watch::Sender::default(), standing.id().trust_domain().clone());
        let (told, roots) = (state.subscribe(), roots(&trust, &standing));
        let held = Arc::new(Mutex::new(Held { standing, roots, lifetime: lifetime.clone(), state }));
        let _watched = self.add(held.clone());
        // What has changed since its handshake began, and before it was watched.
        locked(&held).check(&plan.load().trust);
        tokio::select! {
            biased;
            refusal = lost(told, domain) => Err(refusal),
            () = serving => Ok(()),
        }
    }

    fn add(&self, held: Arc<Mutex<Held>>) -> Watched<'_> {
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
                self.check(trust.clone()).await;
            }
        }
    }

    /// On a thread that serves nobody: where a root has gone, each is verified anew.
    async fn check(&self, trust: Arc<TrustView>) {
        let all: Vec<_> = self.table().all.values().cloned().collect();
        let checking = spawn_blocking(move || all.iter().for_each(|held| locked(held).check(&trust)));
        if checking.await.is_err() {
            tracing::error!("not all connections could be checked, because the gateway ends");
        }
    }
}

fn locked(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Comes back when the connection is to be cut.
async fn lost(mut told: watch::Receiver<State>, domain: TrustDomain) -> Refusal {
    loop {
        let state = told.borrow_and_update().clone();
        let news = match state {
            State::Lost(refusal) => return refusal,
            State::Rootless => match timeout(LONGEST_CALLS, told.changed()).await {
                Err(_) => return Refusal::NoRoots(domain),
                Ok(news) => news,
            },
            State::Believed => told.changed().await,
        };
        if news.is_err() {
            std::future::pending::<()>().await; // nobody watches it any more: it is being dropped
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::pending;
    use std::sync::mpsc;
    use std::time::Duration;

    use config::compile::compile;
    use config::live::{self, Publisher};
    use config::snapshot::Place;
    use config::world::World;
    use identity::bundle::Bundles;
    use identity::ca::{GnsCa, IssuingCa, Lifetimes, Territory};
    use identity::{PrivateKey, SigningRequest, SpiffeId, pem};
    use time::OffsetDateTime;

    use super::*;

    fn id(gateway: &str) -> SpiffeId {
        format!("spiffe://shop.mesh/cluster/north/gateway/{gateway}").parse().unwrap()
    }

    /// A GNS with north's issuing CA in it.
    struct Shop {
        ca: GnsCa,
        north: IssuingCa,
    }

    impl Shop {
        fn new() -> Self {
            let domain = id("a").trust_domain().clone();
            let ca = GnsCa::create(domain.clone(), &Lifetimes::default(), OffsetDateTime::now_utc()).unwrap();
            let key = PrivateKey::generate().unwrap();
            let agent: SpiffeId = "spiffe://mesh/cluster/north/agent".parse().unwrap();
            let request = SigningRequest::own(agent, &key).unwrap();
            let territory = Territory { label: "l1.mesh", domain: "shop.internal" };
            let issuing = ca.issue_issuing(&request, territory, &Lifetimes::default(), OffsetDateTime::now_utc());
            let pem = pem::encode_certificates([&issuing.unwrap()]) + &key.to_pem();
            Shop { ca, north: IssuingCa::import(&pem).unwrap() }
        }

        fn standing(&self, gateway: &str) -> Standing {
            let key = PrivateKey::generate().unwrap();
            let request = SigningRequest::own(id(gateway), &key).unwrap();
            let now = OffsetDateTime::now_utc();
            Standing::of(&self.north.issue_gateway(&request, ["l1.mesh"], &Lifetimes::default(), now).unwrap()).unwrap()
        }
    }

    /// A plan that believes north's gateways below these roots, but for the revoked ones.
    fn plan(roots: &[&Shop], revoked: &[&str]) -> Arc<Plan> {
        let snapshot = compile(&World::default(), &Place { cluster: "north".parse().unwrap() }, None);
        let domain = id("a").trust_domain().clone();
        let bundle = TrustBundle::new(roots.iter().map(|shop| shop.ca.certificate().clone())).unwrap();
        let mut bundles = Bundles::default();
        bundles.insert(domain.clone(), Arc::new(bundle));
        let trust = TrustView {
            bundles,
            members: [(domain, "north".to_owned())].into(),
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

        async fn serve(&self, standing: Standing, serving: impl Future<Output = ()>) -> Result<(), Refusal> {
            let peer = Peer { standing, trust: self.plan.load().trust.clone() };
            self.standings.serve(&self.plan, peer, &Arc::default(), serving).await
        }
    }

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn who_is_revoked_is_cut_and_nobody_else() {
        let shop = Shop::new();
        let gateway = Gateway::start(plan(&[&shop], &[]));
        let [mut a, mut b] = ["a", "b"].map(|name| Box::pin(gateway.serve(shop.standing(name), pending())));
        assert!(timeout(MOMENT, &mut a).await.is_err() && timeout(MOMENT, &mut b).await.is_err());
        gateway.publisher.publish(plan(&[&shop], &["a"]));
        assert_eq!(a.await, Err(Refusal::Revoked(id("a"))));
        assert!(timeout(MOMENT, &mut b).await.is_err());
        drop(b);
        assert!(gateway.standings.table().all.is_empty(), "nothing is left of connections that are gone");
    }

    #[tokio::test]
    async fn who_was_revoked_between_the_handshake_and_now_is_not_served() {
        let shop = Shop::new();
        let gateway = Gateway::start(plan(&[&shop], &["a"]));
        let served = gateway.serve(shop.standing("a"), async { unreachable!() });
        assert_eq!(served.await, Err(Refusal::Revoked(id("a"))));
        assert_eq!(gateway.serve(shop.standing("b"), async {}).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_below_a_dropped_root_brings_no_request_any_more_and_is_cut_in_the_end() {
        let (old, new) = (Shop::new(), Shop::new());
        let gateway = Gateway::start(plan(&[&old, &new], &[]));
        let [late, renewed] = [(); 2].map(|()| Arc::<Lifetime>::default());
        let serve = |shop: &Shop, lifetime: &Arc<Lifetime>| {
            let (standings, plan, lifetime) = (gateway.standings.clone(), gateway.plan.clone(), lifetime.clone());
            let peer = Peer { standing: shop.standing("a"), trust: plan.load().trust.clone() };
            Box::pin(async move { standings.serve(&plan, peer, &lifetime, pending()).await })
        };
        let (mut below_old, mut below_new) = (serve(&old, &late), serve(&new, &renewed));
        assert!(timeout(MOMENT, &mut below_old).await.is_err() && timeout(MOMENT, &mut below_new).await.is_err());
        assert!(!late.is_ending(), "both are believed");
        gateway.publisher.publish(plan(&[&new], &[]));
        assert!(timeout(MOMENT, &mut below_old).await.is_err(), "what is under way goes on");
        assert!(late.is_ending() && !renewed.is_ending());
        gateway.publisher.publish(plan(&[&new], &["nobody"]));
        assert!(timeout(LONGEST_CALLS - 2 * MOMENT, &mut below_old).await.is_err(), "another change is no longer time");
        let cut = timeout(3 * MOMENT, &mut below_old).await;
        assert_eq!(cut, Ok(Err(Refusal::NoRoots(id("a").trust_domain().clone()))));
        assert!(timeout(MOMENT, &mut below_new).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_goes_while_a_handshake_by_it_is_under_way_counts_no_more() {
        let (old, new) = (Shop::new(), Shop::new());
        let gateway = Gateway::start(plan(&[&old, &new], &[]));
        let [late, renewed] =
            [&old, &new].map(|shop| Peer { standing: shop.standing("a"), trust: gateway.plan.load().trust.clone() });
        gateway.publisher.publish(plan(&[&new], &[]));
        let [late_life, renewed_life] = [(); 2].map(|()| Arc::<Lifetime>::default());
        let mut late = Box::pin(gateway.standings.serve(&gateway.plan, late, &late_life, pending()));
        let mut renewed = Box::pin(gateway.standings.serve(&gateway.plan, renewed, &renewed_life, pending()));
        assert!(timeout(MOMENT, &mut late).await.is_err() && timeout(MOMENT, &mut renewed).await.is_err());
        assert!(late_life.is_ending() && !renewed_life.is_ending());
    }

    #[tokio::test]
    async fn while_all_are_checked_others_come_and_go() {
        let shop = Shop::new();
        let gateway = Gateway::start(plan(&[&shop], &[]));
        let mut a = Box::pin(gateway.serve(shop.standing("a"), pending()));
        assert!(timeout(MOMENT, &mut a).await.is_err());
        let held = gateway.standings.table().all.values().next().unwrap().clone();
        let ((release, released), (locks, locked_by)) = (mpsc::channel::<()>(), mpsc::channel());
        let busy = std::thread::spawn(move || {
            let _busy = locked(&held);
            locks.send(()).unwrap();
            released.recv().unwrap();
        });
        locked_by.recv().unwrap();
        gateway.publisher.publish(plan(&[&shop], &["nobody"]));
        tokio::task::yield_now().await; // the check has begun, and waits for that one
        assert_eq!(gateway.serve(shop.standing("b"), async {}).await, Ok(()));
        release.send(()).unwrap();
        busy.join().unwrap();
    }
}
