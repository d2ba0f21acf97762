//! `tombolo audit`: who did what, when and from where.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use controller::audit::{Entry, read};
use serde_json::json;

use super::api::Api;
use super::context::ContextArgs;
use super::output::{Format, show};
use super::table::Table;

/// Which entries.
#[derive(clap::Args)]
pub struct Args {
    /// So many of the newest entries
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// Reads this file, such as an agent's STATE/audit.log, instead of asking the controller
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: ContextArgs,
}

/// Asks, or reads, and shows.
pub async fn run(args: Args) -> Result<ExitCode> {
    let entries = match &args.file {
        Some(path) => {
            std::fs::metadata(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
            read(path, args.limit)?
        }
        None => Api::open(&args.context)?.audit(args.limit).await?,
    };
    show(args.output, &json!({ "items": entries }), || table(&entries))?;
    Ok(ExitCode::SUCCESS)
}

fn table(entries: &[Entry]) -> String {
    let mut table = Table::new(["AT", "WHO", "FROM", "WHAT", "ON", "DETAILS"]);
    for Entry { at, who, from, what, on, details } in entries {
        let details: Vec<String> = details.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        table.row([at, who, &from, what, &on.join(", "), &details.join(" ")]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_entry_is_a_row() {
        let entry = json!({"at": "2026-11-23T11:00:00Z", "who": "ada", "from": "10.0.0.1", "what": "apply",
            "on": ["PublicService/shop/web created"], "details": {"revision": "2"}});
        let entries: Vec<Entry> = serde_json::from_value(json!([entry])).unwrap();
        let expected = "AT                    WHO  FROM      WHAT   ON                              DETAILS\n\
                        2026-11-23T11:00:00Z  ada  10.0.0.1  apply  PublicService/shop/web created  revision=2\n";
        assert_eq!(table(&entries), expected);
    }
}
