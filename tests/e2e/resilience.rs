//! What instances do wrong, and how little of it their callers notice.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::support::http::{Answer, Connection, empty, full};
use crate::support::moody::{Mood, Moody};
use crate::support::router::address;
use crate::support::shop::Shop;
use crate::support::{eventually, holds};

/// A router with so many instances; each test has addresses of its own.
async fn shop(network: u8, instances: u8) -> (Shop, Vec<Moody>) {
    let mut moody = Vec::new();
    for instance in 1..=instances {
        moody.push(Moody::start(SocketAddr::new(address(network, 10 + instance), 9000)).await);
    }
    let at: Vec<_> = moody.iter().map(|instance| instance.at).collect();
    let router = Shop::start(network, &at).await;
    let all = async || {
        holds(router.metric("tombolo_healthy_instances", "\"shop\"").await? == f64::from(instances), String::new)
    };
    eventually("all instances are well", all).await;
    (router, moody)
}

/// GETs until the condition holds; all must be answered 200. It is asked after each dozen.
async fn get_until(connection: &mut Connection, what: &str, condition: impl AsyncFn() -> Result<(), String>) {
    eventually(what, async || {
        for _ in 0..12 {
            let answer = connection.get("/").await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
        }
        condition().await
    })
    .await;
}

async fn faults_cost_nothing(network: u8, moods: &[Mood]) {
    let (router, instances) = shop(network, 3).await;
    let mut connection = router.connect().await.unwrap();
    for mood in moods {
        instances[0].set(*mood).await;
        let healthy = async || router.metric("tombolo_healthy_instances", "\"shop\"").await;
        let out = async || holds(healthy().await? < 3.0, || format!("{mood:?}: it is still in"));
        get_until(&mut connection, "it is put out", out).await;
        instances[0].set(Mood::Well).await;
        instances[0].asked();
        let back = async || holds(!instances[0].asked().is_empty(), || format!("{mood:?}: it is still out"));
        get_until(&mut connection, "it is back", back).await;
        let all = async || holds(healthy().await? == 3.0, || format!("{mood:?}: not well"));
        get_until(&mut connection, "all are well", all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_answers_503_or_resets_is_put_out_and_comes_back_and_costs_no_request() {
    faults_cost_nothing(141, &[Mood::Status(StatusCode::SERVICE_UNAVAILABLE), Mood::Reset]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_refuses_or_hangs_is_put_out_and_comes_back_and_costs_no_request() {
    faults_cost_nothing(142, &[Mood::Refuse, Mood::Hang]).await;
}

async fn post(connection: &mut Connection, order: usize) -> Result<Answer, String> {
    let headers = HeaderMap::from_iter([("x-order".parse().unwrap(), HeaderValue::from(order))]);
    connection.send(Method::POST, "/", headers, full(format!("order {order}"))).await
}

/// How often each order came in, at all instances together.
fn orders(instances: &[Moody]) -> BTreeMap<String, usize> {
    let mut orders = BTreeMap::new();
    for asked in instances.iter().flat_map(Moody::asked).filter(|asked| asked.method == Method::POST) {
        *orders.entry(asked.headers["x-order"].to_str().unwrap().to_owned()).or_default() += 1;
    }
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_an_instance_has_seen_is_never_sent_again() {
    let (router, instances) = shop(143, 2).await;
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    for mood in [Mood::Status(unavailable), Mood::Reset, Mood::Broken, Mood::Status(StatusCode::INTERNAL_SERVER_ERROR)]
    {
        instances[0].set(mood).await;
        let mut failed = 0;
        for order in 0..30 {
            // Each on a connection of its own: an answer that breaks off takes its connection with it.
            let answer = post(&mut router.connect().await.unwrap(), order).await;
            failed += usize::from(!answer.is_ok_and(|answer| answer.status == StatusCode::OK));
        }
        let orders = orders(&instances);
        assert!(orders.len() == 30 && orders.values().all(|times| *times == 1), "{mood:?}: {orders:?}");
        assert!(failed > 0, "{mood:?}: nothing was put to the test");
        instances[0].set(Mood::Well).await;
        let back = async || {
            router.connect().await?.get("/").await?;
            holds(instances[0].asked().iter().any(|asked| asked.method == Method::GET), || "still out".to_owned())
        };
        eventually("the instance is back", back).await;
        instances[1].asked();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_no_instance_has_seen_goes_to_another() {
    let (router, instances) = shop(144, 2).await;
    instances[0].set(Mood::Refuse).await;
    let mut connection = router.connect().await.unwrap();
    for order in 0..30 {
        let answer = post(&mut connection, order).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let orders = orders(&instances);
    assert!(orders.len() == 30 && orders.values().all(|times| *times == 1), "{orders:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_instances_are_bad_they_are_asked_all_the_same_and_their_own_answer_is_told() {
    let (router, instances) = shop(145, 2).await;
    for instance in &instances {
        instance.set(Mood::Sick(StatusCode::SERVICE_UNAVAILABLE)).await;
    }
    let mut connection = router.connect().await.unwrap();
    let panicking = async || {
        let answer = connection.get("/").await?;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::SERVICE_UNAVAILABLE, &b"an answer\n"[..]),
            "{answer:?}"
        );
        holds(router.metric("tombolo_panic_choices_total", "\"shop\"").await? > 0.0, || "no panic yet".to_owned())
    };
    eventually("the sick are asked", panicking).await;
    for instance in &instances {
        instance.set(Mood::Well).await;
    }
    let well = async || {
        let answer = connection.send(Method::GET, "/", HeaderMap::new(), empty()).await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    eventually("they serve again", well).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_errs_at_some_requests_is_not_put_out() {
    let (router, instances) = shop(146, 2).await;
    let mut connection = router.connect().await.unwrap();
    for _ in 0..10 {
        for mood in [Mood::Status(StatusCode::INTERNAL_SERVER_ERROR), Mood::Well] {
            for instance in &instances {
                instance.set(mood).await;
            }
            for _ in 0..2 {
                connection.get("/").await.unwrap();
            }
        }
    }
    assert_eq!(router.metric("tombolo_ejections_total", "\"shop\"").await.unwrap(), 0.0);
    assert_eq!(router.metric("tombolo_instance_failures_total", "\"error\"").await.unwrap(), 20.0);
}
