//! From one manifest's value to the resource it means.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::resource::{API_VERSION, Kind, Name, Resource, ResourceId, Spec};
use crate::validate::{self, Fault};

use super::{Defaults, UploadedKey, shape, suggest, unsupported};

/// What a manifest means.
pub(super) struct Parsed {
    pub(super) resource: Resource,
    pub(super) key: Option<UploadedKey>,
}

/// Why it means nothing, and whom it would have been about.
pub(super) struct Unparsed {
    pub(super) id: Option<ResourceId>,
    pub(super) faults: Vec<Fault>,
}

pub(super) fn parse(mut manifest: Value, defaults: &Defaults) -> Result<Parsed, Unparsed> {
    let kind = kind(&manifest).map_err(|fault| Unparsed { id: None, faults: vec![fault] })?;
    let key = take_key(kind, &mut manifest);
    let id = identity(kind, &manifest, defaults);
    let mut faults = shape::faults(kind, &manifest);
    if !faults.is_empty() {
        return Err(Unparsed { id: id.ok(), faults });
    }
    let resource =
        id.and_then(|id| resource(id, &manifest)).map_err(|fault| Unparsed { id: None, faults: vec![fault] })?;
    faults.extend(validate::faults(&resource));
    faults.extend(key_fault(&resource.spec, key.as_ref()));
    match faults.is_empty() {
        true => Ok(Parsed { resource, key }),
        false => Err(Unparsed { id: Some(resource.id), faults }),
    }
}

fn fault(path: &str, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault { path: path.to_owned(), what: what.into(), remedy: remedy.into() }
}

fn kind(manifest: &Value) -> Result<Kind, Fault> {
    let example = format!("begin with apiVersion: {API_VERSION} and kind: KIND");
    let Some(fields) = manifest.as_object() else { return Err(fault("", "this is not a manifest", example)) };
    let word = fields.get("kind").and_then(Value::as_str).ok_or_else(|| fault("kind", "it is missing", example))?;
    if unsupported::KINDS.contains(&word) {
        return Err(fault("kind", format!("{word} is not supported yet"), "remove the manifest"));
    }
    let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    known.ok_or_else(|| {
        let kinds = Kind::ALL.iter().map(|kind| kind.as_str()).chain(unsupported::KINDS);
        fault("kind", format!("there is no kind {word:?}"), suggest::remedy(word, kinds))
    })
}

/// Takes the key out, before anything else looks at the manifest. A key that is no text stays, for the shape check to
/// complain of.
fn take_key(kind: Kind, manifest: &mut Value) -> Option<UploadedKey> {
    let spec = manifest.get_mut("spec").filter(|_| kind == Kind::Certificate)?.as_object_mut()?;
    match spec.remove("key")? {
        Value::String(pem) => Some(UploadedKey(Zeroizing::new(pem))),
        other => {
            spec.insert("key".to_owned(), other);
            None
        }
    }
}

fn identity(kind: Kind, manifest: &Value, defaults: &Defaults) -> Result<ResourceId, Fault> {
    let written = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).and_then(|text| text.parse().ok());
    let needed = |path: &str, default: Option<&Name>| {
        let name = written(&format!("/{}", path.replace('.', "/"))).or_else(|| default.cloned());
        name.ok_or_else(|| fault(path, "it is missing", format!("add it: it is part of what a {kind} is known by")))
    };
    let name = || needed("metadata.name", None);
    let cluster = || needed("metadata.cluster", defaults.cluster.as_ref());
    let global_namespace = || needed("spec.globalNamespace", None);
    Ok(match kind {
        Kind::Cluster => ResourceId::Cluster(name()?),
        Kind::GlobalNamespace => ResourceId::GlobalNamespace(name()?),
        Kind::Node => ResourceId::Node { cluster: cluster()?, name: name()? },
        Kind::Service => ResourceId::Service {
            cluster: cluster()?,
            namespace: needed("metadata.namespace", defaults.namespace.as_ref())?,
            name: name()?,
        },
        Kind::PublicService => ResourceId::PublicService { global_namespace: global_namespace()?, name: name()? },
        Kind::Certificate => ResourceId::Certificate { global_namespace: global_namespace()?, name: name()? },
        Kind::AccessPolicy => ResourceId::AccessPolicy { global_namespace: global_namespace()?, name: name()? },
    })
}

fn resource(id: ResourceId, manifest: &Value) -> Result<Resource, Fault> {
    let labels = match manifest.pointer("/metadata/labels") {
        Some(labels) => parsed::<BTreeMap<String, String>>(labels, "metadata.labels")?,
        None => BTreeMap::new(),
    };
    let nothing = Value::Object(Map::new());
    let spec = manifest.get("spec").unwrap_or(&nothing);
    let spec = match id.kind() {
        Kind::Cluster => Spec::Cluster(parsed(spec, "spec")?),
        Kind::Node => Spec::Node(parsed(spec, "spec")?),
        Kind::Service => Spec::Service(parsed(spec, "spec")?),
        Kind::GlobalNamespace => Spec::GlobalNamespace(parsed(spec, "spec")?),
        Kind::PublicService => Spec::PublicService(parsed(spec, "spec")?),
        Kind::Certificate => Spec::Certificate(parsed(spec, "spec")?),
        Kind::AccessPolicy => Spec::AccessPolicy(parsed(spec, "spec")?),
    };
    Ok(Resource { id, labels, spec })
}

/// What the shape check let through parses, but for the names that are keys of a map.
fn parsed<T: DeserializeOwned>(value: &Value, path: &str) -> Result<T, Fault> {
    T::deserialize(value).map_err(|error| fault(path, error.to_string(), "correct it"))
}

fn key_fault(spec: &Spec, key: Option<&UploadedKey>) -> Option<Fault> {
    let Spec::Certificate(spec) = spec else { return None };
    match (key, &spec.secret_ref) {
        (None, None) => Some(fault("spec.key", "it is missing", "add the certificate's private key, in PEM")),
        (Some(_), Some(_)) => {
            Some(fault("spec.secretRef", "it says where another key is", "remove it: spec.key is what counts"))
        }
        (Some(UploadedKey(pem)), None) if !is_private_key(pem) => {
            Some(fault("spec.key", "this is not a private key in PEM", "paste the lines from BEGIN to END PRIVATE KEY"))
        }
        _ => None,
    }
}

/// Whether it looks like one; whether it is the certificate's is for those who can compute it.
fn is_private_key(pem: &str) -> bool {
    let marks =
        |mark: &str| pem.lines().filter(|l| l.starts_with(mark) && l.trim_end().ends_with("PRIVATE KEY-----")).count();
    marks("-----BEGIN ") == 1 && marks("-----END ") == 1
}
