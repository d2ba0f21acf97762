//! `tombolo ca`.

use std::process::ExitCode;

use anyhow::Result;

use super::{context, output};

/// The flags.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Prints the CA's certificate, in PEM, out of the admin context.
///
/// # Errors
/// When there is no context.
pub fn run(args: &Args) -> Result<ExitCode> {
    output::print(&context::read(&args.context.path()?)?.ca)?;
    Ok(ExitCode::SUCCESS)
}
