//! What people write: manifests in YAML or JSON, read strictly, with every error named.

mod document;
mod error;
mod parse;
mod path;
mod print;
mod shape;
mod suggest;
mod unsupported;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::resource::{Name, Resource, ResourceId};
use crate::validate::Fault;

use document::Document;
use parse::{Parsed, Unparsed};

pub use error::ManifestError;
pub use print::to_manifest;

/// The kind of a manifest that only holds others.
const LIST: &str = "List";

/// One resource as people wrote it, and where.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// What it means.
    pub resource: Resource,
    /// The private key that came with a certificate.
    pub key: Option<UploadedKey>,
    /// The file, or what else the text came from.
    pub source: Arc<str>,
    /// The line, from 1, in which it starts, where there is text.
    pub line: Option<usize>,
}

/// A private key in PEM that stood in a certificate's manifest, on its way into the vault. It is wiped from memory when
/// let go, and cannot be printed.
#[derive(Clone)]
pub struct UploadedKey(Zeroizing<String>);

impl UploadedKey {
    /// The key in PEM.
    pub fn pem(&self) -> &str {
        &self.0
    }

    /// The key in PEM, to keep.
    pub fn into_pem(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for UploadedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadedKey(…)")
    }
}

/// What counts where a manifest names no cluster or namespace: an agent's directory is its own cluster's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The cluster of a service or node.
    pub cluster: Option<Name>,
    /// The namespace of a service.
    pub namespace: Option<Name>,
}

impl Manifest {
    /// As it is sent to the controller: the only form that holds the key, so never to be shown or kept.
    pub fn to_upload(&self) -> Value {
        let mut manifest = to_manifest(&self.resource, None);
        if let (Some(key), Some(spec)) = (&self.key, manifest.get_mut("spec").and_then(Value::as_object_mut)) {
            spec.insert("key".to_owned(), key.pem().into());
        }
        manifest
    }
}

/// Reads the manifests of one text: YAML of any number of documents, or JSON; each document a manifest, a list of
/// them, or `kind: List`. `source` names the text in errors. Every error is listed.
pub fn read(text: &str, source: &str, defaults: &Defaults) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    read_all([(source, text)], defaults)
}

/// Reads the manifests of several texts, each with its name, as one batch: no resource may stand in it twice.
pub fn read_all<'t>(
    texts: impl IntoIterator<Item = (&'t str, &'t str)>,
    defaults: &Defaults,
) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let mut batch = Batch::default();
    for (source, text) in texts {
        let source: Arc<str> = source.into();
        match document::read(text) {
            Ok(documents) => documents.into_iter().for_each(|document| batch.add(document, &source, defaults)),
            Err(error) => batch.refuse_text(source, error),
        }
    }
    batch.finish()
}

/// Reads what came as values, as through the API. `source` names them in errors, each with its position.
pub fn from_json(values: Vec<Value>, source: &str, defaults: &Defaults) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let mut batch = Batch::default();
    for (i, value) in values.into_iter().enumerate() {
        batch.add(Document::of(value), &path::item(source, i).into(), defaults);
    }
    batch.finish()
}

/// Collects manifests and what is wrong with others.
#[derive(Default)]
struct Batch {
    manifests: Vec<Manifest>,
    errors: Vec<ManifestError>,
}

impl Batch {
    fn add(&mut self, mut document: Document, source: &Arc<str>, defaults: &Defaults) {
        match parse::parse(std::mem::take(&mut document.value), defaults) {
            Ok(Parsed { resource, key }) => {
                self.manifests.push(Manifest { resource, key, source: source.clone(), line: document.line("") });
            }
            Err(Unparsed { id, faults }) => {
                let error = |fault: Fault| {
                    let line = document.line(&fault.path);
                    ManifestError { source: source.clone(), line, id: id.clone(), fault }
                };
                let mut errors: Vec<ManifestError> = faults.into_iter().map(error).collect();
                errors.sort_by_key(|error| error.line);
                self.errors.extend(errors);
            }
        }
    }

    fn refuse_text(&mut self, source: Arc<str>, error: document::SyntaxError) {
        let remedy = "correct the YAML or JSON".to_owned();
        let fault = Fault { path: String::new(), what: error.what, remedy };
        self.errors.push(ManifestError { source, line: error.line, id: None, fault });
    }

    fn finish(mut self) -> Result<Vec<Manifest>, Vec<ManifestError>> {
        self.refuse_doubles();
        if self.errors.is_empty() { Ok(self.manifests) } else { Err(self.errors) }
    }

    fn refuse_doubles(&mut self) {
        let mut seen: BTreeMap<&ResourceId, &Manifest> = BTreeMap::new();
        for manifest in &self.manifests {
            let id = &manifest.resource.id;
            let Some(first) = seen.get(id) else {
                seen.insert(id, manifest);
                continue;
            };
            let line = first.line.map(|line| format!(":{line}")).unwrap_or_default();
            let what = format!("the same resource stands in {}{line}", first.source);
            let fault = Fault { path: "metadata.name".to_owned(), what, remedy: "remove one, or rename it".to_owned() };
            let (source, line) = (manifest.source.clone(), manifest.line);
            self.errors.push(ManifestError { source, line, id: Some(id.clone()), fault });
        }
    }
}
