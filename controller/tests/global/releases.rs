//! Agents of the release before this one and of the one after it, and agents that lie.

use bytes::Bytes;
use config::wire::PROTOCOL;
use identity::Identity;
use serde_json::{Value, json};

use crate::connection::words::Words;
use crate::harness::{Running, manifest, shop, start, web};

/// As the release before said it, which knew nothing of features.
fn hello(protocol: u32) -> Value {
    json!({"type": "hello", "protocol": protocol, "version": "0.0.9", "features": [], "name": "north", "boot": "1",
        "role": "agent"})
}

/// As this release says it.
fn resuming() -> Value {
    let mut hello = hello(1);
    hello["features"] = json!(["resume", "ackDeltas"]);
    hello
}

/// A cluster with so many labels.
fn labelled(labels: usize) -> Value {
    let mut cluster = manifest("Cluster", "north", json!({}));
    let label = |at: usize| (format!("label-{at}"), json!("x".repeat(50)));
    cluster["metadata"]["labels"] = (0..labels).map(label).collect::<serde_json::Map<_, _>>().into();
    cluster
}

#[tokio::test]
async fn of_a_long_value_who_can_take_it_is_told_what_changed_and_others_all() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    controller.apply(json!([labelled(100)])).await.unwrap();
    for features in [json!([]), json!(["patches"])] {
        let mut hello = hello(1);
        hello["features"] = features.clone();
        let mut stream = speak(&controller, &identity, hello).await;
        stream.until("update").await;
        controller.apply(json!([labelled(101)])).await.unwrap();
        let mut said = stream.next().await.unwrap();
        if features != json!([]) {
            let patch = said["entries"][0]["value"].clone();
            assert_eq!((&said["type"], keys(&said)), (&json!("patch"), vec!["Cluster/north"]));
            assert_eq!(patch, json!({"resource": {"labels": {"label-100": "x".repeat(50)}}}));
            said = stream.next().await.unwrap();
        }
        let whole = if features == json!([]) { vec!["Cluster/north"] } else { vec![] };
        assert_eq!((&said["type"], &said["last"], keys(&said)), (&json!("update"), &json!(true), whole));
        controller.apply(json!([labelled(100)])).await.unwrap();
    }
    controller.stop().await;
}

async fn north(controller: &Running) -> Identity {
    let identity = controller.join(&controller.token("north").await, "north", false).await.unwrap();
    let (shop, web) = (shop(&["north"]), web("shop.example.com", json!("selfSigned")));
    controller.apply(json!([shop, web])).await.unwrap();
    identity
}

async fn speak(controller: &Running, identity: &Identity, hello: Value) -> Words {
    Words::open(&controller.client(Some(identity)), hello).await
}

fn keys(update: &Value) -> Vec<&str> {
    update["entries"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect()
}

fn observed(sequence: u64, reset: bool, entries: Value) -> Value {
    json!({"type": "observed", "at": {"incarnation": 1, "sequence": sequence}, "reset": reset, "last": true,
        "entries": entries})
}

fn service(key: &str) -> Value {
    let instances = json!([{"address": "192.0.2.9"}, {"address": "192.0.2.10"}]);
    json!({"key": key, "value": {"resource": {"id": key, "labels": {}, "newerField": 1,
        "spec": {"Service": {"ports": [{"name": "http", "port": 80}], "newerField": {"a": 1},
            "versions": [{"name": "v1", "instances": instances}]}}}}})
}

async fn until_instances(controller: &Running, count: usize) {
    for _ in 0..500 {
        if controller.handle.status().clusters[0].instances == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{:?}", controller.handle.status().clusters);
}

#[tokio::test]
async fn an_agent_of_the_release_before_is_served_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    let mut stream = speak(&controller, &identity, hello(PROTOCOL - 1)).await;
    assert_eq!(stream.next().await.unwrap()["type"], "welcome");
    let update = stream.next().await.unwrap();
    assert_eq!((&update["type"], &update["reset"]), (&json!("update"), &json!(true)), "nothing that it doesn't know");
    assert!(keys(&update).contains(&"PublicService/shop/web") && update.get("replaces").is_none());
    stream.say(&observed(1, true, json!([service("Service/north/shop/cart")])));
    until_instances(&controller, 2).await;
    let member =
        json!({"name": "gw1", "role": "gateway", "connected": true, "silentForMs": 0, "at": update["revision"]});
    for members in [json!([member]), json!([])] {
        stream.say(&json!({"type": "ack", "at": update["revision"], "members": members}));
        let count = members.as_array().unwrap().len();
        while controller.handle.status().clusters[0].members.len() != count {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    controller.stop().await;
}

#[tokio::test]
async fn of_the_release_after_what_is_known_counts_and_the_rest_means_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    let mut newer = hello(2);
    (newer["features"], newer["newerField"]) = (json!(["fromTheFuture"]), json!({"x": 1}));
    let mut stream = speak(&controller, &identity, newer).await;
    stream.until("update").await;
    stream.say(&json!({"type": "fromTheFuture", "entries": [1, 2, 3]}));
    stream.say_bytes(Bytes::from_static(&[0, 0, 0, 3, 99, 1, 2]));
    let kind = json!({"key": "Wonder/north/shop/x", "value": {"resource": {"id": "Wonder/north/shop/x", "spec": {}}}});
    stream.say(&observed(1, true, json!([service("Service/north/shop/cart"), kind])));
    until_instances(&controller, 2).await;
    controller.apply(json!([shop(&["north", "south"])])).await.unwrap();
    assert_eq!(keys(&stream.until("update").await), ["GlobalNamespace/shop"], "the stream goes on");
    controller.stop().await;
}

#[tokio::test]
async fn releases_further_apart_refuse_one_another_and_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    let said = speak(&controller, &identity, hello(3)).await.next().await.unwrap();
    let reason = said["reason"].as_str().unwrap();
    assert!(said["type"] == "goodbye" && reason.contains("0.0.9") && reason.contains("one follows"), "{said}");
    controller.stop().await;
}

#[tokio::test]
async fn who_comes_back_gets_the_difference_also_from_a_controller_that_remembers_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    let mut stream = speak(&controller, &identity, resuming()).await;
    assert_eq!(stream.until("holdings").await["folders"], json!({}), "nothing was ever seen");
    stream.say(&json!({"type": "holdings"}));
    assert_eq!(stream.until("update").await["reset"], true, "as nothing is held");
    stream.say(&observed(1, true, json!([service("Service/north/shop/cart"), service("Service/north/bank/cart")])));
    until_instances(&controller, 4).await;
    controller.stop().await;

    // What the agent holds, as it would say it: asked of the controller itself, which says the same of what it holds.
    let controller = start(&directory).await;
    let mut stream = speak(&controller, &identity, resuming()).await;
    let seen = stream.until("holdings").await["folders"].clone();
    assert_eq!(seen.as_object().unwrap().keys().collect::<Vec<_>>(), ["Service/north/bank", "Service/north/shop"]);
    let folders = json!({"Cluster": "another", "gone/folder": "any", "GlobalNamespace": "another"});
    stream.say(&json!({"type": "holdings", "folders": folders}));
    let update = stream.until("update").await;
    assert_eq!(update["reset"], false);
    assert_eq!(update["replaces"], json!(["Cluster", "GlobalNamespace", "gone/folder"]));
    assert!(keys(&update).contains(&"Cluster/north"), "what differs comes whole");
    // One folder is replaced, the other stays.
    let mut step = observed(2, false, json!([service("Service/north/bank/web")]));
    step["replaces"] = json!(["Service/north/bank"]);
    stream.say(&step);
    let names = || async {
        let got: Value = controller.admin().get("/v1alpha1/resources?kind=Service").await.unwrap();
        let items = got["items"].as_array().unwrap().clone();
        let mut names: Vec<_> = items.iter().map(|item| item["metadata"].clone()).collect();
        names.sort_by_key(|meta| meta["namespace"].to_string());
        names.iter().map(|meta| format!("{}/{}", meta["namespace"], meta["name"]).replace('"', "")).collect::<Vec<_>>()
    };
    while names().await != ["bank/web", "shop/cart"] {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    controller.stop().await;
}

#[tokio::test]
async fn an_agent_speaks_for_its_own_cluster_whatever_it_says_that_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    let mut liar = hello(1);
    liar["name"] = json!("south");
    let said = speak(&controller, &identity, liar).await.next().await.unwrap();
    assert!(said["type"] == "goodbye" && said["reason"].as_str().unwrap().contains("north"), "{said}");
    let mut stream = speak(&controller, &identity, hello(1)).await;
    stream.until("update").await;
    stream.say(&observed(1, true, json!([service("Service/south/shop/cart"), service("Service/north/shop/cart")])));
    until_instances(&controller, 2).await;
    controller.stop().await;
}

#[tokio::test]
async fn who_says_too_much_at_once_is_cut_off_and_the_last_good_stays() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    let mut stream = speak(&controller, &identity, hello(1)).await;
    stream.until("update").await;
    stream.say(&observed(1, true, json!([service("Service/north/shop/cart")])));
    until_instances(&controller, 2).await;
    let many: Vec<Value> = (0..1_000).map(|at| json!({"key": format!("x/{at}")})).collect();
    for _ in 0..130 {
        stream.say(&json!({"type": "observed", "at": {"incarnation": 1, "sequence": 2}, "reset": true, "last": false,
            "entries": many}));
    }
    let said = stream.until("goodbye").await;
    assert!(said["reason"].as_str().unwrap().contains("parts"), "{said}");
    assert_eq!(controller.handle.status().clusters[0].instances, 2);

    let mut stream = speak(&controller, &identity, resuming()).await;
    stream.until("holdings").await;
    stream.say(&json!({"type": "holdings"}));
    stream
        .say(&json!({"type": "ack", "at": {"global": 0, "agent": {"incarnation": 0, "sequence": 0}}, "partial": true}));
    let said = stream.until("goodbye").await;
    assert!(said["reason"].as_str().unwrap().contains("must be whole"), "nobody knows what it leaves out: {said}");
    controller.stop().await;
}

/// A service of which also the summary is large.
fn large_service(at: usize) -> Value {
    let mut service = service(&format!("Service/south/shop/s{at}"));
    let port = |at: usize| json!({"name": format!("a-port-with-quite-a-long-name-{at}"), "port": 1_000 + at});
    service["value"]["resource"]["spec"]["Service"]["ports"] = (0..150).map(port).collect();
    service
}

#[tokio::test]
async fn who_takes_nothing_is_ended_and_delays_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = north(&controller).await;
    let south = controller.join(&controller.token("south").await, "south", false).await.unwrap();
    let west = controller.join(&controller.token("west").await, "west", false).await.unwrap();
    controller.apply(json!([shop(&["north", "south", "west"])])).await.unwrap();
    let (mut hello_south, mut hello_west) = (hello(1), hello(1));
    (hello_south["name"], hello_west["name"]) = ("south".into(), "west".into());
    let mut seeing = speak(&controller, &south, hello_south).await;
    seeing.until("update").await;
    for first in (0..2_000).step_by(100) {
        let entries: Vec<Value> = (first..first + 100).map(large_service).collect();
        seeing.say(&observed(first as u64, first == 0, entries.into()));
    }
    let mut taking = speak(&controller, &west, hello_west).await;
    let stuck = speak(&controller, &identity, hello(1)).await;
    stuck.keep_beating();
    taking.keep_beating();
    let mut known = std::collections::BTreeSet::new();
    while known.len() < 2_000 {
        let update = taking.until("update").await;
        known.extend(keys(&update).into_iter().filter(|key| key.starts_with("remote/")).map(str::to_owned));
    }
    let connected = |cluster: &str| {
        let status = controller.handle.status();
        status.clusters.iter().any(|status| status.name.as_str() == cluster && status.connected)
    };
    assert!(connected("north"), "it is still waited for");
    let mut changes = 0;
    while connected("north") {
        assert!(changes < 200, "it is never ended");
        changes += 1;
        controller.apply(json!([web(&format!("h{changes}.example.com"), json!("selfSigned"))])).await.unwrap();
        while !keys(&taking.until("update").await).contains(&"PublicService/shop/web") {}
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(connected("west"));
    controller.stop().await;
}
