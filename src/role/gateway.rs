//! `tombolo gateway`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use config::explain::Question;
use config::resource::Name;
use config::resource::cluster::Cidr;
use config::wire::{Ack, CertificateReport, MemberRole, Order, TrustReport};
use controller::member::Identities;
use gateway::listener::sockets::Listening;
use gateway::runtime::{Believed, End, Handle};
use gateway::settings::AccessLog;
use gateway::takeover::{self, Claim, Offer, Place};
use gateway::{Gateway, Inputs, Settings};
use prometheus::Registry;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::bounds::Bounds;
use super::expiry;
use super::limits;
use super::member::{self, Following};
use crate::admin::Admin;
use crate::lifeline;

mod health;

/// Where successors find a running gateway, in its state directory.
const TAKEOVER: &str = "takeover.sock";
/// Why a successor ends that is asked to stop.
const TOO_EARLY: &str = "asked to stop before it took over: the running gateway goes on";
/// After an error of the admin port.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A gateway's flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    #[command(flatten)]
    pub member: member::MemberArgs,
    /// The address on which it listens, for everyone: the public, workloads and peer gateways.
    #[arg(long, value_name = "IP")]
    pub address: IpAddr,
    /// The port for public HTTP; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub http_port: u16,
    /// The port for public HTTPS; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub https_port: u16,
    /// The port for tunnels from other clusters; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 7445)]
    pub east_west_port: u16,
    /// The port for metrics and health, on the same address; for the cluster's inside only.
    #[arg(long, value_name = "PORT", default_value_t = 7470)]
    pub admin_port: u16,
    /// Do not listen on the services' own ports for this cluster's workloads.
    #[arg(long)]
    pub no_mesh: bool,
    /// Connections to the public ports from these networks begin with a PROXY header, version 1 or 2, which says who
    /// called; one that doesn't is closed.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub proxy_protocol_from: Vec<Cidr>,
    /// Where the access log goes: `off`, `-` for standard output, or a file.
    #[arg(long, value_name = "WHERE", default_value = "-")]
    pub access_log: String,
    #[command(flatten)]
    pub limits: limits::LimitArgs,
    /// How long new connections are still taken after SIGTERM, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub drain_wait: u64,
    /// How long requests may still run after that, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_timeout: u64,
    /// Take the sockets over from the gateway that runs with the same state directory, and let it drain; without one, just
    /// start.
    #[arg(long)]
    pub takeover: bool,
    #[command(flatten)]
    pub bounds: Bounds,
}

impl Args {
    fn settings(&self) -> Settings {
        let at = |port: u16| (port != 0).then(|| SocketAddr::new(self.address, port));
        let access_log = match self.access_log.as_str() {
            "off" => AccessLog::Off,
            "-" => AccessLog::Stdout,
            file => AccessLog::File(PathBuf::from(file)),
        };
        Settings {
            name: self.member.name.clone(),
            http: at(self.http_port),
            https: at(self.https_port),
            east_west: at(self.east_west_port),
            mesh: (!self.no_mesh).then_some(self.address),
            proxy_protocol_from: self.proxy_protocol_from.clone(),
            access_log,
            limits: self.limits.limits(),
            trusted_hops: self.limits.trusted_hops.clone(),
            drain_wait: Duration::from_secs(self.drain_wait),
            drain_timeout: Duration::from_secs(self.drain_timeout),
            max_age: self.bounds.max_age(),
            connections: self.bounds.connections(),
            overload: self.bounds.overload(),
            workers: self.bounds.workers(),
        }
    }
}

/// Runs a gateway until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    serve(args, lifeline::stop_token()?).await
}

/// Runs a gateway until told to stop, or until a successor has taken over.
pub async fn serve(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = args.settings();
    let path = args.member.state.join(TAKEOVER);
    let claimed = match args.takeover {
        true => takeover::claim(&path, &args.member.name).await.context("nothing was taken over")?,
        false => None,
    };
    if args.takeover && claimed.is_none() {
        tracing::info!("no gateway runs here that could be taken over: starting as the first");
    }
    let (claim, sockets) = claimed.unzip();
    let registry = Registry::new();
    let following = member::follow(args.member, MemberRole::Gateway, Some(settings.addresses()))?;
    let inputs = Inputs {
        snapshot: following.snapshot.clone(),
        secrets: following.secrets.clone(),
        identities: following.identities.clone(),
    };
    let name = settings.name.clone();
    let gateway = Gateway::build(settings, inputs, sockets.unwrap_or_default(), &registry)?;
    let handle = gateway.handle();
    let asked = handle.clone();
    following.answer_by(Box::new(move |question| {
        let asked = asked.clone();
        Box::pin(async move { asked.explain(question).await })
    }));
    let told = following.ack.subscribe();
    expiry::register(&registry, move || expiry::of_holder(&told.borrow().trust, "leaf"))?;
    let _admin = open_admin(SocketAddr::new(args.address, args.admin_port), registry, &handle)?;
    following.begin();
    let (offer, place) = offer(&path, name, &following).unzip();
    let telling = Telling { handle: handle.clone(), held: following.held.clone(), own: following.own.clone() };
    tokio::spawn(telling.acknowledge(following.ack.clone()));
    tracing::info!(cluster = %following.place.cluster, address = %args.address, "the gateway is up");
    let claims = claim.is_some();
    let mut running = pin!(gateway.run(stop.clone(), offer));
    let begun = tokio::select! {
        biased;
        // Who is asked to stop now must neither drain nor take over first: the running gateway goes on.
        () = stop.cancelled(), if claims => Err(anyhow::Error::msg(TOO_EARLY)),
        begun = begin(claim, &handle, place) => begun.map(|()| None),
        end = &mut running => Ok(Some(end)),
    };
    let end = match begun {
        Ok(Some(end)) => end,
        Ok(None) => running.await,
        Err(error) => {
            // The agent must not take this end for that of the gateway which goes on.
            following.give_way().await;
            return Err(error);
        }
    };
    // Only now: certificates and endpoints still change while requests end.
    match end {
        End::Stopped => following.leave().await,
        End::Succeeded => following.give_way().await,
    }
    Ok(())
}

/// From now on successors find this gateway; if it is one itself, once it is in the place of its predecessor.
async fn begin(claim: Option<Claim>, handle: &Handle, place: Option<Place>) -> anyhow::Result<()> {
    match (claim, place) {
        (Some(claim), place) => claim.complete(handle, place).await.context("nothing was taken over"),
        (None, Some(place)) => place.take().context("successors will not find this gateway"),
        (None, None) => Ok(()),
    }
}

/// Without it a gateway serves as well, but cannot be taken over.
fn offer(path: &Path, name: Name, following: &Following) -> Option<(Offer, Place)> {
    let offered = Offer::open(path, name, Box::new(following.aside()));
    offered
        .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "this gateway cannot be taken over"))
        .ok()
}

fn open_admin(at: SocketAddr, registry: Registry, handle: &Handle) -> anyhow::Result<DropGuard> {
    let listening = handle.sockets().open(at, "admin requests")?;
    let ready = handle.clone();
    let admin = Admin::on(AdminSocket(listening), registry, Arc::new(move || ready.ready()));
    let stop = CancellationToken::new();
    admin.with(health::routes(handle.clone())).with(explain_routes(handle.clone())).spawn(stop.clone());
    Ok(stop.drop_guard())
}

/// The admin port goes over to a successor as all others do.
struct AdminSocket(Listening);

impl axum::serve::Listener for AdminSocket {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::debug!(%error, "an admin connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// What the agent is told.
struct Telling {
    handle: Handle,
    held: watch::Receiver<Arc<Identities>>,
    own: watch::Receiver<Option<TrustReport>>,
}

impl Telling {
    /// Tells the agent what is acted on, whom one believes, and how peers are.
    async fn acknowledge(mut self, ack: watch::Sender<Ack>) {
        let (mut plans, mut changes) = (self.handle.plans(), self.handle.changes());
        loop {
            let newest = self.ack(&ack.borrow().trust);
            ack.send_if_modified(|said| (*said != newest).then(|| *said = newest).is_some());
            let more = tokio::select! {
                plan = plans.changed() => plan.is_some(),
                changed = changes.changed() => changed.is_ok(),
                changed = self.own.changed() => changed.is_ok(),
            };
            if !more {
                return;
            }
        }
    }

    fn ack(&mut self, said: &[TrustReport]) -> Ack {
        let held = self.held.borrow().clone();
        let own = self.own.borrow_and_update().clone();
        let shown = self.handle.trust().into_iter().map(|believed| trust(believed, &held, said));
        Ack {
            at: self.handle.revision(),
            rejected: self.handle.rejected(),
            draining: self.handle.is_draining(),
            peers: self.handle.peers().into(),
            trust: own.into_iter().chain(shown).collect(),
            ..Ack::default()
        }
    }
}

/// What the plan shows of a GNS, which may still be the certificate before the newest that is held.
fn trust(believed: Believed, held: &Identities, said: &[TrustReport]) -> TrustReport {
    let Believed { global_namespace, roots, serial } = believed;
    let Some(serial) = serial else {
        return TrustReport {
            global_namespace: Some(global_namespace),
            roots,
            certificate: None,
            workloads: vec![],
            visitors: vec![],
        };
    };
    let newest = held.get(&global_namespace).map(|holding| holding.report());
    let before = said.iter().filter(|said| said.global_namespace.as_ref() == Some(&global_namespace));
    let known = newest.into_iter().chain(before.filter_map(|said| said.certificate.as_ref()));
    let certificate = known.into_iter().find(|known| known.serial == serial).cloned();
    // One of which nothing is known any more counts as of no order: as something that has yet to be replaced.
    let unknown = || newest.map(|newest| CertificateReport { serial, order: Order::default(), ..newest.clone() });
    let certificate = certificate.or_else(unknown);
    TrustReport { certificate, global_namespace: Some(global_namespace), roots, workloads: vec![], visitors: vec![] }
}

/// So many questions at once are answered on the admin port: each has the gateway try its peers and instances.
const MOST_QUESTIONS: usize = 4;

/// `/v1/explain`.
fn explain_routes(handle: Handle) -> Router {
    Router::new().route("/v1/explain", post(explain).with_state(Asking::new(handle)))
}

/// Who is asked on the admin port.
#[derive(Clone)]
struct Asking {
    handle: Handle,
    room: Arc<Semaphore>,
}

impl Asking {
    fn new(handle: Handle) -> Self {
        Asking { handle, room: Arc::new(Semaphore::new(MOST_QUESTIONS)) }
    }
}

/// `/v1/explain`: what becomes of a request, by this gateway alone; for when the agent or the controller is away.
async fn explain(State(Asking { handle, room }): State<Asking>, Json(question): Json<Question>) -> Response {
    let Ok(_place) = room.try_acquire() else {
        return (StatusCode::TOO_MANY_REQUESTS, "it is asked too much at once: try again\n").into_response();
    };
    Json(handle.explain(question).await).into_response()
}
