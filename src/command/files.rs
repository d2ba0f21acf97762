//! Manifests from files, directories and standard input.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use config::manifest::{Defaults, Manifest, ManifestError, read_all};

/// Means standard input.
const STDIN: &str = "-";

/// Reads all manifests of these files, directories, or standard input (`-`), as one batch. The inner error has
/// everything that is wrong in them.
///
/// # Errors
/// When something cannot be read, or holds no manifest at all.
pub fn read(paths: &[PathBuf], defaults: &Defaults) -> Result<Result<Vec<Manifest>, Vec<ManifestError>>> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            texts.push(("standard input".to_owned(), read_stdin()?));
        } else {
            for file in files(path)? {
                let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                texts.push((file.display().to_string(), text));
            }
        }
    }
    let read = read_all(texts.iter().map(|(source, text)| (source.as_str(), text.as_str())), defaults);
    if read.as_ref().is_ok_and(Vec::is_empty) {
        bail!(
            "no manifest stands in {}",
            texts.iter().map(|(source, _)| source.as_str()).collect::<Vec<_>>().join(", ")
        );
    }
    Ok(read)
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}

/// The file itself, or the directory's manifests by name: those that an agent, too, would read.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let cannot = || format!("cannot read the directory {}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(cannot)? {
        let entry = entry.with_context(cannot)?.path();
        if is_manifest(&entry) && !entry.is_dir() {
            files.push(entry);
        }
    }
    if files.is_empty() {
        bail!("{} holds no *.yaml, *.yml or *.json file", path.display());
    }
    files.sort();
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cluster(name: &str) -> String {
        format!("apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\n")
    }

    #[test]
    fn a_directory_is_read_by_name_and_only_what_is_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for (name, text) in [("b.yaml", cluster("b")), ("a.yml", cluster("a")), ("c.json", "[]".to_owned())] {
            write(name, &text);
        }
        for other in ["notes.txt", ".b.yaml.swp", ".hidden.yaml", "b.yaml~"] {
            write(other, "not: [a manifest");
        }
        fs::create_dir(folder.path().join("d.yaml")).unwrap();
        let manifests = read(&[folder.path().to_owned()], &Defaults::default()).unwrap().unwrap();
        let ids: Vec<String> = manifests.iter().map(|manifest| manifest.resource.id.to_string()).collect();
        assert_eq!(ids, ["Cluster/a", "Cluster/b"]);
    }

    #[test]
    fn nothing_to_read_is_an_error_that_names_where() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: PathBuf| format!("{:#}", read(&[path], &Defaults::default()).unwrap_err());
        assert!(said(folder.path().to_owned()).contains("holds no *.yaml"));
        assert!(said(folder.path().join("none.yaml")).contains("none.yaml"));
        fs::write(folder.path().join("empty.yaml"), "# nothing\n").unwrap();
        assert!(said(folder.path().to_owned()).contains("no manifest stands in"));
    }
}
