//! What agents are told, and what they may tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::wire::{Ack, AgentSequence, Entries, Hello, MemberReport, MemberRole, PROTOCOL, RevisionPair};
use controller::sync::Published;
use controller::sync::client::{Follower, Seen, follow};
use identity::Identity;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{Running, shop, start, web};

struct Agent {
    world: watch::Receiver<Option<Arc<Published>>>,
    seen: watch::Sender<Arc<Seen>>,
    ack: watch::Sender<Ack>,
    _end: DropGuard,
}

impl Agent {
    fn follow(controller: &Running, cluster: &str, identity: &Identity) -> Self {
        let hello = Hello {
            protocol: PROTOCOL,
            version: "test".into(),
            features: vec![],
            name: cluster.parse().unwrap(),
            boot: "1".into(),
            role: MemberRole::Agent,
            addresses: None,
        };
        let (world, ack, seen) = (watch::channel(None), watch::channel(Ack::default()), watch::channel(Arc::default()));
        let end = CancellationToken::new();
        let client = controller.client(Some(identity));
        let follower = Follower { client, hello, seen: Some(seen.1), ack: ack.1, answerer: None };
        tokio::spawn(follow(follower, world.0, end.clone()));
        Agent { world: world.1, seen: seen.0, ack: ack.0, _end: end.drop_guard() }
    }

    fn see(&self, sequence: u64, entries: Value) {
        let at = AgentSequence { incarnation: 1, sequence };
        let entries: Entries = serde_json::from_value(entries).unwrap();
        self.seen.send_replace(Arc::new(Seen { at, entries: Arc::new(entries) }));
    }

    fn acknowledge(&self, global: u64, connected: bool) {
        let at = RevisionPair { global, ..RevisionPair::default() };
        let member = MemberReport {
            name: "g1".parse().unwrap(),
            role: MemberRole::Gateway,
            connected,
            silent_for_ms: 0,
            at,
            rejected: vec![],
            peers: Arc::default(),
            trust: vec![],
            absent: false,
            draining: false,
        };
        self.ack.send_replace(Ack { at, members: vec![member], ..Ack::default() });
    }

    async fn world(&mut self, what: impl Fn(&Published) -> bool) -> Arc<Published> {
        let known = self.world.wait_for(|world| world.as_ref().is_some_and(|world| what(world)));
        let known = tokio::time::timeout(Duration::from_secs(10), known).await.expect("it did not come in time");
        known.unwrap().clone().unwrap()
    }
}

fn service(cluster: &str) -> Value {
    let id = format!("Service/{cluster}/shop/cart");
    json!({"resource": {"id": id, "spec": {"Service": {"ports": [{"name": "http", "port": 80}],
        "versions": [{"name": "v1", "instances": [{"address": "192.0.2.9"}]}]}}}})
}

async fn ready(controller: &Running, id: &str) -> (Value, Value) {
    let got: Value = controller.admin().get(&format!("/v1alpha1/resources/{id}")).await.unwrap();
    let ready = &got["status"]["conditions"][0];
    (ready["status"].clone(), ready["reason"].clone())
}

async fn until_ready(controller: &Running, id: &str, wanted: (&str, &str)) {
    let wanted = (json!(wanted.0), json!(wanted.1));
    for _ in 0..200 {
        if ready(controller, id).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{id} is {:?}, not {wanted:?}", ready(controller, id).await);
}

#[tokio::test]
async fn agents_get_each_change_and_the_keys_but_never_anothers_instances() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let north = controller.join(&controller.token("north").await, "north", false).await.unwrap();
    let south = controller.join(&controller.token("south").await, "south", false).await.unwrap();
    let (mut north, south) = (Agent::follow(&controller, "north", &north), Agent::follow(&controller, "south", &south));
    north.world(|world| world.entries.contains_key("Cluster/south")).await;
    controller.apply(json!([shop(&["north", "south"]), web("shop.example.com", json!("selfSigned"))])).await.unwrap();
    let world = north.world(|world| world.entries.contains_key("hostCertificate/shop/web")).await;
    assert_eq!((world.revision.global, world.secrets.len()), (3, 1));
    let trust: serde_json::Value = world.entries.get("trust/shop").unwrap().read().unwrap();
    let labels = &trust["trust"]["labels"];
    assert!(labels["north"].as_str().unwrap().ends_with(".t.invalid") && labels["north"] != labels["south"]);

    let forged = json!({"gateways": {"cluster": "north", "gateways": []}});
    south.see(
        1,
        json!({"Service/south/shop/cart": service("south"), "Service/north/shop/cart": service("north"),
        "gateways/north": forged}),
    );
    let world = north.world(|world| world.entries.contains_key("remote/south/shop/cart")).await;
    let told = serde_json::to_string(&*world.entries).unwrap();
    assert!(!told.contains("192.0.2.9"), "{told}");
    assert!(!world.entries.contains_key("remote/north/shop/cart") && !world.entries.contains_key("gateways/north"));
    let services: Value = controller.admin().get("/v1alpha1/resources?kind=Service").await.unwrap();
    assert_eq!(services["items"].as_array().unwrap().len(), 1, "the controller itself sees instances");
    controller.stop().await;
}

#[tokio::test]
async fn a_stream_doesnt_hold_the_stop_up() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = controller.join(&controller.token("north").await, "north", false).await.unwrap();
    let mut agent = Agent::follow(&controller, "north", &identity);
    agent.world(|_| true).await;
    let asked = Instant::now();
    controller.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn ready_is_what_members_say() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = controller.join(&controller.token("north").await, "north", false).await.unwrap();
    controller.apply(json!([shop(&["north"])])).await.unwrap();
    until_ready(&controller, "GlobalNamespace/shop", ("Unknown", "MembersUnreachable")).await;
    let agent = Agent::follow(&controller, "north", &identity);
    until_ready(&controller, "GlobalNamespace/shop", ("False", "NoMembers")).await;
    agent.acknowledge(1, true);
    until_ready(&controller, "GlobalNamespace/shop", ("Unknown", "Progressing")).await;
    agent.acknowledge(2, true);
    until_ready(&controller, "GlobalNamespace/shop", ("True", "Serving")).await;
    controller.apply(json!([web("shop.example.com", json!("selfSigned"))])).await.unwrap();
    until_ready(&controller, "PublicService/shop/web", ("False", "UnknownService")).await;
    agent.see(1, json!({"Service/north/shop/cart": service("north")}));
    until_ready(&controller, "PublicService/shop/web", ("Unknown", "Progressing")).await;
    agent.acknowledge(3, true);
    until_ready(&controller, "PublicService/shop/web", ("True", "Serving")).await;
    agent.acknowledge(3, false);
    until_ready(&controller, "PublicService/shop/web", ("Unknown", "MembersUnreachable")).await;
    drop(agent);
    until_ready(&controller, "GlobalNamespace/shop", ("Unknown", "MembersUnreachable")).await;
    controller.stop().await;
}

#[tokio::test]
async fn what_agents_saw_last_is_known_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let identity = controller.join(&controller.token("north").await, "north", false).await.unwrap();
    let mut agent = Agent::follow(&controller, "north", &identity);
    agent.see(1, json!({"Service/north/shop/cart": service("north")}));
    agent.world(|_| true).await;
    while controller.handle.status().clusters[0].instances == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(agent);
    controller.stop().await;
    let controller = start(&directory).await;
    let status = controller.handle.status();
    assert_eq!((status.clusters[0].instances, status.clusters[0].connected), (1, false));
    controller.stop().await;
    let cache = directory.path().join("state/observed/north.json");
    std::fs::write(&cache, "damaged").unwrap();
    let controller = start(&directory).await;
    assert_eq!(controller.handle.status().clusters[0].instances, 0);
    assert!(cache.with_file_name("north.json.damaged").exists());
    controller.stop().await;
}
