//! From a resource back to its manifest.

use serde::Serialize;
use serde_json::{Value, json};

use crate::resource::{API_VERSION, Resource, ResourceId, Spec, Status};

/// The manifest that means the resource, and what became of it. Reading it again gives the same resource.
pub fn to_manifest(resource: &Resource, status: Option<&Status>) -> Value {
    let mut manifest = json!({
        "apiVersion": API_VERSION,
        "kind": resource.id.kind(),
        "metadata": metadata(resource),
        "spec": spec(&resource.spec),
    });
    if let (Some(status), Some(fields)) = (status, manifest.as_object_mut()) {
        fields.insert("status".to_owned(), value(status));
    }
    manifest
}

fn metadata(resource: &Resource) -> Value {
    let mut metadata = match &resource.id {
        ResourceId::Service { cluster, namespace, name } => {
            json!({ "name": name, "cluster": cluster, "namespace": namespace })
        }
        ResourceId::Node { cluster, name } => json!({ "name": name, "cluster": cluster }),
        other => json!({ "name": other.name() }),
    };
    if let (false, Some(fields)) = (resource.labels.is_empty(), metadata.as_object_mut()) {
        fields.insert("labels".to_owned(), value(&resource.labels));
    }
    metadata
}

fn spec(spec: &Spec) -> Value {
    match spec {
        Spec::Cluster(spec) => value(spec),
        Spec::Node(spec) => value(spec),
        Spec::Service(spec) => value(spec),
        Spec::GlobalNamespace(spec) => value(spec),
        Spec::PublicService(spec) => value(spec),
        Spec::Certificate(spec) => value(spec),
        Spec::AccessPolicy(spec) => value(spec),
    }
}

/// Resources have text keys only, so nothing here can fail.
fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}
