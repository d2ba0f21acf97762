//! `tombolo delete`: deletes resources, all or none.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use config::manifest::Defaults;
use config::resource::ResourceId;

use super::api::{Api, Batch, How};
use super::apply::located;
use super::output::{note, print};
use super::{context, files, kind};

/// Deletes resources: all of them, or, when anything is wrong, none. Deleting a cluster takes it out of the mesh.
#[derive(clap::Args)]
pub struct Args {
    /// The resources, as in PublicService/shop/web
    #[arg(value_name = "KIND/…/NAME", required_unless_present = "files", value_parser = kind::id)]
    ids: Vec<ResourceId>,
    /// Those that stand in a file, a directory, or standard input (-)
    #[arg(short, long = "file", value_name = "PATH", num_args = 1.., conflicts_with = "ids")]
    files: Vec<PathBuf>,
    /// Resources that aren't there are no error
    #[arg(long)]
    ignore_absent: bool,
    /// Check and tell what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Deletes all of them in one revision, or says why not.
pub async fn run(args: Args) -> Result<ExitCode> {
    let ids = if args.files.is_empty() { Ok(args.ids) } else { written(&args.files)? };
    let ids = match ids {
        Ok(ids) => ids,
        Err(code) => return Ok(code),
    };
    let api = Api::open(&args.context)?;
    let batch = Batch { removals: &ids, ignore_absent: args.ignore_absent, ..Batch::default() };
    match api.apply(&batch, How::of(args.dry_run)).await? {
        Ok(applied) => {
            let suffix = if args.dry_run { " (dry run)" } else { "" };
            applied.results.iter().try_for_each(|outcome| print(format_args!("{} deleted{suffix}\n", outcome.id)))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => Ok(refuse(errors.iter().map(|error| located(error, &[])))),
    }
}

fn refuse(errors: impl Iterator<Item = String>) -> ExitCode {
    errors.for_each(note);
    note("nothing was deleted");
    ExitCode::FAILURE
}

/// What stands in these files.
fn written(files: &[PathBuf]) -> Result<Result<Vec<ResourceId>, ExitCode>> {
    Ok(match files::read(files, &Defaults::default())? {
        Ok(manifests) => Ok(manifests.into_iter().map(|manifest| manifest.resource.id).collect()),
        Err(errors) => Err(refuse(errors.iter().map(ToString::to_string))),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn either_resources_or_files_are_named() {
        let parse = |line: &str| Line::try_parse_from(["delete"].into_iter().chain(line.split_whitespace()));
        assert_eq!(parse("ps/shop/web cluster/north").ok().unwrap().args.ids.len(), 2);
        assert_eq!(parse("-f a.yaml b.yaml").ok().unwrap().args.files.len(), 2);
        for wrong in ["", "web", "ps/shop/web -f a.yaml"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
