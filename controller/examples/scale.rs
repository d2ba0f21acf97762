//! What one changed instance costs in a large mesh, from the manifest to the member's world: CPU time of controller,
//! agent and member together, and how long it takes. Prints figures, for people:
//! `cargo run --release -p tombolo-controller --example scale`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

extern crate tombolo_controller as controller;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::resource::{ResourceId, Spec};
use config::wire::{Ack, MemberRole};
use controller::global::{Apply, Controller, Handle, Settings};
use controller::local::{self, Agent};
use controller::member::holdings::Needs;
use controller::member::{self, Followed, Member, Standing};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PUBLIC_SERVICES: usize = 5_000;
const SERVICES: usize = 1_000;
const INSTANCES: usize = 10;
const CHANGES: usize = 20;

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn desired() -> Vec<Value> {
    let rows = json!([{"cluster": {"exact": "north"}, "namespace": {"exact": "shop"}}]);
    let shop = manifest("GlobalNamespace", "shop", json!({"domain": "shop.internal", "members": rows}));
    let public = |at: usize| {
        let host = json!({"name": format!("p{at}.example.com")});
        let (service, tls) = (format!("s{}", at % SERVICES), json!({"mode": "http"}));
        let spec = json!({"globalNamespace": "shop", "service": service, "port": 80, "hosts": [host], "tls": tls});
        manifest("PublicService", &format!("p{at}"), spec)
    };
    std::iter::once(shop).chain((0..PUBLIC_SERVICES).map(public)).collect()
}

fn write_service(folder: &Path, at: usize, version: &str) {
    let instance = |at: usize| json!({"address": format!("10.0.0.{}", at + 1)});
    let instances: Vec<Value> = (0..INSTANCES).map(instance).collect();
    let ports = json!([{"name": "http", "port": 80}]);
    let spec = json!({"ports": ports, "versions": [{"name": version, "instances": instances}]});
    let mut service = manifest("Service", &format!("s{at}"), spec);
    service["metadata"]["namespace"] = "shop".into();
    std::fs::write(folder.join(format!("s{at}.json")), service.to_string()).unwrap();
}

/// What the agent dials, and a token for it.
async fn start_controller(folder: &Path) -> Handle {
    let settings = Settings {
        state_dir: folder.join("controller"),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertised: vec![],
        mesh: "mesh.example".into(),
        admin_context: None,
        seal_keys: Default::default(),
        history: controller::store::HISTORY,
    };
    let controller = tokio::task::spawn_blocking(move || Controller::build(settings)).await.unwrap().unwrap();
    let handle = controller.handle();
    tokio::spawn(controller.run(CancellationToken::new()));
    handle
}

async fn start_agent(folder: &Path, join: String) {
    let settings = local::Settings {
        state_dir: folder.join("agent"),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        services_dir: Some(folder.join("services")),
        join: Some(join),
        replace: false,
        labels: Default::default(),
        controller: None,
        workloads: Vec::new(),
        workload_socket: None,
    };
    let agent = Agent::build(settings).await.unwrap();
    tokio::spawn(async move { agent.run(CancellationToken::new()).await });
}

fn start_member(folder: &Path) -> watch::Receiver<Option<Arc<Followed>>> {
    let settings = member::Settings {
        token_file: folder.join("agent/member.token"),
        state_dir: folder.join("gw1"),
        name: "gw1".parse().unwrap(),
        role: MemberRole::Gateway,
        addresses: None,
    };
    let member = Member::build(settings).unwrap();
    let followed = member.followed();
    tokio::spawn(async move {
        let (needs, ack) = (watch::Sender::<Arc<Needs>>::default(), watch::Sender::<Ack>::default());
        let standing = watch::Sender::new(Standing::Here);
        member.run(needs.subscribe(), ack.subscribe(), standing.subscribe()).await;
    });
    followed
}

fn shows(followed: &Option<Arc<Followed>>, at: usize, version: &str) -> bool {
    let id: ResourceId = format!("Service/north/shop/s{at}").parse().unwrap();
    let resource = followed.as_ref().and_then(|followed| followed.world.resource(&id).cloned());
    resource.is_some_and(|resource| match &resource.spec {
        Spec::Service(spec) => spec.versions.iter().any(|shown| shown.name.as_str() == version),
        _ => false,
    })
}

/// CPU time of this process, in steps of 10 ms (proc(5): fields 14 and 15, in ticks).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

/// Prints what something cost: the time that went by, and CPU time.
struct Cost(Instant, Duration);

impl Cost {
    fn begin() -> Self {
        Cost(Instant::now(), cpu())
    }

    fn print(&self, what: &str, times: usize) {
        let times = u32::try_from(times).unwrap();
        println!("{what}: {:?}, CPU {:?} of all together", self.0.elapsed() / times, (cpu() - self.1) / times);
    }
}

async fn apply(handle: &Handle, manifests: Vec<Value>) -> u64 {
    let (handle, apply) = (handle.clone(), Apply { manifests, ..Apply::default() });
    tokio::task::spawn_blocking(move || handle.apply(apply).unwrap().revision).await.unwrap()
}

async fn change_instances(services: &Path, followed: &mut watch::Receiver<Option<Arc<Followed>>>) {
    let cost = Cost::begin();
    for change in 1..=CHANGES {
        let version = format!("v{change}");
        write_service(services, change, &version);
        followed.wait_for(|followed| shows(followed, change, &version)).await.unwrap();
    }
    cost.print("a changed instance, to the member", CHANGES);
}

async fn change_public_services(handle: &Handle, followed: &mut watch::Receiver<Option<Arc<Followed>>>) {
    let mut one = desired().swap_remove(1);
    let cost = Cost::begin();
    for change in 1..=CHANGES {
        one["spec"]["hosts"][0]["ttl"] = format!("{change}s").into();
        let revision = apply(handle, vec![one.clone()]).await;
        followed.wait_for(|f| f.as_ref().is_some_and(|f| f.world.revision.global >= revision)).await.unwrap();
    }
    cost.print("a changed public service, to the member", CHANGES);
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let (folder, services) = (directory.path(), directory.path().join("services"));
    std::fs::create_dir(&services).unwrap();
    (0..SERVICES).for_each(|at| write_service(&services, at, "v0"));
    let handle = start_controller(folder).await;
    let cost = Cost::begin();
    apply(&handle, desired()).await;
    cost.print("applying everything", 1);

    let maker = handle.clone();
    let token = tokio::task::spawn_blocking(move || maker.create_token(&"north".parse().unwrap()).unwrap());
    start_agent(folder, token.await.unwrap().to_string()).await;
    let mut followed = start_member(folder);
    let desired = |f: &Option<Arc<Followed>>| f.as_ref().is_some_and(|f| f.world.facts.len() > PUBLIC_SERVICES);
    followed.wait_for(|f| desired(f) && shows(f, SERVICES - 1, "v0")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await; // the caches are written
    let cost = Cost::begin();
    tokio::time::sleep(Duration::from_secs(6)).await;
    cost.print("a second in which nothing happens", 6);
    change_instances(&services, &mut followed).await;
    change_public_services(&handle, &mut followed).await;
}
