//! `tombolo certs rotate`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use config::resource::Name;
use controller::global::{Level, Rotate, Rotation};
use tokio::time::{Instant, sleep};

use super::super::api::Api;
use super::super::context;
use super::super::output::note;
use super::list::table_of;

/// So often the controller is asked.
const PAUSE: Duration = Duration::from_millis(250);
/// The exit code when it isn't over in time: it goes on, and `tombolo certs` says for whom it waits.
const NOT_YET: u8 = 4;

/// The flags.
#[derive(clap::Args)]
pub struct Args {
    /// Which certificates: what gateways, agents and members show, the clusters' issuing CAs, the global namespaces'
    /// CAs, the top-level CA, or the control CAs by which clusters' members enrol
    #[arg(long, value_enum, value_name = "leaf|issuing|gns|top|control", hide_possible_values = true)]
    level: LevelArg,
    /// Those of one global namespace only
    #[arg(long = "gns", value_name = "NAME")]
    global_namespace: Option<Name>,
    /// Those of one cluster only
    #[arg(long, value_name = "NAME")]
    cluster: Option<Name>,
    /// Wait until nobody needs the old ones any more, and exit 4 if that takes too long
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    timeout: u64,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// A level, as it is written.
#[derive(Clone, Copy, clap::ValueEnum)]
enum LevelArg {
    Leaf,
    Issuing,
    Gns,
    Top,
    Control,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Leaf => Level::Leaf,
            LevelArg::Issuing => Level::Issuing,
            LevelArg::Gns => Level::Gns,
            LevelArg::Top => Level::Top,
            LevelArg::Control => Level::Control,
        }
    }
}

/// Begins it, and tells how it goes if it is waited for.
pub async fn run(args: Args) -> Result<ExitCode> {
    let api = Api::open(&args.context)?;
    let Args { level, global_namespace, cluster, .. } = args;
    api.rotate(&Rotate { level: level.into(), global_namespace: global_namespace.clone(), cluster }).await?;
    if !args.wait {
        note("begun; `tombolo certs` says how far it is");
        return Ok(ExitCode::SUCCESS);
    }
    wait(&api, global_namespace.as_ref(), Duration::from_secs(args.timeout)).await
}

async fn wait(api: &Api, gns: Option<&Name>, limit: Duration) -> Result<ExitCode> {
    let (end, mut said) = (Instant::now() + limit, String::new());
    loop {
        let mut rotations = api.certificates().await?.rotations;
        rotations.retain(|rotation| gns.is_none() || rotation.global_namespace.as_ref() == gns);
        if rotations.is_empty() {
            note("done: nobody needs what was replaced");
            return Ok(ExitCode::SUCCESS);
        }
        tell(&rotations, &mut said);
        if Instant::now() >= end {
            note("not over yet; it goes on, and `tombolo certs` says for whom it waits");
            return Ok(ExitCode::from(NOT_YET));
        }
        sleep(PAUSE).await;
    }
}

/// Each phase once.
fn tell(rotations: &[Rotation], said: &mut String) {
    let text = table_of(rotations);
    if *said != text {
        note(text.trim_end());
        *said = text;
    }
}
