//! `tombolo check`: what is wrong with manifests, told without a controller; and with the way between clusters.

mod peering;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use config::check::check;
use config::manifest::{Defaults, Manifest, ManifestError};
use config::resource::{Name, ResourceId};

use super::output::{note, print};
use super::{files, output};

/// Reads manifests, checks each and all together, and lists every error as FILE:LINE: RESOURCE: PATH: MESSAGE.
///
/// What only the controller knows is not checked: resources that aren't in these files, and whether a certificate's key
/// is its own; `tombolo apply --dry-run` checks that too.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Files, directories (their *.yaml, *.yml and *.json files), or - for standard input
    #[arg(value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// The cluster of services and nodes that name none, as in an agent's directory
    #[arg(long)]
    cluster: Option<Name>,
    /// The namespace of services that name none
    #[arg(long)]
    namespace: Option<Name>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Tests each step from the gateways of one cluster to those of another
    Peering(peering::Args),
}

/// Checks what was asked for.
pub async fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        Some(What::Peering(args)) => peering::run(args).await,
        None => manifests(args),
    }
}

/// Reads and lists. The list is what was asked for, so it goes to standard output.
fn manifests(args: &Args) -> Result<ExitCode> {
    let defaults = Defaults { cluster: args.cluster.clone(), namespace: args.namespace.clone() };
    let checked = files::read(&args.files, &defaults)?.and_then(|manifests| cross_check(&manifests));
    match checked {
        Ok(count) => {
            note(format_args!("{count} manifests, nothing wrong"));
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            errors.iter().try_for_each(|error| print(format_args!("{}\n", output::printable(&error.to_string()))))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How many there are, if they don't contradict one another.
fn cross_check(manifests: &[Manifest]) -> Result<usize, Vec<ManifestError>> {
    let resources: Vec<_> = manifests.iter().map(|manifest| Arc::new(manifest.resource.clone())).collect();
    let places: BTreeMap<&ResourceId, &Manifest> = manifests.iter().map(|m| (&m.resource.id, m)).collect();
    let located = |error: config::check::CheckError| {
        let place = places.get(&error.id);
        ManifestError {
            source: place.map(|manifest| manifest.source.clone()).unwrap_or_default(),
            line: place.and_then(|manifest| manifest.line),
            id: Some(error.id),
            fault: error.fault,
        }
    };
    match check(&BTreeMap::new(), &resources, &[]) {
        Ok(()) => Ok(resources.len()),
        Err(errors) => Err(errors.into_iter().map(located).collect()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::manifest::read_all;

    use super::*;

    fn public_service(name: &str) -> String {
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {{name: {name}}}\n\
             spec: {{globalNamespace: shop, service: web, port: 80, hosts: [{{name: www.example.com}}], \
             tls: {{certificate: selfSigned}}}}\n"
        )
    }

    #[test]
    fn a_contradiction_between_files_is_told_with_the_file() {
        let (one, two) = (public_service("web"), format!("---\n{}", public_service("web2")));
        let read = |texts: &[(&'static str, &str)]| read_all(texts.iter().copied(), &Defaults::default()).unwrap();
        assert_eq!(cross_check(&read(&[("one.yaml", &one)])).unwrap(), 1);
        let errors = cross_check(&read(&[("one.yaml", &one), ("two.yaml", &two)])).unwrap_err();
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let expected = "two.yaml:2: PublicService/shop/web2: spec.hosts[0].name: www.example.com is held by";
        assert!(lines.iter().all(|line| line.starts_with(expected)), "{lines:?}");
    }
}
