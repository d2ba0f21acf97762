//! `tombolo gateway`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use config::resource::GatewayAddresses;
use config::resource::cluster::Cidr;
use config::wire::{Ack, MemberRole};
use futures_util::stream;
use gateway::runtime::Handle;
use gateway::settings::AccessLog;
use gateway::{Gateway, Inputs, Settings};
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::member;
use crate::admin::Admin;
use crate::lifeline;

/// From one line of the health stream to the next, at the most.
const BEAT: Duration = Duration::from_millis(500);

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
    /// How long new connections are still taken after SIGTERM, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub drain_wait: u64,
    /// How long requests may still run after that, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_timeout: u64,
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
            drain_wait: Duration::from_secs(self.drain_wait),
            drain_timeout: Duration::from_secs(self.drain_timeout),
        }
    }
}

/// Runs a gateway until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    serve(args, lifeline::stop_token()?).await
}

/// Runs a gateway until told to stop.
pub async fn serve(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = args.settings();
    let registry = Registry::new();
    let addresses: GatewayAddresses = settings.addresses();
    let following = member::follow(args.member, MemberRole::Gateway, Some(addresses))?;
    let inputs = Inputs {
        snapshot: following.snapshot.clone(),
        secrets: following.secrets.clone(),
        identities: following.identities.clone(),
    };
    let gateway = Gateway::build(settings, inputs, &registry)?;
    let handle = gateway.handle();
    let ready = {
        let handle = handle.clone();
        std::sync::Arc::new(move || handle.ready())
    };
    let admin_at = SocketAddr::new(args.address, args.admin_port);
    let admin = Admin::bind(admin_at, registry, ready).await?.with(health_routes(handle.clone()));
    let admin_stop = CancellationToken::new();
    admin.spawn(admin_stop.clone());
    let _admin = admin_stop.drop_guard();
    tokio::spawn(acknowledge(handle, following.ack.clone()));
    tracing::info!(cluster = %following.place.cluster, address = %args.address, "the gateway is up");
    gateway.run(stop).await;
    // Only now: certificates and endpoints still change while requests end.
    following.leave().await;
    Ok(())
}

/// Tells the agent what is acted on, and how peers are.
async fn acknowledge(handle: Handle, ack: watch::Sender<Ack>) {
    let (mut plans, mut changes) = (handle.plans(), handle.changes());
    loop {
        let newest =
            Ack { at: handle.revision(), rejected: handle.rejected(), members: Vec::new(), peers: handle.peers() };
        ack.send_if_modified(|said| (*said != newest).then(|| *said = newest).is_some());
        let more = tokio::select! {
            plan = plans.changed() => plan.is_some(),
            changed = changes.changed() => changed.is_ok(),
        };
        if !more {
            return;
        }
    }
}

/// `/v1/health`: this gateway's view, once; `/v1/health/follow`: a line of JSON at each change, and an empty one as a
/// beat.
fn health_routes(handle: Handle) -> Router {
    let once = handle.clone();
    Router::new()
        .route("/v1/health", get(move || async move { axum::Json(once.view()) }))
        .route("/v1/health/follow", get(move || async move { Body::from_stream(lines(handle)) }))
}

fn lines(handle: Handle) -> impl stream::Stream<Item = Result<Bytes, serde_json::Error>> {
    let changes = handle.changes();
    stream::unfold((handle, changes, None), |(handle, mut changes, said)| async move {
        if said.is_some() && !matches!(tokio::time::timeout(BEAT, changes.changed()).await, Ok(Ok(())) | Err(_)) {
            return None;
        }
        let view = handle.view();
        let line = if said.as_ref() == Some(&view) { Ok(Bytes::from_static(b"\n")) } else { line_of(&view) };
        Some((line, (handle, changes, Some(view))))
    })
}

fn line_of(view: &gateway::view::View) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(view)?;
    line.push(b'\n');
    Ok(line.into())
}
