//! `tombolo backup`: a copy of all that the controller keeps, while it runs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use controller::store::Contents;
use identity::files::write_private;

use super::api::Api;
use super::context::ContextArgs;
use super::output::note;

/// Writes all that the controller's database holds, as of one moment, to a file. The key that seals the secrets in it,
/// STATE/vault.key or the given sealing key, is not in it: keep that elsewhere. Needs the role admin.
#[derive(clap::Args)]
pub struct Args {
    /// The file; if it is there already, it is replaced as a whole
    file: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
}

/// Asks for it, makes sure that it is whole, and writes it.
pub async fn run(args: Args) -> Result<ExitCode> {
    let backup = Api::open(&args.context)?.backup().await?;
    let contents =
        Contents::of_backup(&backup).context("what the controller sent is no backup; nothing was written")?;
    write_private(&args.file, &backup)?;
    note(format_args!("{}: revision {}, {} bytes", args.file.display(), contents.history.head(), backup.len()));
    Ok(ExitCode::SUCCESS)
}
