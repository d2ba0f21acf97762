//! `tombolo controller`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use controller::global::{Controller, Settings};
use controller::store::HISTORY;
use controller::vault::{SealKey, SealKeys};
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
    /// How many revisions of the resources are kept at least, for `history` and `rollback`; all of them together have
    /// no more than 64 MiB.
    #[arg(long, value_name = "REVISIONS", default_value_t = HISTORY, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub history: u64,
    /// Where metrics and health are asked for.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    #[command(flatten)]
    pub seal: SealArgs,
}

/// The keys that seal the controller's secrets. A flag that names a key itself would show it to every user of the machine,
/// so these name files; the environment may hold a key, for platforms that pass secrets so.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct SealArgs {
    /// The file, 0600, with the key that seals CA keys and other secrets in the database: 32 bytes, raw, in hexadecimal or
    /// in base64; or else the environment's TOMBOLO_SEAL_KEY. Without either the controller makes a key of its own beside
    /// the database. Given for a database that is not sealed with it yet, it takes over.
    #[arg(long, value_name = "FILE")]
    pub seal_key_file: Option<PathBuf>,
    /// The file with the key that sealed up to now, to change over from it; or else TOMBOLO_OLD_SEAL_KEY.
    #[arg(long, value_name = "FILE")]
    pub old_seal_key_file: Option<PathBuf>,
}

impl SealArgs {
    fn keys(&self) -> anyhow::Result<SealKeys> {
        let current = SealKey::given(self.seal_key_file.as_deref(), "TOMBOLO_SEAL_KEY")?;
        let previous = SealKey::given(self.old_seal_key_file.as_deref(), "TOMBOLO_OLD_SEAL_KEY")?;
        if current.is_none() && previous.is_some() {
            anyhow::bail!(
                "an old sealing key is given, and none to change over to: give --seal-key-file or TOMBOLO_SEAL_KEY, too"
            );
        }
        Ok(SealKeys { current, previous })
    }
}

/// Runs a controller until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = lifeline::stop_token()?;
    let admin = args.admin;
    let settings = settings(args)?;
    let controller = tokio::task::spawn_blocking(move || Controller::build(settings)).await??;
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
        seal_keys: args.seal.keys()?,
        history: args.history,
    })
}
