//! What people ask of a controller, or of manifests alone: one small file a command. Data goes to standard output,
//! all else to standard error.

mod api;
mod apply;
mod audit;
mod backup;
mod ca;
mod certs;
mod check;
pub mod context;
mod delete;
mod describe;
mod diff;
mod explain;
pub mod files;
mod forget;
mod get;
mod history;
mod item;
mod kind;
mod output;
mod peers;
mod restore;
mod rollback;
mod schema;
mod status;
mod table;
mod token;
mod unified;
mod verdict;
mod wait;

use std::process::ExitCode;

use anyhow::Result;

/// A command that runs and ends.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Makes the mesh what manifests say: all of them, or none.
    Apply(apply::Args),
    /// Tells what applying manifests, or going back to a revision, would change.
    Diff(diff::Args),
    /// Lists resources, and whether they are ready.
    Get(get::Args),
    /// Tells everything about resources, with the reasons of their conditions.
    Describe(describe::Args),
    /// Deletes resources: all of them, or none.
    Delete(delete::Args),
    /// Lists the revisions of the resources: when, who, what.
    History(history::Args),
    /// Brings all resources back to what they were in an earlier revision.
    Rollback(rollback::Args),
    /// Writes all that the controller keeps to a file, while it runs.
    Backup(backup::Args),
    /// Makes a controller's database from a backup, while it doesn't run.
    Restore(restore::Args),
    /// Tells how the mesh is doing: its clusters, agents, gateways and DNS servers.
    Status(status::Args),
    /// Lists the tunnels between the clusters' gateways.
    Peers(peers::Args),
    /// Asks the data planes what becomes of a request: which step of its way fails, what is behind that, what to do.
    Explain(explain::Args),
    /// Forgets a gateway or DNS server that is gone for good, instead of waiting for it.
    Forget(forget::Args),
    /// Reads manifests and lists all that is wrong with them, without a controller; or tests the way between clusters.
    Check(check::Args),
    /// Prints the JSON Schema of manifests, for editors.
    Schema(schema::Args),
    /// Prints the certificate of the CA that signs the controller and the `selfSigned` public hosts.
    Ca(ca::Args),
    /// Lists the mesh's certificates, who believes which root, and what is being replaced; makes those of workloads.
    Certs(certs::Args),
    /// Tells who did what, when and from where.
    Audit(audit::Args),
    /// Tokens: to join the mesh, and to use its API.
    Token(token::Args),
}

/// Does what was asked. The exit code is 0 for success and 1 for failure; `apply --wait` has two more, and `diff` its own.
///
/// # Errors
/// What failed, in words for people.
pub async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Apply(args) => apply::run(args).await,
        Command::Diff(args) => diff::run(args).await,
        Command::Get(args) => get::run(args).await,
        Command::Describe(args) => describe::run(args).await,
        Command::Delete(args) => delete::run(args).await,
        Command::History(args) => history::run(args).await,
        Command::Rollback(args) => rollback::run(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Restore(args) => restore::run(&args),
        Command::Status(args) => status::run(args).await,
        Command::Peers(args) => peers::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Forget(args) => forget::run(args).await,
        Command::Check(args) => check::run(&args).await,
        Command::Schema(args) => schema::run(&args),
        Command::Ca(args) => ca::run(args).await,
        Command::Certs(args) => certs::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Token(args) => token::run(args).await,
    }
}
