//! `tombolo history`: the revisions of the resources: when, who, what.

use std::process::ExitCode;

use anyhow::Result;
use controller::store::{Changed, Row};
use serde_json::json;

use super::api::Api;
use super::context::ContextArgs;
use super::output::{Format, date, note, show};
use super::table::Table;

/// So many changes of a revision are named in a table.
const NAMED: usize = 3;

/// Lists the newest revisions that are kept, the oldest of them first. `get --revision` shows what was, `diff
/// --revision` what `rollback` would change.
#[derive(clap::Args)]
pub struct Args {
    /// So many of the newest revisions
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: ContextArgs,
}

/// Asks and shows.
pub async fn run(args: Args) -> Result<ExitCode> {
    let rows = Api::open(&args.context)?.history(args.limit).await?;
    show(args.output, &json!({ "items": rows }), || table(&rows))?;
    if rows.is_empty() {
        note("nothing was applied yet");
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["REVISION", "AT", "WHO", "WHAT", "CHANGES"]);
    for Row { revision, at, who, what, changes, .. } in rows {
        table.row([&revision.to_string(), &date(*at), who, what, &named(changes)]);
    }
    table.to_string()
}

fn named(changes: &[Changed]) -> String {
    let one = |changed: &Changed| match changed {
        Changed::Created(id) => format!("+{id}"),
        Changed::Changed(id) => format!("~{id}"),
        Changed::Removed(id) => format!("-{id}"),
    };
    let mut named: Vec<String> = changes.iter().take(NAMED).map(one).collect();
    if changes.len() > NAMED {
        named.push(format!("and {} more", changes.len() - NAMED));
    }
    named.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_revision_is_a_row_and_names_some_of_its_changes() {
        let id = |name: &str| format!("Cluster/{name}").parse().unwrap();
        let changes = vec![
            Changed::Removed(id("a")),
            Changed::Created(id("b")),
            Changed::Changed(id("c")),
            Changed::Created(id("d")),
        ];
        let managed_by = "api".parse().unwrap();
        let (who, what) = ("ada".to_owned(), "apply".to_owned());
        let row = Row { revision: 7, at: 1_795_431_600, who, what, managed_by, changes };
        let expected = "REVISION  AT                    WHO  WHAT   CHANGES\n\
                        7         2026-11-23T11:00:00Z  ada  apply  -Cluster/a +Cluster/b ~Cluster/c and 1 more\n";
        assert_eq!(table(&[row]), expected);
    }
}
