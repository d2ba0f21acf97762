//! `tombolo up`: all roles of a mesh of one cluster in one process, from a directory of manifests.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use config::manifest::{self, Defaults};
use config::resource::cluster::Cidr;
use config::resource::{Name, ResourceId, Spec};
use controller::global::{Apply, Controller, Handle};
use controller::local::Agent;
use notify::{RecursiveMode, Watcher};
use tokio_util::sync::CancellationToken;

use super::bounds::Bounds;
use super::{agent, controller as global, dns, gateway, limits, member};
use crate::command::files;
use crate::lifeline;

/// So long after the last change to a file the directory is read.
const SETTLE: Duration = Duration::from_millis(100);

/// The flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The manifests: a directory (followed), or a file.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    files: PathBuf,
    /// The state directory.
    #[arg(long, value_name = "DIR", default_value = "tombolo-state")]
    state: PathBuf,
    /// The name of the one cluster.
    #[arg(long, default_value = "local")]
    cluster: Name,
    /// The address on which everything listens.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,
    /// The port for public HTTP.
    #[arg(long, value_name = "PORT", default_value_t = 18080)]
    http_port: u16,
    /// The port for public HTTPS.
    #[arg(long, value_name = "PORT", default_value_t = 18443)]
    https_port: u16,
    /// The port of the controller's API.
    #[arg(long, value_name = "PORT", default_value_t = 7443)]
    api_port: u16,
    /// The port of the agent.
    #[arg(long, value_name = "PORT", default_value_t = 7444)]
    agent_port: u16,
    /// The port for tunnels; 0 for none, as one cluster has no peers.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    east_west_port: u16,
    /// The port for DNS.
    #[arg(long, value_name = "PORT", default_value_t = 5353)]
    dns_port: u16,
    /// The port for the gateway's metrics and health; the DNS server's is one above.
    #[arg(long, value_name = "PORT", default_value_t = 7470)]
    admin_port: u16,
    /// Connections to the public ports from these networks begin with a PROXY header, version 1 or 2, which says who
    /// called; one that doesn't is closed.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    proxy_protocol_from: Vec<Cidr>,
    /// Where the access log goes: `off`, `-` for standard output, or a file.
    #[arg(long, value_name = "WHERE", default_value = "-")]
    access_log: String,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    seal: global::SealArgs,
    #[command(flatten)]
    workloads: agent::WorkloadArgs,
    #[command(flatten)]
    limits: limits::LimitArgs,
    /// Where the admin's context is written.
    #[arg(long, value_name = "FILE", env = "TOMBOLO_CONTEXT")]
    context: Option<PathBuf>,
}

/// Runs everything until a signal, or until one part fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = lifeline::stop_token()?;
    let (services, others) = split(&args)?;
    let controller = start_controller(&args).await?;
    let handle = controller.handle();
    let mut tasks = tokio::task::JoinSet::new();
    let controlling = stop.clone();
    tasks.spawn(async move { controller.run(controlling).await.context("the controller") });
    apply(&handle, others).await?;
    let services_dir = args.state.join("services");
    write_services(&services_dir, &services)?;
    let agent = start_agent(&args, &handle, services_dir.clone()).await?;
    let token = agent.member_token_file();
    tasks.spawn(agent::serve(agent, stop.clone()));
    let member = |name: &str| -> anyhow::Result<member::MemberArgs> {
        Ok(member::MemberArgs { state: args.state.join(name), agent: token.clone(), name: name.parse()? })
    };
    tasks.spawn(gateway::serve(gateway_args(&args, member("gateway")?), stop.clone()));
    tasks.spawn(dns::serve(dns_args(&args, member("dns")?), stop.clone()));
    tasks.spawn(follow(args.clone(), handle, services_dir, stop.clone()));
    tell(&args);
    while let Some(done) = tasks.join_next().await {
        // One part's failure stops all: half a router helps nobody, and the reason must be seen.
        stop.cancel();
        done.context("a part of the process broke")??;
    }
    Ok(())
}

/// A manifest with the key that came in it, as it is sent on.
type Manifests = Vec<serde_json::Value>;

/// Services are what an agent discovers; everything else is desired state.
fn split(args: &Args) -> anyhow::Result<(Manifests, Manifests)> {
    let (mut services, mut others) = (Vec::new(), Vec::new());
    for manifest in read(&args.files, &args.cluster)? {
        match &manifest.resource.spec {
            Spec::Service(_) | Spec::Node(_) => {
                own(&manifest.resource.id, &args.cluster)?;
                services.push(manifest::to_manifest(&manifest.resource, None));
            }
            _ => others.push(manifest.to_upload()),
        }
    }
    Ok((services, others))
}

fn own(id: &ResourceId, cluster: &Name) -> anyhow::Result<()> {
    match id {
        ResourceId::Service { cluster: other, .. } | ResourceId::Node { cluster: other, .. } if other != cluster => {
            bail!(
                "{id} is of cluster {other}, and this is {cluster}: change metadata.cluster, or give --cluster {other}"
            )
        }
        _ => Ok(()),
    }
}

fn read(path: &Path, cluster: &Name) -> anyhow::Result<Vec<manifest::Manifest>> {
    let defaults = Defaults { cluster: Some(cluster.clone()), namespace: None };
    files::read(&[path.to_owned()], &defaults)?.map_err(|errors| {
        let lines = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
        anyhow::anyhow!("the manifests are wrong:\n  {lines}")
    })
}

async fn apply(handle: &Handle, manifests: Manifests) -> anyhow::Result<()> {
    let handle = handle.clone();
    let apply = Apply { manifests, managed_by: Some("file".to_owned()), prune: true, ..Apply::default() };
    tokio::task::spawn_blocking(move || handle.apply(apply)).await?.context("the manifests are refused")?;
    Ok(())
}

/// One file for each, written by rename, so that the agent never reads a half.
fn write_services(folder: &Path, services: &Manifests) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let text = services.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n");
    let (path, half) = (folder.join("services.yaml"), folder.join(".services.yaml.new"));
    std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, &path)).with_context(|| path.display().to_string())
}

async fn start_controller(args: &Args) -> anyhow::Result<Controller> {
    let listen = (args.address, args.api_port).into();
    let settings = global::settings(global::Args {
        state: args.state.join("controller"),
        listen,
        names: Vec::new(),
        mesh: "mesh.internal".to_owned(),
        context: args.context.clone(),
        admin: None,
        history: controller::store::HISTORY,
        seal: args.seal.clone(),
    })?;
    Ok(tokio::task::spawn_blocking(move || Controller::build(settings)).await??)
}

async fn start_agent(args: &Args, handle: &Handle, services: PathBuf) -> anyhow::Result<Arc<Agent>> {
    let state = args.state.join("agent");
    let (tokens, cluster) = (handle.clone(), args.cluster.clone());
    let joined = state.join("agent.pem").exists();
    let join = match joined {
        true => None,
        false => Some(tokio::task::spawn_blocking(move || tokens.create_token(&cluster)).await??.to_string()),
    };
    let args = agent::Args {
        state,
        listen: (args.address, args.agent_port).into(),
        advertise: None,
        services: Some(services),
        join,
        replace: false,
        labels: Vec::new(),
        controller: Some(handle.address().clone()),
        admin: None,
        workloads: args.workloads.clone(),
    };
    Ok(Arc::new(Agent::build(agent::settings(args)).await?))
}

fn gateway_args(args: &Args, member: member::MemberArgs) -> gateway::Args {
    gateway::Args {
        member,
        address: args.address,
        http_port: args.http_port,
        https_port: args.https_port,
        east_west_port: args.east_west_port,
        admin_port: args.admin_port,
        no_mesh: false,
        proxy_protocol_from: args.proxy_protocol_from.clone(),
        access_log: args.access_log.clone(),
        limits: args.limits.clone(),
        drain_wait: 0,
        drain_timeout: 30,
        takeover: false,
        bounds: args.bounds.clone(),
    }
}

fn dns_args(args: &Args, member: member::MemberArgs) -> dns::Args {
    dns::Args {
        member,
        listen: (args.address, args.dns_port).into(),
        admin: (args.address, args.admin_port.saturating_add(1)).into(),
        gateway_admin_port: args.admin_port,
    }
}

/// Reads the manifests again whenever a file changed. What is wrong is told, and the last good stays.
async fn follow(args: Args, handle: Handle, services_dir: PathBuf, stop: CancellationToken) -> anyhow::Result<()> {
    let (changed, mut changes) = tokio::sync::mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |_| _ = changed.try_send(()))?;
    watcher.watch(&args.files, RecursiveMode::NonRecursive)?;
    while let Some(Some(())) = stop.run_until_cancelled(changes.recv()).await {
        tokio::time::sleep(SETTLE).await;
        while changes.try_recv().is_ok() {}
        match reload(&args, &handle, &services_dir).await {
            Ok(()) => tracing::info!("the manifests were read again"),
            Err(error) => tracing::warn!("nothing was changed: {error:#}"),
        }
    }
    Ok(())
}

async fn reload(args: &Args, handle: &Handle, services_dir: &Path) -> anyhow::Result<()> {
    let (services, others) = split(args)?;
    apply(handle, others).await?;
    write_services(services_dir, &services)
}

fn tell(args: &Args) {
    let Args { address, https_port, http_port, dns_port, .. } = args;
    let ca = "tombolo ca > ca.pem";
    tracing::info!(
        "public HTTPS on {address}:{https_port}, HTTP on {address}:{http_port}, DNS on {address}:{dns_port}"
    );
    tracing::info!("the CA that signs selfSigned hosts: {ca}");
}
