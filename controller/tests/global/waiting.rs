//! Waiting for resources, at the controller.

use std::time::{Duration, Instant};

use controller::http::client::{CallError, Client};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Running, manifest, refused, shop, start};

const READY: &str = "/v1alpha1/ready";
/// The longest that the controller waits.
const LONGEST: Duration = Duration::from_secs(10);

async fn ask(client: &Client, body: &Value) -> Result<Value, CallError> {
    client.post::<Value>(READY, body).await.map(|answer| answer["items"].clone())
}

/// What is known, and by which word the controller knows it again.
async fn known(controller: &Running, ids: &Value) -> (Value, Value) {
    let answer: Value = controller.admin().post(READY, &json!({"ids": ids})).await.unwrap();
    (answer["items"].clone(), answer["seen"].clone())
}

fn reasons(items: &Value) -> Vec<(&str, Option<&str>)> {
    items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["id"].as_str().unwrap(), item["ready"]["reason"].as_str()))
        .collect()
}

#[tokio::test]
async fn who_waits_is_told_of_news_about_those_resources_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    controller.apply(json!([shop(&["north"])])).await.unwrap();
    let ids = json!(["GlobalNamespace/shop", "Cluster/north", "Cluster/north"]);
    let (before, seen) = known(&controller, &ids).await;
    assert_eq!(reasons(&before), [("Cluster/north", None), ("GlobalNamespace/shop", Some("NoCluster"))]);

    let brief = json!({"ids": ids, "known": seen, "patienceMs": 300});
    let client = controller.admin();
    let unchanged = tokio::spawn(async move { ask(&client, &brief).await.unwrap() });
    controller.apply(json!([manifest("GlobalNamespace", "bank", json!({"domain": "bank.internal"}))])).await.unwrap();
    assert_eq!(unchanged.await.unwrap(), before, "the time is over");

    let (client, began) = (controller.admin(), Instant::now());
    let long = json!({"ids": ids, "known": seen, "patienceMs": u64::MAX});
    let news = tokio::spawn(async move { ask(&client, &long).await.unwrap() });
    controller.apply(json!([manifest("Cluster", "north", json!({}))])).await.unwrap();
    let after = news.await.unwrap();
    assert!(began.elapsed() < LONGEST, "the time was over");
    assert_eq!(reasons(&after)[0], ("Cluster/north", Some("NotJoined")), "{after}");

    let limited = controller.with_role("bank-team", "viewer", &["bank"]).await;
    let hidden = ask(&limited, &json!({"ids": ["GlobalNamespace/shop", "GlobalNamespace/bank"]})).await.unwrap();
    assert_eq!(reasons(&hidden)[1], ("GlobalNamespace/shop", None), "it is not theirs to see");
    assert!(reasons(&hidden)[0].1.is_some(), "{hidden}");
    let (status, _) = refused(ask(&controller.stranger(), &json!({"ids": []})).await);
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    controller.stop().await;
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let ids = json!(["GlobalNamespace/shop"]);
    let long = json!({"ids": ids, "known": known(&controller, &ids).await.1, "patienceMs": 60_000});
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (client, long) = (controller.admin(), long.clone());
        waiting.spawn(async move { ask(&client, &long).await });
    }
    for _ in 0..100 - 64 {
        let (status, errors) = refused(waiting.join_next().await.unwrap().unwrap());
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(errors[0].message.contains("64 callers wait"), "{errors:?}");
    }
    controller.apply(json!([shop(&["north"])])).await.unwrap();
    while let Some(told) = waiting.join_next().await {
        assert_eq!(reasons(&told.unwrap().unwrap()), [("GlobalNamespace/shop", Some("NoCluster"))]);
    }
    known(&controller, &ids).await;
    controller.stop().await;
}
