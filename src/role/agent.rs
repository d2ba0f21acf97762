//! `tombolo agent` and `tombolo join`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use config::resource::Address;
use controller::local::{Agent, Settings};
use controller::workload::Declaration;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::expiry;
use crate::admin::Admin;
use crate::lifeline;

/// An agent's flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The agent's state directory: identity, issuing CAs, last good world.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where gateways and DNS servers of this cluster dial it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7444")]
    pub listen: SocketAddr,
    /// The address that members are told to dial, when it is another.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<Address>,
    /// The directory with the manifests of this cluster's services; changes are followed.
    #[arg(long, value_name = "DIR")]
    pub services: Option<PathBuf>,
    /// The token of `tombolo token create`, at the first start.
    #[arg(long, value_name = "TOKEN", env = "TOMBOLO_JOIN_TOKEN", hide_env_values = true)]
    pub join: Option<String>,
    /// Take the place of a cluster of this name that is in the mesh already.
    #[arg(long)]
    pub replace: bool,
    /// The cluster's labels, as `region=…` and `zone=…`.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// The controller's address, when it is another than the token says.
    #[arg(long, value_name = "HOST:PORT")]
    pub controller: Option<Address>,
    /// Where metrics and health are asked for.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    #[command(flatten)]
    pub workloads: WorkloadArgs,
}

/// Whose identities the agent keeps.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct WorkloadArgs {
    /// A workload of this machine: the service that processes of a user are instances of. With a directory its
    /// identity is kept there, too; without, it asks on the socket.
    #[arg(long = "workload", value_name = "[NAMESPACE/]SERVICE,uid=UID[,dir=DIR]")]
    pub workloads: Vec<Declaration>,
    /// The Unix socket on which declared workloads get their identities, by the SPIFFE Workload API.
    #[arg(long, value_name = "PATH")]
    pub workload_socket: Option<PathBuf>,
}

/// `tombolo join TOKEN`.
#[derive(clap::Args, Debug, Clone)]
pub struct JoinArgs {
    /// The token of `tombolo token create`.
    pub token: String,
    #[command(flatten)]
    pub agent: Args,
}

impl From<JoinArgs> for Args {
    fn from(args: JoinArgs) -> Self {
        Args { join: Some(args.token), ..args.agent }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs an agent until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = lifeline::stop_token()?;
    let admin = args.admin;
    let agent = Arc::new(Agent::build(settings(args)).await?);
    if let Some(at) = admin {
        let (asked, holder, registry) = (agent.clone(), agent.clone(), Registry::new());
        expiry::register(&registry, move || expiry::of_agent(&holder.told()))?;
        Admin::bind(at, registry, Arc::new(move || asked.ready())).await?.spawn(stop.clone());
    }
    serve(agent, stop).await
}

/// Runs an agent until told to stop.
pub async fn serve(agent: Arc<Agent>, stop: CancellationToken) -> anyhow::Result<()> {
    tracing::info!(cluster = %agent.cluster(), address = %agent.address(), "the agent is up");
    agent.run(stop).await.context("the agent stopped")
}

/// The flags, for the agent.
pub fn settings(args: Args) -> Settings {
    Settings {
        state_dir: args.state,
        listen: args.listen,
        advertise: args.advertise,
        services_dir: args.services,
        join: args.join,
        replace: args.replace,
        labels: BTreeMap::from_iter(args.labels),
        controller: args.controller,
        workloads: args.workloads.workloads,
        workload_socket: args.workloads.workload_socket,
    }
}
