//! Releases of which one follows upon the other: who speaks as the release before did, and knows nothing of what came
//! since, is served by this one's processes, and counts.

use std::net::SocketAddr;
use std::path::Path;

use config::wire::PROTOCOL;
use controller::http::client::Client;
use controller::member::credential::Credential;
use identity::RoleKind;
use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::eventually;
use crate::support::holds;
use crate::support::process::signal;
use crate::words::Words;

/// As the release before said it.
fn hello(name: &str, role: &str) -> Value {
    json!({"type": "hello", "protocol": PROTOCOL - 1, "version": "0.0.9", "name": name, "boot": "old", "role": role})
}

/// One that takes the place of a process of the demo, with what that has on disk.
struct Old {
    stream: Words,
    revision: Value,
}

impl Old {
    async fn follow(file: &Path, server: RoleKind, at: SocketAddr, hello: Value) -> Old {
        let credential = Credential::load(file).unwrap();
        let client = Client::fixed(at.to_string().parse().unwrap(), credential.client_tls(server).unwrap());
        let mut stream = Words::open(&client, hello).await;
        stream.keep_beating();
        let welcome = stream.next().await.unwrap();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let mut old = Old { stream, revision: Value::Null };
        let (reset, keys) = old.update().await;
        assert!(reset && keys.contains(&"GlobalNamespace/shop".to_owned()), "the whole world comes first: {keys:?}");
        old
    }

    /// The next step: whether it begins anew, and what is in it. Nothing else may be said but that.
    async fn update(&mut self) -> (bool, Vec<String>) {
        let (mut reset, mut keys) = (false, Vec::new());
        loop {
            let update = self.stream.next().await.expect("the stream ended");
            assert_eq!(update["type"], "update", "it would not know that: {update}");
            assert!(update.get("replaces").is_none(), "nor that: {update}");
            reset |= update["reset"] == true;
            let entries = update["entries"].as_array().unwrap().iter();
            keys.extend(entries.map(|entry| entry["key"].as_str().unwrap().to_owned()));
            if update["last"] == true {
                self.revision = update["revision"].clone();
                return (reset, keys);
            }
        }
    }

    /// Follows until an entry comes; returns where it is then.
    async fn until(&mut self, key: &str) -> Value {
        while !self.update().await.1.iter().any(|came| came == key) {}
        self.revision.clone()
    }
}

/// Something that west's members must act on.
fn of_west(name: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\n\
         spec: {{domain: {name}.internal, members: [{{cluster: {{exact: west}}, namespace: {{exact: {name}}}}}]}}\n"
    )
}

fn cluster<'s>(status: &'s Value, name: &str) -> &'s Value {
    status["clusters"].as_array().unwrap().iter().find(|cluster| cluster["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_release_before_follows_and_is_believed() {
    let demo = Demo::own().await;
    signal("KILL", &demo.pids("west_agent"));
    let file = demo.state.join("west/agent/agent.pem");
    let mut old = Old::follow(&file, RoleKind::Controller, demo.controller(), hello("west", "agent")).await;

    let id = "Service/west/shop/oldest";
    let instances = json!([{"address": "192.0.2.9", "port": 9000}]);
    let spec = json!({"ports": [{"name": "http", "port": 8080}], "versions": [{"name": "v1", "instances": instances}]});
    let service = json!({"key": id, "value": {"resource": {"id": id, "labels": {}, "spec": {"Service": spec}}}});
    old.stream.say(&json!({"type": "observed", "at": {"incarnation": u64::MAX, "sequence": 1}, "reset": true,
        "last": true, "entries": [service]}));
    let told = || async {
        let seen = demo.cli(|cli| cli.run(&["get", "service", "-o", "json"])).success();
        holds(seen.contains("oldest"), || seen.clone())
    };
    eventually("what it sees is known", told).await;

    demo.cli(|cli| cli.apply(&of_west("first"))).success();
    let at = old.until("GlobalNamespace/first").await;
    let member = |name: &str| json!({"name": name, "role": "gateway", "connected": true, "silentForMs": 0, "at": at});
    old.stream.say(&json!({"type": "ack", "at": at, "members": [member("gw-a"), member("gw-b")]}));
    let counts = || async {
        let status = demo.cli(|cli| cli.json(&["status"]));
        let west = cluster(&status, "west");
        let told = west["connected"] == true && west["version"] == "0.0.9" && west["lag"] == 0;
        holds(told && west["members"].as_array().unwrap().len() == 2, || west.to_string())
    };
    eventually("what it says counts", counts).await;
    demo.cli(|cli| cli.make_ready(&of_west("first")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_and_a_dns_server_of_the_release_before_follow_and_are_waited_for() {
    let demo = Demo::own().await;
    let agent = SocketAddr::new(demo.address(2, 0, 4), 7444);
    let mut all: Vec<Old> = Vec::new();
    for (process, name, role) in [("west_gw_b", "gw-b", "gateway"), ("west_dns_a", "dns-a", "dns")] {
        signal("KILL", &demo.pids(process));
        let file = demo.state.join(format!("west/{name}/member.pem"));
        all.push(Old::follow(&file, RoleKind::Agent, agent, hello(name, role)).await);
        let manifest = of_west(role);
        demo.cli(|cli| cli.apply(&manifest)).success();
        for old in &mut all {
            let at = old.until(&format!("GlobalNamespace/{role}")).await;
            old.stream.say(&json!({"type": "ack", "at": at}));
        }
        demo.cli(|cli| cli.make_ready(&manifest));
        let status = demo.cli(|cli| cli.json(&["status"]));
        let members = cluster(&status, "west")["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["name"] == name).unwrap();
        assert!(member["connected"] == true && member["lag"] == 0, "{member}");
    }
}
