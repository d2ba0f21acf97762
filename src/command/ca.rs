//! `tombolo ca`.

use std::process::ExitCode;

use anyhow::Result;
use controller::global::{AdminContext, write_admin_context};

use super::api::Api;
use super::{context, output};

/// The flags.
#[derive(clap::Args)]
pub struct Args {
    /// Ask the controller for the newest first, and write it into the context: after the top-level CA was replaced
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Prints the CA's certificate, in PEM, out of the admin context.
///
/// # Errors
/// When there is no context, or the controller cannot be asked.
pub async fn run(args: Args) -> Result<ExitCode> {
    let path = args.context.path()?;
    let mut known = context::read(&path)?;
    if args.refresh {
        let ca = Api::open(&args.context)?.ca().await?;
        if ca != known.ca {
            known = AdminContext { ca, ..known };
            write_admin_context(&path, &known)?;
            output::note(format_args!("wrote the newest CA into {}", path.display()));
        }
    }
    output::print(&known.ca)?;
    Ok(ExitCode::SUCCESS)
}
