//! `tombolo rollback`: the whole set as it was.

use std::process::ExitCode;

use anyhow::Result;

use super::api::{Api, How};
use super::apply::{located, tell};
use super::context::ContextArgs;
use super::output::note;

/// Makes one new revision in which all resources are as they were in an earlier one: all of it, or, when anything is
/// wrong, none. No cluster joins or leaves the mesh by it.
#[derive(clap::Args)]
pub struct Args {
    /// The revision, as `tombolo history` lists them
    revision: u64,
    /// Check and tell what would be done, but do nothing; `diff --revision` tells it line by line
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    context: ContextArgs,
}

/// Asks for it, and tells what became of what.
pub async fn run(args: Args) -> Result<ExitCode> {
    let how = How::of(args.dry_run);
    match Api::open(&args.context)?.rollback(args.revision, how).await? {
        Ok(applied) => {
            if applied.results.is_empty() {
                note(format_args!("all is as it was in revision {}", args.revision));
            }
            tell(&applied, how)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            errors.iter().for_each(|error| note(located(error, &[])));
            note("nothing was changed");
            Ok(ExitCode::FAILURE)
        }
    }
}
