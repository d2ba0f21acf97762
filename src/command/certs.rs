//! `tombolo certs`: who holds which certificate, and their replacement.

mod issue;
mod list;
mod revoke;
mod rotate;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub use list::table_of;

/// Without a subcommand, the mesh's certificates are listed.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: list::Flags,
}

#[derive(Subcommand)]
enum What {
    /// Makes a workload's key and gets its certificate from the cluster's agent, whose member token is needed.
    Issue(issue::Args),
    /// Replaces certificates before their time: roots, authorities, or what gateways and agents show.
    Rotate(rotate::Args),
    /// Makes everybody believe a cluster, a gateway or workloads no longer, whatever certificate they show
    Revoke(revoke::Args),
    /// Takes a revocation back
    Reinstate(revoke::Args),
}

/// Does what was asked.
pub async fn run(args: Args) -> Result<ExitCode> {
    match args.what {
        Some(What::Issue(args)) => issue::run(args).await,
        Some(What::Rotate(args)) => rotate::run(args).await,
        Some(What::Revoke(args)) => revoke::revoke(args).await,
        Some(What::Reinstate(args)) => revoke::reinstate(args).await,
        None => list::run(args.list).await,
    }
}
