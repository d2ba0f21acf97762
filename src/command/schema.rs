//! `tombolo schema`: the manifests' language, for editors.

use std::process::ExitCode;

use anyhow::Result;

use super::output::json;

/// Prints the JSON Schema of manifests of every kind.
#[derive(clap::Args)]
pub struct Args {}

/// Prints it.
pub fn run(_: &Args) -> Result<ExitCode> {
    json(&config::schema::schema())?;
    Ok(ExitCode::SUCCESS)
}
