//! `tombolo token`: tokens with which clusters join the mesh.

use std::process::ExitCode;

use anyhow::Result;
use config::resource::Name;

use super::api::Api;
use super::context;
use super::output::{note, print};

/// Makes join tokens.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Prints a token with which one cluster may join the mesh: once, within 15 minutes, under that name only
    Create(CreateArgs),
}

#[derive(clap::Args)]
struct CreateArgs {
    /// The cluster's name
    #[arg(long, value_name = "NAME")]
    cluster: Name,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks for one and prints it, and nothing else, to standard output.
pub async fn run(Args { what: What::Create(args) }: Args) -> Result<ExitCode> {
    let token = Api::open(&args.context)?.create_token(&args.cluster).await?;
    print(format_args!("{token}\n"))?;
    note(format_args!(
        "on a machine of {}, within 15 minutes: tombolo join TOKEN --state DIR --services DIR",
        args.cluster
    ));
    Ok(ExitCode::SUCCESS)
}
