#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use config::resource::{Name, Protocol};
use decide::balance::{Cursor, FULL};
use decide::health::Fault;
use http::HeaderValue;
use prometheus::Registry;

use super::*;
use crate::health::fixtures::{self, check};
use crate::health::{Changes, Target, census};
use crate::metrics::Metrics;
use crate::plan::{Plan, PlannedPort, Pool, UNCOUNTED};
use crate::tunnel::pool::PeerTable;

fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// A service with so many instances, all well; and how often a change was told.
struct Shop {
    checker: Checker,
    service: Arc<PlannedService>,
    told: Arc<AtomicUsize>,
}

impl Shop {
    fn with(instances: u8) -> Shop {
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let changed = Arc::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
        let checker = Checker::new(changed, Arc::default(), CancellationToken::new());
        let changes = Changes::default();
        let targets: Vec<_> = (1..=instances).map(|number| Arc::new(target(&changes, number))).collect();
        for target in &targets {
            target.health.learn(Instant::now(), |tracker| _ = tracker.record(Probed::Well, Instant::now()));
        }
        Shop { service: Arc::new(service(targets, changes)), checker, told }
    }

    fn health(&self, index: usize) -> &InstanceHealth {
        &self.service.instances()[index].health
    }

    fn shown(&self, index: usize, shown: Shown, times: usize) {
        (0..times).for_each(|_| self.checker.shown(&self.service, self.health(index), shown));
    }

    fn well(&self) -> Vec<bool> {
        self.service.instances().iter().map(|target| target.health.is_well()).collect()
    }
}

fn target(changes: &Changes, number: u8) -> Target {
    fixtures::target((IpAddr::from([127, 0, 0, number]), 1).into(), changes)
}

fn service(targets: Vec<Arc<Target>>, changes: Changes) -> PlannedService {
    let pool = Pool::new(targets, Arc::new(Cursor::random()), changes.clone());
    let service = Service {
        global_namespace: name("shop"),
        name: name("cart"),
        ports: Vec::new(),
        health_check: check(),
        versions: BTreeMap::new(),
        remote: BTreeMap::new(),
        allowed: Vec::new(),
        left_out: Vec::new(),
    };
    let (protocol, proxy_header, versions) = (Protocol::Http, false, BTreeMap::new());
    let port = PlannedPort { protocol, proxy_header, all: pool, versions, crossing: None };
    PlannedService {
        metrics: Arc::new(Metrics::new(&Registry::new()).unwrap().service(&service.global_namespace, &service.name)),
        name: HeaderValue::from_static("cart"),
        service: Arc::new(service),
        ports: BTreeMap::from([(8080, port)]),
        clusters: Arc::default(),
        gateways: BTreeMap::new(),
        budget: Arc::new(decide::retry::Budget::new(Instant::now())),
        panic: Arc::default(),
        secured: None,
        changes,
        counted: UNCOUNTED.into(),
    }
}

/// Which instances take turns.
fn lineup(shop: &Shop, panic: bool) -> BTreeSet<usize> {
    let pool = &shop.service.ports[&8080].all;
    let next = || pool.next(&[], panic).and_then(|next| pool.targets.iter().position(|own| Arc::ptr_eq(own, &next)));
    (0..30).filter_map(|_| next()).collect()
}

#[test]
fn a_pool_follows_health_and_panic_at_once() {
    let shop = Shop::with(3);
    let pool = &shop.service.ports[&8080].all;
    assert_eq!((lineup(&shop, false), pool.healthy()), (BTreeSet::from([0, 1, 2]), 3));
    shop.shown(0, Shown::Connect, 1);
    assert_eq!((lineup(&shop, false), pool.healthy()), (BTreeSet::from([1, 2]), 2));
    shop.shown(1, Shown::Status(503), Fault::Unavailable.limit().into());
    assert_eq!((lineup(&shop, false), pool.healthy()), (BTreeSet::from([2]), 1));
    assert_eq!(lineup(&shop, true), BTreeSet::from([1, 2]), "panic");
    assert_eq!(lineup(&shop, false), BTreeSet::from([2]), "no panic any more");
    assert!(pool.next(&pool.targets[2..], true).is_some_and(|other| Arc::ptr_eq(&other, &pool.targets[1])));
    // Back, with a share that grows.
    shop.health(0)
        .learn(Instant::now(), |tracker| (0..2).for_each(|_| _ = tracker.record(Probed::Well, Instant::now())));
    let (turns, next) = (100, || pool.next(&[], false).is_some_and(|next| Arc::ptr_eq(&next, &pool.targets[0])));
    assert!((1..turns / 5).contains(&(0..turns).filter(|_| next()).count()));
}

#[test]
fn each_kind_of_failure_ejects_at_its_limit_and_never_more_than_half() {
    for shown in
        [Shown::ConnectTimeout, Shown::Reset, Shown::Timeout, Shown::Broken, Shown::Status(503), Shown::Status(500)]
    {
        let shop = Shop::with(3);
        let limit = usize::from(shown.fault().map_or(0, Fault::limit));
        shop.shown(0, shown, limit - 1);
        assert_eq!(shop.well(), [true, true, true], "{shown:?}");
        shop.shown(0, shown, 1);
        assert_eq!((shop.well(), shop.told.load(Ordering::Relaxed)), (vec![false, true, true], 1), "{shown:?}");
        shop.shown(1, shown, 10 * limit);
        assert_eq!(shop.well(), [false, true, true], "{shown:?}: one of three is all that may be out");
        assert_eq!(shop.service.metrics.ejections.get(), 1);
    }
}

#[test]
fn whom_checks_and_connects_have_put_out_does_not_count_among_those_of_which_half_stay() {
    let shop = Shop::with(4);
    shop.shown(0, Shown::Connect, 1);
    shop.shown(1, Shown::Connect, 1);
    shop.shown(2, Shown::Status(503), 5);
    assert_eq!(shop.well(), [false, false, false, true]);
    shop.shown(3, Shown::Status(503), 50);
    assert_eq!(shop.well(), [false, false, false, true], "the last one stays");
}

#[test]
fn connects_that_time_out_eject_after_a_few_and_cut_nobody() {
    let shop = Shop::with(2);
    shop.shown(0, Shown::ConnectTimeout, 2);
    assert_eq!(shop.well(), [true, true], "a lost packet or two");
    shop.shown(0, Shown::ConnectTimeout, 1);
    assert_eq!(shop.health(0).state(), State::Sick(Why::Responses));
    shop.shown(1, Shown::ConnectTimeout, 10);
    assert_eq!(shop.well(), [false, true], "the fault may be in the network");
}

#[test]
fn good_answers_in_between_keep_an_instance_in() {
    let shop = Shop::with(2);
    for _ in 0..40 {
        shop.shown(0, Shown::Status(500), 1);
        shop.shown(0, Shown::Status(200), 1);
        shop.shown(1, Shown::Status(200), 1);
        shop.shown(1, Shown::Status(500), 1);
    }
    assert_eq!(shop.well(), [true, true], "what both have in common is no reason");
}

#[test]
fn who_fails_more_often_than_the_others_is_ejected_though_never_in_a_row() {
    let shop = Shop::with(2);
    for _ in 0..60 {
        shop.shown(0, Shown::Status(500), 1);
        shop.shown(0, Shown::Status(200), 1);
        shop.shown(1, Shown::Status(200), 2);
    }
    assert_eq!(shop.well(), [false, true]);
}

#[test]
fn a_failed_connect_puts_even_the_last_one_out_and_one_good_check_brings_it_back_slowly() {
    let shop = Shop::with(1);
    assert_eq!(shop.health(0).weight(), FULL);
    shop.shown(0, Shown::Connect, 1);
    assert_eq!(shop.well(), [false]);
    let now = Instant::now();
    shop.health(0).learn(now, |tracker| _ = tracker.record(Probed::Well, now));
    assert_eq!(shop.well(), [true]);
    assert!(shop.health(0).weight() < FULL);
}

#[test]
fn who_is_new_has_its_full_share_at_once() {
    assert_eq!(Shop::with(1).health(0).weight(), FULL);
}

#[tokio::test]
async fn only_the_death_of_an_instance_cuts_who_waits_on_it() {
    let shop = Shop::with(2);
    shop.shown(0, Shown::Status(503), 5);
    let waits = tokio::time::timeout(Duration::from_millis(20), shop.health(0).dead());
    assert!(!shop.health(0).is_well() && waits.await.is_err(), "it may answer yet");
    shop.shown(1, Shown::Connect, 1);
    shop.health(1).dead().await;
}

#[test]
fn when_more_ail_than_are_well_the_ailing_take_requests_too() {
    let shop = Shop::with(4);
    let mut plan = Plan::empty(Arc::new(config::compile::compile(
        &config::world::World::default(),
        &config::snapshot::Place { cluster: name("north") },
        None,
    )));
    plan.services.insert(name("shop"), BTreeMap::from([(name("cart"), shop.service.clone())]));
    let asked = |panic| {
        census::take(&plan, &PeerTable::default());
        assert_eq!(shop.service.panic.load(Ordering::Relaxed), panic);
        let pool = &shop.service.ports[&8080].all;
        let mut asked: Vec<_> = (0..40).map(|_| pool.next(&[], panic).unwrap().health.state()).collect();
        asked.dedup();
        asked.iter().any(|state| matches!(state, State::Sick(_)))
    };
    let fails = |index: usize, probed| {
        let now = Instant::now();
        (0..2).for_each(|_| _ = shop.health(index).learn(now, |tracker| _ = tracker.record(probed, now)));
    };
    fails(0, Probed::Silent);
    fails(1, Probed::Silent);
    fails(2, Probed::Silent);
    assert!(!asked(false), "the dead don't count");
    fails(0, Probed::Ill);
    assert!(!asked(false), "one of each is no majority");
    fails(1, Probed::Ill);
    assert!(asked(true));
    assert_eq!((shop.service.metrics.healthy.get(), shop.service.metrics.ejected.get()), (1, 0));
}

#[test]
fn what_comes_in_late_is_no_new_evidence() {
    let shop = Shop::with(2);
    shop.shown(0, Shown::Connect, 1);
    shop.shown(0, Shown::Status(503), 20);
    let now = Instant::now();
    shop.health(0).learn(now, |tracker| _ = tracker.record(Probed::Well, now));
    shop.shown(0, Shown::Status(503), 4);
    assert_eq!(shop.well(), [true, true]);
    shop.shown(0, Shown::Status(503), 1);
    assert_eq!(shop.well(), [false, true]);
}
