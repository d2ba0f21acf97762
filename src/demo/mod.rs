//! `tombolo demo`: three small clusters on this machine's loopback addresses, each part a process of its own, as in
//! production: any of them can be killed to see what happens.

mod env;
mod layout;
mod manifests;
mod processes;
pub mod service;
mod show;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::lifeline;
use layout::Layout;
use processes::Processes;

/// Everything must be up by then.
const DEADLINE: Duration = Duration::from_secs(60);

/// The demo's flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The directory for everything that the demo keeps. What an earlier demo left there is removed.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The second number of the first cluster's loopback addresses: 1 for 127.1.0.0/16 and the two after it.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=200))]
    net: u8,
    /// Leave killed processes dead, instead of starting them again after 8 s.
    #[arg(long)]
    no_restart: bool,
    /// Send no requests of its own.
    #[arg(long)]
    quiet: bool,
}

/// Runs the demo until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = lifeline::stop_token()?;
    let began = Instant::now();
    let layout = Layout::new(args.state.clone().map_or_else(default_state, Ok)?, args.net);
    layout.prepare()?;
    let mut processes = Processes::new(layout.clone(), !args.no_restart);
    let up = tokio::select! {
        up = tokio::time::timeout(DEADLINE, bring_up(&layout, &mut processes)) => up,
        () = stop.cancelled() => return processes.stop().await,
    };
    match up {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return fail(processes, error).await,
        Err(_) => return fail(processes, anyhow::anyhow!("it was not up after {DEADLINE:?}")).await,
    }
    env::write(&layout, &processes)?;
    show::introduce(&layout, began.elapsed())?;
    let watched = processes.watch(&layout, stop.clone());
    if args.quiet {
        watched.await;
    } else {
        tokio::join!(watched, show::traffic(&layout, stop));
    }
    env::remove(&layout);
    processes.stop().await
}

async fn fail(processes: Processes, error: anyhow::Error) -> anyhow::Result<()> {
    let logs = processes.logs();
    processes.stop().await?;
    Err(error.context(format!("the demo did not start (the logs are in {})", logs.display())))
}

async fn bring_up(layout: &Layout, processes: &mut Processes) -> anyhow::Result<()> {
    processes.start_controller().await?;
    let client = manifests::Admin::connect(layout).context("the controller does not answer")?;
    // Instances first: they take longest to be found healthy.
    processes.start_instances()?;
    for cluster in layout.clusters() {
        let token = client.token(&cluster.name).await?;
        manifests::write_services(cluster)?;
        processes.start_agent(cluster, &token)?;
    }
    processes.agents_ready().await?;
    client.apply(&manifests::all(layout)).await.context("the demo's manifests")?;
    processes.start_members()?;
    processes.members_ready().await?;
    show::answering(layout).await
}

/// Where the demo keeps its things, by default.
fn default_state() -> anyhow::Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = state.or_else(home).context("neither XDG_STATE_HOME nor HOME is set: give --state DIR")?;
    Ok(base.join("tombolo/demo"))
}
