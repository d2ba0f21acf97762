//! Joining, following, and going on when others are gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::resource::{GatewayAddresses, Name};
use config::wire::{Ack, MemberRole, RevisionPair};
use controller::local::{Agent, Settings};
use controller::member::holdings::{Need, Needs};
use controller::member::{self, Followed, Identities, Member, Standing};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::controller_fake::{Fake, LABEL};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn until<T>(receiver: &mut watch::Receiver<T>, what: impl FnMut(&T) -> bool) {
    let arrived = tokio::time::timeout(PATIENCE, receiver.wait_for(what)).await;
    assert!(arrived.expect("it did not come in time").is_ok(), "the sender is gone");
}

pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("services")).unwrap();
        Place(folder)
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.0.path().join("agent")
    }

    pub(crate) fn settings(&self, join: Option<String>) -> Settings {
        Settings {
            state_dir: self.agent_dir(),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            services_dir: Some(self.0.path().join("services")),
            join,
            replace: false,
            labels: Default::default(),
            controller: None,
            workloads: vec![],
            workload_socket: None,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.path().join("run/workload.sock")
    }

    pub(crate) fn remove_service(&self, name: &str) {
        std::fs::remove_file(self.0.path().join("services").join(format!("{name}.yaml"))).unwrap();
    }

    pub(crate) fn write_service(&self, name: &str) {
        let text = format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  ports: [{{name: http, port: 80}}]\n  versions:\n  - name: v1\n    instances: [{{address: 127.0.0.1}}]\n"
        );
        std::fs::write(self.0.path().join("services").join(format!("{name}.yaml")), text).unwrap();
    }

    pub(crate) fn member_settings(&self, name: &str, role: MemberRole) -> member::Settings {
        let name: Name = name.parse().unwrap();
        let east_west = "127.0.0.1:7445".parse().ok();
        let addresses = GatewayAddresses { name: name.clone(), east_west, public: None, mesh: None };
        member::Settings {
            token_file: self.agent_dir().join("member.token"),
            state_dir: self.0.path().join(name.as_str()),
            name,
            role,
            addresses: (role == MemberRole::Gateway).then_some(addresses),
        }
    }
}

/// A task that ends with its owner.
pub(crate) struct Running(CancellationToken, JoinHandle<()>);

impl Running {
    pub(crate) async fn stop(self) {
        self.0.cancel();
        tokio::time::timeout(PATIENCE, self.1).await.expect("it did not stop").unwrap();
    }
}

pub(crate) fn run_agent(agent: Agent) -> (Arc<Agent>, Running) {
    let (agent, shutdown) = (Arc::new(agent), CancellationToken::new());
    let (running, token) = (agent.clone(), shutdown.clone());
    let task = tokio::spawn(async move { running.run(token).await.unwrap() });
    (agent, Running(shutdown, task))
}

pub(crate) struct TestMember {
    pub(crate) followed: watch::Receiver<Option<Arc<Followed>>>,
    pub(crate) identities: watch::Receiver<Arc<Identities>>,
    pub(crate) ack: watch::Sender<Ack>,
    needs: watch::Sender<Arc<Needs>>,
    pub(crate) running: Running,
}

pub(crate) fn run_member(member: Member) -> TestMember {
    let (followed, identities) = (member.followed(), member.identities());
    let (ack, needs, shutdown) = (watch::Sender::default(), watch::Sender::default(), CancellationToken::new());
    let (standing, leave) = (watch::Sender::new(Standing::Here), shutdown.clone());
    let run = member.run(needs.subscribe(), ack.subscribe(), standing.subscribe());
    let leaving = async move {
        leave.cancelled().await;
        standing.send_replace(Standing::Leaving);
        std::future::pending::<()>().await
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = run => {}
            () = leaving => {}
        }
    });
    TestMember { followed, identities, ack, needs, running: Running(shutdown, task) }
}

fn knows(followed: &Option<Arc<Followed>>, key: &str) -> bool {
    followed.as_ref().is_some_and(|followed| followed.world.facts.contains_key(key))
}

impl TestMember {
    pub(crate) async fn until_it_knows(&mut self, key: &str) {
        until(&mut self.followed, |followed| knows(followed, key)).await;
    }

    /// As the gateway does: what is in the world needs an identity.
    pub(crate) async fn until_it_has_an_identity(&mut self) {
        let north: Name = "north".parse().unwrap();
        let followed = self.followed.borrow().clone().unwrap();
        let Some(config::world::Fact::Trust(trust)) = followed.world.facts.get("trust/shop") else {
            panic!("no trust")
        };
        let need = Need::of_trust(trust, &north).unwrap();
        self.needs.send_replace(Arc::new([(trust.global_namespace.clone(), need)].into()));
        until(&mut self.identities, |identities| identities.contains_key("shop")).await;
    }
}

pub(crate) async fn joined(fake: &Arc<Fake>, place: &Place) -> (CancellationToken, Arc<Agent>, Running) {
    let (address, controller) = fake.serve("127.0.0.1:0").await;
    let agent = Agent::build(place.settings(Some(fake.token(address).to_string()))).await.unwrap();
    let (agent, running) = run_agent(agent);
    (controller, agent, running)
}

fn damage(path: &Path) {
    let mut text = std::fs::read(path).unwrap();
    text[10] ^= 1;
    std::fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_anywhere_is_known_everywhere() {
    let (fake, place) = (Fake::new(), Place::new());
    place.write_service("cart");
    let (_controller, agent, _running) = joined(&fake, &place).await;
    until(&mut fake.seen.subscribe(), |seen| seen.contains_key("Service/north/shop/cart")).await;
    assert_eq!((agent.cluster().as_str(), agent.mesh()), ("north", "mesh.example"));

    let settings = place.member_settings("gw1", MemberRole::Gateway);
    let mut gateway = loop {
        // The gateway may be there before the agent knows a world: it waits.
        if let Ok(member) = Member::build(settings.clone()) {
            break run_member(member);
        }
    };
    gateway.until_it_knows("Cluster/north").await;
    gateway.until_it_knows("Service/north/shop/cart").await;
    let followed = gateway.followed.borrow().clone().unwrap();
    assert_eq!(followed.secrets.0.keys().collect::<Vec<_>>(), [&fake.reference()], "a wrong secret was passed on");
    assert_eq!(followed.world.revision.global, 1);
    until(&mut fake.seen.subscribe(), |seen| seen.contains_key("gateways/north")).await;

    // A change from above, and one from the cluster.
    fake.publish(2, "south");
    gateway.until_it_knows("Cluster/south").await;
    assert!(!knows(&gateway.followed.borrow(), "Cluster/north"));
    place.write_service("web");
    gateway.until_it_knows("Service/north/shop/web").await;

    let at = RevisionPair { global: 2, ..RevisionPair::default() };
    gateway.ack.send_replace(Ack { at, ..Ack::default() });
    let acknowledged = |ack: &Ack| ack.members.iter().any(|member| member.at == at && member.connected);
    until(&mut fake.ack.subscribe(), acknowledged).await;

    gateway.until_it_has_an_identity().await;
    let identity = gateway.identities.borrow()["shop"].value.clone();
    assert_eq!(identity.id().to_string(), "spiffe://shop.mesh.example/cluster/north/gateway/gw1");
    assert_eq!(identity.keyed().facts().dns_names, [LABEL, "*.shop.internal"]);
    assert_eq!(identity.keyed().chain().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_goes_on_when_others_are_gone() {
    let (fake, place) = (Fake::new(), Place::new());
    let (controller, _, agent) = joined(&fake, &place).await;
    let settings = place.member_settings("gw1", MemberRole::Gateway);
    let mut gateway = run_member(Member::build(settings.clone()).unwrap());
    gateway.until_it_knows("Cluster/north").await;
    gateway.until_it_has_an_identity().await;

    // No controller: what happens in the cluster still takes effect.
    controller.cancel();
    place.write_service("cart");
    gateway.until_it_knows("Service/north/shop/cart").await;

    // No controller, and a new agent: it serves from disk, and the gateway finds it at its new address.
    agent.stop().await;
    let (restarted, agent) = run_agent(Agent::build(place.settings(None)).await.unwrap());
    place.write_service("web");
    gateway.until_it_knows("Service/north/shop/web").await;
    assert!(restarted.ready());
    assert!(knows(&gateway.followed.borrow(), "Cluster/north"));

    // Nobody at all: a new gateway has all that it needs at once.
    tokio::time::sleep(Duration::from_millis(500)).await; // the cache writes at its own pace
    agent.stop().await;
    gateway.running.stop().await;
    let member = Member::build(settings).unwrap();
    let followed = member.followed().borrow().clone().unwrap();
    assert!(knows(&Some(followed.clone()), "Service/north/shop/web"));
    assert_eq!(followed.secrets.0.len(), 1);
    assert_eq!(member.identities().borrow().len(), 1);
    assert_eq!(member.cluster().as_str(), "north");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stops_is_forgotten_at_once() {
    let (fake, place) = (Fake::new(), Place::new());
    let (_controller, _, _agent) = joined(&fake, &place).await;
    let mut gateway = run_member(Member::build(place.member_settings("gw1", MemberRole::Gateway)).unwrap());
    gateway.until_it_knows("Cluster/north").await;
    until(&mut fake.seen.subscribe(), |seen| seen.contains_key("gateways/north")).await;
    until(&mut fake.ack.subscribe(), |ack| ack.members.len() == 1).await;
    gateway.running.stop().await;
    let soon = Duration::from_secs(1);
    let (mut seen, mut ack) = (fake.seen.subscribe(), fake.ack.subscribe());
    let forgotten = async {
        until(&mut seen, |seen| !seen.contains_key("gateways/north")).await;
        until(&mut ack, |ack| ack.members.is_empty()).await;
    };
    tokio::time::timeout(soon, forgotten).await.expect("the agent did not hear that the member leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_comes_back_is_found_and_its_world_replaces_the_old() {
    let (fake, place) = (Fake::new(), Place::new());
    let (address, controller) = fake.serve("127.0.0.1:0").await;
    let agent = Agent::build(place.settings(Some(fake.token(address).to_string()))).await.unwrap();
    let (_agent, _running) = run_agent(agent);
    let mut dns = run_member(Member::build(place.member_settings("dns1", MemberRole::Dns)).unwrap());
    dns.until_it_knows("Cluster/north").await;
    controller.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(knows(&dns.followed.borrow(), "Cluster/north"));
    fake.publish(5, "west");
    let mut served = None;
    for _ in 0..50 {
        match tokio::net::TcpListener::bind(address).await {
            Ok(free) => {
                drop(free);
                served = Some(fake.serve(&address.to_string()).await);
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    assert!(served.is_some());
    dns.until_it_knows("Cluster/west").await;
    assert!(!knows(&dns.followed.borrow(), "Cluster/north"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_forgot_takes_nothing_from_its_members() {
    let (fake, place) = (Fake::new(), Place::new());
    let (controller, _, agent) = joined(&fake, &place).await;
    let mut gateway = run_member(Member::build(place.member_settings("gw1", MemberRole::Gateway)).unwrap());
    gateway.until_it_knows("Cluster/north").await;
    tokio::time::sleep(Duration::from_millis(500)).await; // the cache writes at its own pace
    controller.cancel();
    agent.stop().await;
    let world = place.agent_dir().join("world.json");
    damage(&world);

    let (agent, _running) = run_agent(Agent::build(place.settings(None)).await.unwrap());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!agent.ready());
    assert!(world.with_extension("json.damaged").exists() && !world.exists());
    assert!(knows(&gateway.followed.borrow(), "Cluster/north"));
}
