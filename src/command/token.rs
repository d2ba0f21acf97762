//! `tombolo token`: tokens with which clusters join the mesh, and those with which people use the API.

mod create;

use std::process::ExitCode;

use anyhow::Result;
use config::resource::Name;
use controller::access::TokenRow;
use serde_json::json;

use super::api::Api;
use super::context::ContextArgs;
use super::output::{Format, date, note, show};
use super::table::Table;

/// Tokens: to join the mesh, and to use its API.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Prints a token: with --cluster, one with which that cluster may join the mesh: once, within 15 minutes, under that
    /// name only; with --role, one for the API
    Create(create::Args),
    /// Lists the tokens for the API, and what they allow
    List(ListArgs),
    /// Ends a token for the API
    Revoke(RevokeArgs),
}

#[derive(clap::Args)]
struct ListArgs {
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: ContextArgs,
}

#[derive(clap::Args)]
struct RevokeArgs {
    /// The token's name
    #[arg(value_name = "NAME")]
    name: Name,
    #[command(flatten)]
    context: ContextArgs,
}

/// Does what was asked.
pub async fn run(Args { what }: Args) -> Result<ExitCode> {
    match what {
        What::Create(args) => create::run(args).await,
        What::List(args) => list(args).await,
        What::Revoke(args) => revoke(args).await,
    }
}

async fn list(args: ListArgs) -> Result<ExitCode> {
    let tokens = Api::open(&args.context)?.api_tokens().await?;
    show(args.output, &json!({ "items": tokens }), || table(&tokens))?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(args: RevokeArgs) -> Result<ExitCode> {
    Api::open(&args.context)?.revoke_api_token(&args.name).await?;
    note(format_args!("the token {} is good for nothing any more", args.name));
    Ok(ExitCode::SUCCESS)
}

fn table(tokens: &[TokenRow]) -> String {
    let mut table = Table::new(["NAME", "ROLE", "GNS", "CREATED", "ENDS"]);
    for TokenRow { name, role, global_namespaces, created, expires } in tokens {
        let gns: Vec<&str> = global_namespaces.iter().map(Name::as_str).collect();
        let gns = if gns.is_empty() { "all".to_owned() } else { gns.join(",") };
        let created = Some(*created).filter(|at| *at > 0).map(date).unwrap_or_default();
        table.row([name, &role.to_string(), &gns, &created, &expires.map(date).unwrap_or("never".to_owned())]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::from_value;

    use super::*;

    #[test]
    fn a_token_shows_what_it_allows_and_until_when() {
        let tokens: Vec<TokenRow> = from_value(json!([
            {"name": "admin", "role": "admin", "created": 0},
            {"name": "ci", "role": "editor", "globalNamespaces": ["bank", "shop"], "created": 86400, "expires": 90061},
        ]))
        .unwrap();
        let expected = "NAME   ROLE    GNS        CREATED               ENDS\n\
                        admin  admin   all        -                     never\n\
                        ci     editor  bank,shop  1970-01-02T00:00:00Z  1970-01-02T01:01:01Z\n";
        assert_eq!(table(&tokens), expected);
    }
}
