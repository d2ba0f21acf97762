//! `tombolo apply`: makes the mesh what manifests say.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use config::manifest::{Defaults, Manifest};
use config::resource::{ResourceId, Span};
use controller::global::Applied;
use controller::http::message::ErrorItem;

use super::api::{Api, Batch, How};
use super::output::{note, print, printable};
use super::{context, files, wait};

/// Applies manifests: all of them, or, when anything is wrong, none.
#[derive(clap::Args)]
pub struct Args {
    /// A file, a directory (its *.yaml, *.yml and *.json files), or - for standard input
    #[arg(short, long = "file", value_name = "PATH", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Check and tell what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until every resource is ready [without a DURATION: 60s]; ends with 3 as soon as somebody rejects one, or
    /// when one isn't ready by then, with 4 when that cannot be told
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    #[arg(conflicts_with = "dry_run")]
    wait: Option<Span>,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Reads, sends, and waits if asked to.
pub async fn run(args: Args) -> Result<ExitCode> {
    let manifests = match files::read(&args.files, &Defaults::default())? {
        Ok(manifests) => manifests,
        Err(errors) => return Ok(refuse(errors.iter().map(ToString::to_string))),
    };
    let api = Api::open(&args.context)?;
    let how = How::of(args.dry_run);
    let batch = Batch { manifests: &manifests, ..Batch::default() };
    let applied = match api.apply(&batch, how).await? {
        Ok(applied) => applied,
        Err(errors) => return Ok(refuse(errors.iter().map(|error| located(error, &manifests)))),
    };
    tell(&applied, how)?;
    match args.wait {
        None => Ok(ExitCode::SUCCESS),
        Some(limit) => {
            let ids: Vec<ResourceId> = manifests.into_iter().map(|manifest| manifest.resource.id).collect();
            wait::until_ready(&api, &ids, limit.duration()).await
        }
    }
}

/// Lists what is wrong, one on a line.
fn refuse(errors: impl Iterator<Item = String>) -> ExitCode {
    errors.for_each(note);
    note("nothing was applied");
    ExitCode::FAILURE
}

/// The controller's error with the file and line in which its resource was written.
pub fn located(error: &ErrorItem, manifests: &[Manifest]) -> String {
    let of = |id: &str| manifests.iter().find(|manifest| manifest.resource.id.to_string() == id);
    let written = error.id.as_deref().and_then(of);
    let place = written.map(|manifest| match manifest.line {
        Some(line) => format!("{}:{line}", manifest.source),
        None => manifest.source.to_string(),
    });
    let path = Some(error.path.clone()).filter(|path| !path.is_empty());
    let message = printable(&error.message);
    [place, error.id.clone(), path, Some(message)].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// Tells what became of each resource, and in which revision.
///
/// # Errors
/// When standard output cannot be written.
pub fn tell(applied: &Applied, how: How) -> Result<()> {
    let suffix = if how == How::Do { "" } else { " (dry run)" };
    for outcome in &applied.results {
        print(format_args!("{} {}{suffix}\n", outcome.id, outcome.action))?;
    }
    if how == How::Do {
        note(format_args!("revision {}", applied.revision));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;
    use config::manifest::read;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(["apply"].into_iter().chain(line.split_whitespace())).map(|line| line.args)
    }

    #[test]
    fn the_arguments_have_rules() {
        let args = parse("-f a.yaml -f b.yaml c.yaml").unwrap();
        assert_eq!(args.files, ["a.yaml", "b.yaml", "c.yaml"].map(PathBuf::from));
        assert_eq!(args.wait, None);
        assert_eq!(parse("-f - --wait").unwrap().wait, "60s".parse().ok());
        assert_eq!(parse("--wait=500ms -f -").unwrap().wait, "500ms".parse().ok());
        for wrong in ["", "-f", "-f a --wait=soon", "-f a --wait --dry-run", "a.yaml"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_controllers_errors_are_shown_where_they_were_written() {
        let text = "\n\napiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {name: north}\n";
        let manifests = read(text, "shop.yaml", &Defaults::default()).unwrap();
        let error = |id: Option<&str>, path: &str| ErrorItem {
            id: id.map(str::to_owned),
            path: path.to_owned(),
            message: "no".to_owned(),
        };
        assert_eq!(located(&error(Some("Cluster/north"), "spec"), &manifests), "shop.yaml:3: Cluster/north: spec: no");
        assert_eq!(located(&error(Some("Cluster/south"), ""), &manifests), "Cluster/south: no");
        assert_eq!(located(&error(None, "prune"), &manifests), "prune: no");
    }
}
