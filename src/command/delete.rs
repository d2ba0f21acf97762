//! `tombolo delete`: deletes resources.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use config::manifest::Defaults;
use config::resource::ResourceId;

use super::api::Api;
use super::output::{note, print};
use super::{context, files, kind};

/// Deletes resources, one after another. Deleting a cluster takes it out of the mesh.
#[derive(clap::Args)]
pub struct Args {
    /// The resources, as in PublicService/shop/web
    #[arg(value_name = "KIND/…/NAME", required_unless_present = "files", value_parser = kind::id)]
    ids: Vec<ResourceId>,
    /// Those that stand in a file, a directory, or standard input (-)
    #[arg(short, long = "file", value_name = "PATH", num_args = 1.., conflicts_with = "ids")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Deletes what can be deleted, and fails if anything couldn't.
pub async fn run(args: Args) -> Result<ExitCode> {
    let ids = if args.files.is_empty() { Ok(args.ids) } else { written(&args.files)? };
    let ids = match ids {
        Ok(ids) => ids,
        Err(code) => return Ok(code),
    };
    let api = Api::open(&args.context)?;
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match api.delete(&id).await {
            Ok(()) => print(format_args!("{id} deleted\n"))?,
            Err(error) => {
                note(format_args!("{id}: {error}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// What stands in these files; what depends on other things usually stands after them, and is deleted first.
fn written(files: &[PathBuf]) -> Result<Result<Vec<ResourceId>, ExitCode>> {
    match files::read(files, &Defaults::default())? {
        Ok(manifests) => Ok(Ok(manifests.into_iter().rev().map(|manifest| manifest.resource.id).collect())),
        Err(errors) => {
            errors.iter().for_each(note);
            note("nothing was deleted");
            Ok(Err(ExitCode::FAILURE))
        }
    }
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
