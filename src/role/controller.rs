//! `tombolo controller`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use controller::global::{Controller, Settings};
use prometheus::Registry;

use super::expiry;
use crate::admin::Admin;
use crate::command::context;
use crate::lifeline;

/// A controller's flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The controller's state directory: store, vault, CAs.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where people and agents reach it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,
    /// The names and addresses by which it is reached, for its certificate and its tokens; the first stands in tokens.
    #[arg(long = "name", value_name = "HOST")]
    pub names: Vec<String>,
    /// The mesh's name, a DNS name: every identity is made of it, so it is fixed at the first start.
    #[arg(long, value_name = "NAME", default_value = "mesh.internal")]
    pub mesh: String,
    /// Where the admin's context (address, CA, token) is written at the first start.
    #[arg(long, value_name = "FILE", env = "TOMBOLO_CONTEXT")]
    pub context: Option<PathBuf>,
    /// Where metrics and health are asked for.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
}

/// Runs a controller until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = lifeline::stop_token()?;
    let admin = args.admin;
    let settings = settings(args)?;
    let controller = tokio::task::spawn_blocking(move || Controller::build(&settings)).await??;
    if let Some(at) = admin {
        let (ready, asked, registry) = (controller.ready(), controller.handle(), Registry::new());
        expiry::register(&registry, move || expiry::of_mesh(&asked.certificates()))?;
        Admin::bind(at, registry, Arc::new(move || *ready.borrow())).await?.spawn(stop.clone());
    }
    controller.run(stop).await.context("the controller stopped")
}

/// The flags, for the controller.
pub fn settings(args: Args) -> anyhow::Result<Settings> {
    let context = match args.context {
        Some(path) => path,
        None => context::default_path().context("there is no HOME for the admin context: give --context FILE")?,
    };
    Ok(Settings {
        state_dir: args.state,
        listen: args.listen,
        advertised: args.names,
        mesh: args.mesh,
        admin_context: Some(context),
    })
}
