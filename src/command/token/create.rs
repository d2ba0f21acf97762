//! `tombolo token create`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use config::resource::{Name, Span};
use controller::access::Role;
use controller::global::{AdminContext, write_admin_context};
use zeroize::Zeroizing;

use crate::command::api::{Api, ApiTokenRequest};
use crate::command::context::{self, ContextArgs};
use crate::command::output::{note, print};

/// What kind of token.
#[derive(clap::Args)]
pub struct Args {
    /// The cluster's name, for a token to join with
    #[arg(long, value_name = "NAME", conflicts_with = "role", required_unless_present = "role")]
    cluster: Option<Name>,
    /// What the token for the API allows: `viewer` looks at resources, `editor` also writes those of global namespaces,
    /// `admin` may do everything
    #[arg(long, value_name = "admin|editor|viewer", requires = "name")]
    role: Option<Role>,
    /// The name of the token for the API, by which the audit log and `token revoke` know it
    #[arg(long, value_name = "NAME", requires = "role")]
    name: Option<Name>,
    /// Limits the token for the API to these global namespaces
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "role")]
    gns: Vec<Name>,
    /// How long the token for the API is good, as in 30d; for ever unless given
    #[arg(long, value_name = "SPAN", requires = "role")]
    expires_in: Option<Span>,
    /// Writes a context with the token for the API to this file, for --context, instead of printing the token
    #[arg(long, value_name = "FILE", requires = "role")]
    save: Option<PathBuf>,
    #[command(flatten)]
    context: ContextArgs,
}

/// Asks for a token and prints it, and nothing else, to standard output.
pub async fn run(args: Args) -> Result<ExitCode> {
    match (&args.cluster, args.role, &args.name) {
        (Some(cluster), _, _) => join(cluster, &args.context).await,
        (None, Some(role), Some(name)) => api(name, role, &args).await,
        _ => anyhow::bail!("say which token: --cluster NAME, or --role ROLE --name NAME"),
    }
}

async fn join(cluster: &Name, context: &ContextArgs) -> Result<ExitCode> {
    let token = Api::open(context)?.create_token(cluster).await?;
    print(format_args!("{token}\n"))?;
    note(format_args!("on a machine of {cluster}, within 15 minutes: tombolo join TOKEN --state DIR --services DIR"));
    Ok(ExitCode::SUCCESS)
}

async fn api(name: &Name, role: Role, args: &Args) -> Result<ExitCode> {
    let request = ApiTokenRequest { name, role, global_namespaces: &args.gns, expires_in: args.expires_in };
    let token = Zeroizing::new(Api::open(&args.context)?.create_api_token(&request).await?);
    let Some(path) = &args.save else {
        print(format_args!("{}\n", token.as_str()))?;
        note("nobody can tell this token again: keep it as a secret");
        return Ok(ExitCode::SUCCESS);
    };
    let AdminContext { server, ca, .. } = context::read(&args.context.path()?)?;
    write_admin_context(path, &AdminContext { server, ca, token })?;
    note(format_args!("{} has the token: use it with --context or TOMBOLO_CONTEXT", path.display()));
    Ok(ExitCode::SUCCESS)
}
