//! One cluster's agent, as its controller sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use config::wire::{
    Ack, AgentSequence, Entries, Hello, MemberReport, MemberRole, PROTOCOL, PeerReport, RevisionPair, Up, frame,
};
use controller::http::client::Client;
use controller::http::message::{Join, Joined};
use controller::http::token::Token;
use controller::http::{CLIENT_ALPN, csr};
use controller::sync::client::{Follower, Seen, follow};
use controller::sync::{PATH, Published};
use http_body_util::{BodyExt, StreamBody};
use identity::pem::decode_certificates;
use identity::tls::enrolment_client_config;
use identity::{Identity, KeyedCertificate, PrivateKey, Role, RoleKind, SpiffeId};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::process::{MESH, Process};

pub struct Mesh {
    pub clusters: usize,
    pub services: usize,
    pub instances: usize,
    /// Of so many clusters each gateway says how it sees their gateways.
    pub peers: usize,
}

pub struct Agent {
    world: watch::Receiver<Option<Arc<Published>>>,
    seen: watch::Sender<Arc<Seen>>,
    services: usize,
    cluster: String,
    instances: usize,
    _end: DropGuard,
}

fn cluster(at: usize) -> String {
    format!("c{at}")
}

fn service(cluster: &str, name: &str, version: &str, instances: usize) -> (String, Value) {
    let id = format!("Service/{cluster}/shop/{name}");
    let instances: Vec<Value> = (1..=instances)
        .map(|at| json!({"address": format!("10.1.{}.{}", at / 250, at % 250 + 1), "port": 8080}))
        .collect();
    let spec =
        json!({"ports": [{"name": "http", "port": 80}], "versions": [{"name": version, "instances": instances}]});
    (id.clone(), json!({"resource": {"id": id, "labels": {}, "spec": {"Service": spec}}}))
}

/// Joins, as a cluster of that name.
async fn identity(name: &str, admin: &Client) -> Identity {
    let answer: Value = admin.post("/v1alpha1/tokens", &json!({ "cluster": name })).await.unwrap();
    let token: Token = answer["token"].as_str().unwrap().parse().unwrap();
    let (domain, key) = (MESH.parse().unwrap(), PrivateKey::generate().unwrap());
    let id = SpiffeId::new(domain, Role::Agent { cluster: name.to_owned() }).unwrap();
    let csr = csr::make(&id, &key).unwrap();
    let (secret, cluster) = (token.secret.to_string(), name.parse().unwrap());
    let request = Join { secret, cluster, csr, labels: [].into(), replace: false };
    let domain = MESH.parse().unwrap();
    let tls = enrolment_client_config(domain, RoleKind::Controller, &token.ca_sha256, CLIENT_ALPN).unwrap();
    let joined: Joined = Client::fixed(token.address.clone(), tls).post("/v1alpha1/join", &request).await.unwrap();
    Identity::new(KeyedCertificate::new(decode_certificates(&joined.certificate).unwrap(), &key).unwrap()).unwrap()
}

/// Two gateways and a DNS server, and two gateways in each of so many clusters that they see.
fn members(mesh: &Mesh, at: RevisionPair) -> Vec<MemberReport> {
    let peer = |of: usize| PeerReport {
        draining: false,
        answered_by: None,
        global_namespace: "shop".parse().unwrap(),
        from: None,
        cluster: cluster(of / 2).parse().unwrap(),
        gateway: format!("gw{}", of % 2).parse().unwrap(),
        address: "192.0.2.1:7445".into(),
        tunnels: 2,
        fault: None,
    };
    let peers: Arc<Vec<PeerReport>> = Arc::new((0..mesh.peers * 2).map(peer).collect());
    let member = |name: &str, role| MemberReport {
        draining: false,
        name: name.parse().unwrap(),
        role,
        connected: true,
        silent_for_ms: 0,
        at,
        rejected: vec![],
        peers: if role == MemberRole::Gateway { Arc::clone(&peers) } else { Arc::default() },
        trust: vec![],
        absent: false,
    };
    [("gw0", MemberRole::Gateway), ("gw1", MemberRole::Gateway), ("dns0", MemberRole::Dns)]
        .map(|(name, role)| member(name, role))
        .into()
}

/// Says what it acts on, as soon as it knows it.
async fn acknowledge(mut world: watch::Receiver<Option<Arc<Published>>>, ack: watch::Sender<Ack>, mesh: Mesh) {
    loop {
        let at = world.borrow_and_update().as_ref().map(|world| world.revision).unwrap_or_default();
        if ack.borrow().at != at {
            ack.send_replace(Ack { at, members: members(&mesh, at), ..Ack::default() });
        }
        if world.changed().await.is_err() {
            return;
        }
    }
}

/// Joins.
pub async fn join(at: usize, admin: &Client) -> Identity {
    identity(&cluster(at), admin).await
}

impl Agent {
    pub fn follow(mesh: &Mesh, at: usize, identity: &Identity, process: &Process) -> Self {
        let (cluster, world, ack) = (cluster(at), watch::Sender::new(None), watch::Sender::new(Ack::default()));
        let client = Client::fixed(process.address.clone(), process.tls(Some(identity)));
        let hello = hello(&cluster);
        let parts = (0..mesh.services).map(|at| service(&cluster, &format!("s{at}"), "v1", mesh.instances));
        let parts = parts.map(|(key, value)| (key, value.into()));
        let first = Seen { at: AgentSequence { incarnation: 1, sequence: 1 }, entries: Arc::new(parts.collect()) };
        let (seen, end) = (watch::Sender::new(Arc::new(first)), CancellationToken::new());
        let receiver = world.subscribe();
        let follower = Follower { client, hello, seen: Some(seen.subscribe()), ack: ack.subscribe(), answerer: None };
        let told = Mesh { ..*mesh };
        tokio::spawn(acknowledge(world.subscribe(), ack, told));
        tokio::spawn(follow(follower, world, end.clone()));
        let (services, instances) = (mesh.services, mesh.instances);
        Agent { world: receiver, seen, services, cluster, instances, _end: end.drop_guard() }
    }

    pub async fn knows_all(&mut self, mesh: &Mesh) {
        let last = format!("s{}", mesh.services - 1);
        let knows = |of: usize| format!("remote/{}/shop/{last}", cluster(of));
        let all = |entries: &Entries| {
            (0..mesh.clusters).filter(|of| cluster(*of) != self.cluster).all(|of| entries.contains_key(&knows(of)))
        };
        self.world.wait_for(|world| world.as_ref().is_some_and(|world| all(&world.entries))).await.unwrap();
    }

    fn see(&self, parts: impl Iterator<Item = (String, Value)>) {
        self.seen.send_modify(|seen| {
            let mut entries = (*seen.entries).clone();
            entries.extend(parts.map(|(key, value)| (key, value.into())));
            let at = AgentSequence { sequence: seen.at.sequence + 1, ..seen.at };
            *seen = Arc::new(Seen { at, entries: Arc::new(entries) });
        });
    }

    /// Changes the version of one service.
    pub fn mark(&self, version: &str) {
        self.see([service(&self.cluster, "probe", version, 1)].into_iter());
    }

    pub async fn knows_mark(&mut self, version: &str) {
        let shows = |entries: &Entries| {
            entries.get("remote/c0/shop/probe").is_some_and(|entry| entry.as_str().contains(&format!("\"{version}\"")))
        };
        self.world.wait_for(|world| world.as_ref().is_some_and(|world| shows(&world.entries))).await.unwrap();
    }

    /// Adds an instance to so many services, or takes it away, at each tick.
    pub fn churn(&self, services: usize, tick: Duration) -> impl Future<Output = ()> + Send + 'static {
        let (seen, cluster, all, instances) = (self.seen.clone(), self.cluster.clone(), self.services, self.instances);
        async move {
            let mut ticks = tokio::time::interval(tick);
            loop {
                ticks.tick().await;
                let changed = (0..services).map(|_| {
                    service(&cluster, &format!("s{}", fastrand::usize(..all)), "v1", instances + fastrand::usize(..5))
                });
                seen.send_modify(|seen| {
                    let mut entries = (*seen.entries).clone();
                    entries.extend(changed.map(|(key, value)| (key, value.into())));
                    let at = AgentSequence { sequence: seen.at.sequence + 1, ..seen.at };
                    *seen = Arc::new(Seen { at, entries: Arc::new(entries) });
                });
            }
        }
    }

    pub fn forget_news(&mut self) {
        self.world.mark_unchanged();
    }

    pub async fn news(&mut self) {
        self.world.changed().await.unwrap();
    }
}

/// The agent of a further cluster, which says that it lives and takes nothing: its streams go on until they are ended,
/// and then it comes back.
pub async fn join_stuck(at: usize, admin: &Client, process: &Process) {
    let name = format!("stuck{at}");
    let identity = identity(&name, admin).await;
    let client = Client::fixed(process.address.clone(), process.tls(Some(&identity)));
    let hello = hello(&name);
    tokio::spawn(async move {
        loop {
            let (beats, body) = mpsc::channel::<Bytes>(1);
            beats.send(frame::message(&Up::Hello(hello.clone())).unwrap()).await.unwrap();
            let frames = ReceiverStream(body);
            if let Ok(untaken) = client.stream(PATH, BodyExt::boxed(StreamBody::new(frames))).await {
                while beats.send(frame::message(&Up::Beat).unwrap()).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                drop(untaken);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

struct ReceiverStream(mpsc::Receiver<Bytes>);

impl futures_util::Stream for ReceiverStream {
    type Item = Result<hyper::body::Frame<Bytes>, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}

fn hello(cluster: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: "simulated".into(),
        features: vec![],
        name: cluster.parse().unwrap(),
        boot: "1".into(),
        role: MemberRole::Agent,
        addresses: None,
    }
}
