//! `tombolo certs`: the mesh's certificates.

mod issue;

use std::process::ExitCode;

use anyhow::Result;

/// The mesh's certificates.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Makes a workload's key and gets its certificate from the cluster's agent, whose member token is needed
    Issue(issue::Args),
}

/// Does what was asked.
pub async fn run(Args { what }: Args) -> Result<ExitCode> {
    match what {
        What::Issue(args) => issue::run(args).await,
    }
}
