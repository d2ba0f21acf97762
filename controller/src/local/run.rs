//! The agent's tasks, and the channels between them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::routing::MethodRouter;
use config::resource::{Address, Name};
use config::wire::{Ack, Hello, MemberRole, PROTOCOL, Rejection, TrustReport};
use config::world::{Fact, MeshTrust};
use identity::ca::IssuingCa;
use identity::pem::encode_certificates;
use identity::{RoleKind, Trust};
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::control::{ControlKeeper, ControlView};
use super::office::{self, Office};
use super::report::{Holding, Reporting, Seeing};
use super::roster::Roster;
use super::services::{self, Services, Sighting};
use super::source::{LocalSource, merge, names};
use super::standing::{Standings, Visited, needs, revoked_gateways, standings, visited};
use super::workloads::{self, Signer, Territory};
use super::{Agent, AgentError, Parts, admission, asking, server_tls};
use crate::http::client::Client;
use crate::http::failures::Failures;
use crate::http::server;
use crate::http::token::Token;
use crate::member::credential::{Credential, Keeper, Wanted};
use crate::member::holdings::{Holdings, Needs};
use crate::sync::client::{Follower, Seen, follow};
use crate::sync::reading::Reading;
use crate::sync::relay::Answerer;
use crate::sync::{self, Published};

/// Runs the agent until `shutdown`.
pub(super) async fn run(agent: &Agent, mut parts: Parts, shutdown: CancellationToken) -> Result<(), AgentError> {
    let sightings = watch::Sender::new(Arc::new(first_sighting(&mut parts.services)));
    let (roster, cluster) = (parts.roster.clone(), agent.cluster.clone());
    let mut seeing = Seeing { cluster, roster, sightings: sightings.subscribe() };
    let (seen, ack) = (watch::Sender::new(Arc::new(seeing.first(parts.incarnation))), agent.ack.clone());
    let world = watch::Sender::new(parts.cache.load().map(Arc::new));
    let mut projection = Projection::new(agent, parts.control_view.subscribe(), world.subscribe(), seen.subscribe());
    projection.project(); // before anybody can ask
    let own = watch::Sender::new(Some(parts.credential.report()));
    let holding = Holding {
        own: own.subscribe(),
        standings: projection.standings.subscribe(),
        issuing: parts.issuing.subscribe(),
        visited: projection.visited.subscribe(),
        workloads: parts.ledger.subscribe(),
        control: parts.control_view.subscribe(),
    };
    let reporting = projection.reporting(parts.roster.clone(), sightings.subscribe(), holding);
    let bouncer = Bouncer { roster: parts.roster.clone(), certificates: parts.certificates.clone() };
    bouncer.shut_out(&projection.standings.borrow());
    let expelling = bouncer.follow(projection.standings.subscribe());
    let door = Door::new(agent, &projection, &parts, shutdown)?;
    let signer = Signer {
        cluster: agent.cluster.clone(),
        seen: seen.subscribe(),
        territory: projection.territory.subscribe(),
        standings: projection.standings.subscribe(),
        issuing: parts.issuing.subscribe(),
    };
    let failures = Arc::new(Failures::default());
    let desk = workloads::Desk {
        signer: signer.clone(),
        secret: parts.token.secret.clone(),
        failures: Arc::clone(&failures),
        audit: Arc::clone(&parts.audit),
        ledger: Arc::clone(&parts.ledger),
    };
    let control = ControlKeeper {
        control: parts.control,
        token: parts.token.clone(),
        token_file: agent.member_token_file(),
        certificates: Arc::clone(&parts.certificates),
        roster: Arc::clone(&parts.roster),
        audit: Arc::clone(&parts.audit),
        wanted: projection.wanted.subscribe(),
        view: parts.control_view,
    };
    let office = Office {
        failures,
        audit: Arc::clone(&parts.audit),
        cluster: agent.cluster.clone(),
        mesh: agent.mesh.clone(),
        control: control.view.subscribe(),
        certificates: parts.certificates,
        secret: parts.token.secret.clone(),
        roster: Arc::clone(&parts.roster),
        standings: projection.standings.subscribe(),
        issuing: parts.issuing.subscribe(),
        member_turn: projection.member_turn.subscribe(),
    };
    let uplink = Uplink {
        hello: hello(&agent.cluster, parts.incarnation),
        credential_path: admission::credential_path(&agent.state_dir),
        credential: parts.credential,
        controller: parts.controller,
        issuing: parts.issuing,
        needs: projection.needs.subscribe(),
        wanted: projection.wanted.subscribe(),
        own,
        answerer: asking::answerer(Arc::clone(&parts.roster)),
    };
    tracing::info!(cluster = %agent.cluster, address = %agent.address, "agent running");
    tokio::select! {
        served = door.open(parts.listener, Arc::new(office), Arc::new(desk), &parts.token) => served,
        done = workloads::run(parts.workloads, parts.workload_socket, signer, parts.audit, parts.ledger) => Ok(done?),
        held = uplink.hold(world.clone(), seen.subscribe(), ack.subscribe()) => held,
        () = parts.roster.keep() => Ok(()),
        () = parts.cache.keep(world.subscribe()) => Ok(()),
        () = follow_services(parts.services, sightings) => Ok(()),
        () = seeing.watch(seen) => Ok(()),
        () = projection.run() => Ok(()),
        () = control.keep() => Ok(()),
        () = reporting.report(ack) => Ok(()),
        () = expelling => Ok(()),
    }
}

/// Keeps out the members that the controller has revoked.
struct Bouncer {
    roster: Arc<Roster>,
    certificates: Arc<Certificates>,
}

impl Bouncer {
    /// First no more of them comes in, then those that are in go.
    fn shut_out(&self, standings: &Standings) {
        let revoked = revoked_gateways(standings);
        self.certificates.shut_out(revoked.clone());
        self.roster.expel(&revoked);
    }

    async fn follow(self, mut standings: watch::Receiver<Arc<Standings>>) {
        while standings.changed().await.is_ok() {
            let now = standings.borrow_and_update().clone();
            self.shut_out(&now);
        }
    }
}

/// Where members come in.
struct Door {
    address: SocketAddr,
    tls: watch::Sender<Arc<ServerConfig>>,
    due: OffsetDateTime,
    source: Arc<LocalSource>,
    shutdown: CancellationToken,
}

impl Door {
    fn new(
        agent: &Agent,
        projection: &Projection<'_>,
        parts: &Parts,
        shutdown: CancellationToken,
    ) -> Result<Self, AgentError> {
        let (config, due) =
            server_tls::server_tls(&parts.control_view.borrow(), &parts.token, parts.certificates.clone())?;
        let source = Arc::new(LocalSource {
            mesh: agent.mesh.to_string(),
            roster: parts.roster.clone(),
            certificates: parts.certificates.clone(),
            known: agent.known.subscribe(),
            feed: projection.feed.subscribe(),
            names: projection.names.subscribe(),
            shutdown: shutdown.clone(),
        });
        Ok(Door { address: agent.address, tls: watch::Sender::new(Arc::new(config)), due, source, shutdown })
    }

    async fn open(
        self,
        listener: std::net::TcpListener,
        office: Arc<Office>,
        desk: Arc<workloads::Desk>,
        token: &Token,
    ) -> Result<(), AgentError> {
        let listener = TcpListener::from_std(listener).map_err(|e| AgentError::Listen(self.address, e))?;
        let stream: MethodRouter = sync::server::handler(self.source);
        let trust: Arc<dyn Trust> = office.certificates.clone();
        let router = office::router(office.clone()).merge(workloads::router(desk)).route(sync::PATH, stream);
        tokio::select! {
            () = server::serve(listener, self.tls.subscribe(), router, self.shutdown) => Ok(()),
            never = server_tls::keep_fresh(office.control.clone(), token, &trust, self.due, &self.tls) => match never {},
        }
    }
}

/// The way to the controller.
struct Uplink {
    hello: Hello,
    credential_path: PathBuf,
    credential: Credential,
    controller: Address,
    issuing: Holdings<IssuingCa>,
    needs: watch::Receiver<Arc<Needs>>,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    own: watch::Sender<Option<TrustReport>>,
    answerer: Answerer,
}

impl Uplink {
    async fn hold(
        self,
        world: watch::Sender<Option<Arc<Published>>>,
        seen: watch::Receiver<Arc<Seen>>,
        ack: watch::Receiver<Ack>,
    ) -> Result<(), AgentError> {
        let tls = watch::Sender::new(Arc::new(self.credential.client_tls(RoleKind::Controller)?));
        let client = Client::new(self.controller, tls.subscribe());
        let answerer = Some(self.answerer);
        let follower = Follower { client: client.clone(), hello: self.hello, seen: Some(seen), ack, answerer };
        let renewal = async {
            let (path, server) = (&*self.credential_path, RoleKind::Controller);
            let keeper = Keeper { path, server, client: &client, tls: &tls, told: &self.own };
            keeper.keep_fresh(self.credential, self.wanted).await;
            tracing::error!("the agent's certificate has expired: join anew with --replace; members are still served");
            std::future::pending().await
        };
        tokio::select! {
            () = follow(follower, world, CancellationToken::new()) => Ok(()),
            () = self.issuing.keep_fresh(&client, self.needs) => Ok(()),
            never = renewal => never,
        }
    }
}

fn first_sighting(services: &mut Option<Services>) -> Sighting {
    services.as_mut().map(Services::scan).unwrap_or_default()
}

async fn follow_services(services: Option<Services>, sightings: watch::Sender<Arc<Sighting>>) {
    match services {
        Some(services) => services::watch(Arc::new(Mutex::new(services)), sightings).await,
        None => std::future::pending().await,
    }
}

fn hello(cluster: &Name, incarnation: u64) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        features: vec![],
        name: cluster.clone(),
        boot: format!("{incarnation:016x}"),
        role: MemberRole::Agent,
        addresses: None,
    }
}

/// From the controller's world and what the agent sees: what members follow, and what the agent itself needs to know.
struct Projection<'a> {
    agent: &'a Agent,
    control: watch::Receiver<Arc<ControlView>>,
    world: watch::Receiver<Option<Arc<Published>>>,
    seen: watch::Receiver<Arc<Seen>>,
    reading: Reading,
    /// Whether the newest world has been read.
    is_read: bool,
    feed: watch::Sender<Arc<Published>>,
    names: watch::Sender<Arc<Published>>,
    standings: watch::Sender<Arc<Standings>>,
    visited: watch::Sender<Arc<Visited>>,
    territory: watch::Sender<Arc<Territory>>,
    needs: watch::Sender<Arc<Needs>>,
    /// Whether the world is what the controller said in this life, rather than what the disk remembers.
    heard: bool,
    /// What the agent itself is to hold.
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    /// How often members' own certificates were ordered anew.
    member_turn: watch::Sender<u64>,
    unread: watch::Sender<Arc<Vec<Rejection>>>,
}

impl<'a> Projection<'a> {
    fn new(
        agent: &'a Agent,
        control: watch::Receiver<Arc<ControlView>>,
        world: watch::Receiver<Option<Arc<Published>>>,
        seen: watch::Receiver<Arc<Seen>>,
    ) -> Self {
        Projection {
            agent,
            control,
            world,
            seen,
            reading: Reading::default(),
            is_read: false,
            feed: watch::Sender::default(),
            names: watch::Sender::default(),
            standings: watch::Sender::default(),
            visited: watch::Sender::default(),
            territory: watch::Sender::default(),
            needs: watch::Sender::default(),
            heard: false,
            wanted: watch::Sender::default(),
            member_turn: watch::Sender::default(),
            unread: watch::Sender::default(),
        }
    }

    fn reporting(&self, roster: Arc<Roster>, sightings: watch::Receiver<Arc<Sighting>>, holding: Holding) -> Reporting {
        Reporting { roster, sightings, holding, feed: self.feed.subscribe(), unread: self.unread.subscribe() }
    }

    async fn run(mut self) {
        loop {
            tokio::select! {
                Ok(()) = self.world.changed() => (self.heard, self.is_read) = (true, false),
                Ok(()) = self.seen.changed() => {}
                Ok(()) = self.control.changed() => {}
                else => return,
            }
            self.project();
        }
    }

    fn project(&mut self) {
        let world = self.newest_world();
        let seen = self.seen.borrow_and_update().clone();
        let Some(world) = world else { return };
        // What the agent sees changes far more often than what it is told, and is no part of this.
        if !std::mem::replace(&mut self.is_read, true) {
            self.read(&world);
        }
        let turn = *self.member_turn.borrow();
        let trust = trust(&self.control.borrow_and_update(), turn);
        let merged = merge(&self.agent.cluster, &world, &seen, trust);
        self.names.send_replace(Arc::new(names(&merged)));
        self.feed.send_replace(Arc::new(merged));
        self.agent.known.send_replace(true);
    }

    /// The controller's world; one that came since anybody waited for it is noted, for nobody will wait for it again.
    fn newest_world(&mut self) -> Option<Arc<Published>> {
        let world = self.world.borrow_and_update();
        if world.has_changed() {
            (self.heard, self.is_read) = (true, false);
        }
        world.clone()
    }

    /// What the agent itself must know of the controller's world.
    fn read(&mut self, world: &Published) {
        self.reading.read(world);
        let wanted = Wanted::of(self.reading.world());
        // Members renew whenever the agent shall.
        self.member_turn.send_replace(wanted.as_deref().map_or(0, |wanted| wanted.order.leaf));
        if self.heard {
            self.wanted.send_if_modified(|last| (*last != wanted).then(|| *last = wanted).is_some());
        }
        self.unread.send_replace(Arc::new(self.reading.rejected()));
        let standings = standings(self.reading.world(), &self.agent.cluster);
        send_if_new(&self.territory, Territory::of(self.reading.world()));
        send_if_new(&self.visited, visited(self.reading.world(), &standings));
        self.needs.send_replace(Arc::new(needs(&standings)));
        self.standings.send_replace(Arc::new(standings));
    }
}

/// Most changes of the world change nothing here.
fn send_if_new<T: PartialEq>(sender: &watch::Sender<Arc<T>>, new: T) {
    sender.send_if_modified(|last| {
        let changed = **last != new;
        if changed {
            *last = Arc::new(new);
        }
        changed
    });
}

/// The cluster control CA, as members are told of it.
fn trust(control: &ControlView, turn: u64) -> Fact {
    let roots = control.roots.iter().map(|root| encode_certificates([root])).collect();
    Fact::Mesh(Arc::new(MeshTrust { roots, order: control.order(turn) }))
}
