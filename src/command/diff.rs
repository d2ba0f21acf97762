//! `tombolo diff`: what applying manifests, or going back to a revision, would change.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use config::manifest::Defaults;
use controller::global::{Action, Applied, Outcome};
use serde_json::Value;

use super::api::{Api, Batch, How};
use super::apply::located;
use super::output::{note, print, yaml};
use super::unified::unified;
use super::{context, files};
use crate::cli;

/// The exit code when something would change; as with `diff` and `kubectl diff`, failures have the next.
const DIFFERENT: u8 = 1;
/// The exit code when it cannot be told, or would be refused.
const FAILED: u8 = 2;

/// Tells what `apply` or `rollback` would change, line by line, and changes nothing. Ends with 0 when nothing would
/// change, with 1 when something would, and with 2 when it would be refused or cannot be told.
#[derive(clap::Args)]
pub struct Args {
    /// A file, a directory (its *.yaml, *.yml and *.json files), or - for standard input
    #[arg(short, long = "file", value_name = "PATH", num_args = 1.., required_unless_present = "revision")]
    files: Vec<PathBuf>,
    /// The revision to which `rollback` would go back
    #[arg(long, value_name = "REVISION", conflicts_with = "files")]
    revision: Option<u64>,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and shows.
pub async fn run(args: Args) -> Result<ExitCode> {
    let told = match args.revision {
        Some(revision) => of_revision(&args, revision).await,
        None => of_files(&args).await,
    };
    match told.and_then(|told| told.map(|applied| show(&applied)).transpose()) {
        Ok(Some(false)) => Ok(ExitCode::SUCCESS),
        Ok(Some(true)) => Ok(ExitCode::from(DIFFERENT)),
        Ok(None) => Ok(ExitCode::from(FAILED)),
        Err(error) => {
            cli::complain(&error);
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// Nothing if it would be refused; the reasons are told.
async fn of_files(args: &Args) -> Result<Option<Applied>> {
    let manifests = match files::read(&args.files, &Defaults::default())? {
        Ok(manifests) => manifests,
        Err(errors) => {
            errors.iter().for_each(note);
            return Ok(None);
        }
    };
    let batch = Batch { manifests: &manifests, ..Batch::default() };
    let told = Api::open(&args.context)?.apply(&batch, How::Diff).await?;
    Ok(told.map_err(|errors| errors.iter().for_each(|error| note(located(error, &manifests)))).ok())
}

async fn of_revision(args: &Args, revision: u64) -> Result<Option<Applied>> {
    let told = Api::open(&args.context)?.rollback(revision, How::Diff).await?;
    Ok(told.map_err(|errors| errors.iter().for_each(|error| note(located(error, &[])))).ok())
}

/// Shows what would change, and says whether anything would.
fn show(applied: &Applied) -> Result<bool> {
    let changed = || applied.results.iter().filter(|outcome| outcome.action != Action::Unchanged);
    changed().try_for_each(|outcome| print(text(outcome)?))?;
    Ok(changed().next().is_some())
}

fn text(outcome: &Outcome) -> Result<String> {
    let Outcome { id, action, before, after } = outcome;
    let form = |manifest: &Option<Value>| manifest.as_ref().map_or(Ok(String::new()), yaml);
    let name = |manifest: &Option<Value>| manifest.as_ref().map_or("/dev/null".to_owned(), |_| id.to_string());
    let hunks = match unified(&form(before)?, &form(after)?) {
        none if none.is_empty() => "# only who manages it\n".to_owned(),
        hunks => hunks,
    };
    Ok(format!("# {id} {action}\n--- {}\n+++ {}\n{hunks}", name(before), name(after)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_change_has_its_form() {
        let of = |action, before: Option<Value>, after: Option<Value>| {
            text(&Outcome { id: "Cluster/north".parse().unwrap(), action, before, after }).unwrap()
        };
        let (old, new) = (json!({"kind": "Cluster", "labels": "a"}), json!({"kind": "Cluster", "labels": "b"}));
        let changed = of(Action::Changed, Some(old.clone()), Some(new));
        let head = "# Cluster/north changed\n--- Cluster/north\n+++ Cluster/north\n@@ -1,2 +1,2 @@\n";
        assert_eq!(changed, format!("{head} kind: Cluster\n-labels: a\n+labels: b\n"));
        assert!(
            of(Action::Created, None, Some(old.clone())).contains("--- /dev/null\n+++ Cluster/north\n@@ -0,0 +1,2")
        );
        assert!(of(Action::Removed, Some(old.clone()), None).contains("+++ /dev/null\n@@ -1,2 +0,0 @@\n-kind"));
        assert!(of(Action::Changed, Some(old.clone()), Some(old)).contains("only who manages it"));
    }
}
