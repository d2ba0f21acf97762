//! The command line: one variant a subcommand, each described where it lives.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::command::Command;
use crate::{demo, role};

/// A gateway-centric multicluster edge router.
#[derive(Parser)]
#[command(name = "tombolo", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Three small clusters on this machine, with everything, to try things on.
    Demo(demo::Args),
    /// A whole mesh of one cluster in one process, from a directory of manifests.
    Up(role::up::Args),
    /// The global controller: holds the resources and the CA, and tells the agents.
    Controller(role::controller::Args),
    /// A cluster's local controller: finds its services and feeds its gateways and DNS servers.
    Agent(role::agent::Args),
    /// Makes this machine the agent of a cluster of the mesh: `agent` with a join token.
    Join(role::agent::JoinArgs),
    /// A gateway: publishes services, and carries traffic between clusters.
    Gateway(role::gateway::Args),
    /// A DNS server: answers for the names of global namespaces and for public hosts.
    Dns(role::dns::Args),
    /// A little HTTP service that says who it is, as in the demo.
    #[command(hide = true)]
    DemoService(demo::service::Args),
    #[command(flatten)]
    Command(Command),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(async {
            match self.what {
                What::Demo(args) => demo::run(args).await,
                What::Up(args) => role::up::run(args).await,
                What::Controller(args) => role::controller::run(args).await,
                What::Agent(args) => role::agent::run(args).await,
                What::Join(args) => role::agent::run(args.into()).await,
                What::Gateway(args) => role::gateway::run(args).await,
                What::Dns(args) => role::dns::run(args).await,
                What::DemoService(args) => demo::service::run(args).await,
                What::Command(command) => return crate::command::run(command).await,
            }
            .map(|()| ExitCode::SUCCESS)
        });
        // Whatever still waits for a disk or a name must not keep a stopped process alive.
        runtime.shutdown_timeout(Duration::from_secs(1));
        done
    }
}

/// Says on standard error what went wrong, and why.
pub fn complain(error: &anyhow::Error) {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors name their cause in their own text.
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    // If even standard error is closed, the exit code must do.
    _ = writeln!(std::io::stderr(), "tombolo: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_stands_in_the_guide_or_the_readme() {
        let texts = [include_str!("../docs/guides/cli.md"), include_str!("../README.md")].concat();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let told = [format!("`{name}"), format!("tombolo {name}")].iter().any(|text| texts.contains(text.as_str()));
            assert!(told, "neither docs/guides/cli.md nor README.md tells of `tombolo {name}`");
        }
    }
}
