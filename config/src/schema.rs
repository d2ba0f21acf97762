//! The manifests' language as a JSON Schema, so that editors complete and explain it. The manifest reader checks by
//! the same schema.

use std::sync::LazyLock;

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::resource::{
    API_VERSION, AccessPolicySpec, CertificateSpec, ClusterSpec, GlobalNamespaceSpec, Kind, NodeSpec,
    PublicServiceSpec, ServiceSpec,
};

static SCHEMA: LazyLock<Value> = LazyLock::new(build);

/// The JSON Schema (2020-12) of a manifest of any kind.
pub fn schema() -> Value {
    SCHEMA.clone()
}

/// The part of the schema with that name.
pub(crate) fn definition(name: &str) -> Option<&'static Value> {
    SCHEMA.get("$defs")?.get(name)
}

fn build() -> Value {
    let mut generator = SchemaGenerator::default();
    let manifests: Vec<(Kind, Value)> = Kind::ALL.map(|kind| (kind, manifest(kind, &mut generator))).into();
    let mut definitions = generator.take_definitions(true);
    add_key(&mut definitions);
    let one_of = manifests.iter().map(|(kind, _)| json!({ "$ref": format!("#/$defs/{kind}Manifest") }));
    let one_of: Vec<Value> = one_of.collect();
    definitions.extend(manifests.into_iter().map(|(kind, schema)| (format!("{kind}Manifest"), schema)));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tombolo manifest",
        "oneOf": one_of,
        "$defs": definitions,
    })
}

fn manifest(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let spec = match kind {
        Kind::Cluster => generator.subschema_for::<ClusterSpec>(),
        Kind::Node => generator.subschema_for::<NodeSpec>(),
        Kind::Service => generator.subschema_for::<ServiceSpec>(),
        Kind::GlobalNamespace => generator.subschema_for::<GlobalNamespaceSpec>(),
        Kind::PublicService => generator.subschema_for::<PublicServiceSpec>(),
        Kind::Certificate => generator.subschema_for::<CertificateSpec>(),
        Kind::AccessPolicy => generator.subschema_for::<AccessPolicySpec>(),
    };
    let name = generator.subschema_for::<crate::resource::Name>();
    // Of these kinds nothing in the spec is required.
    let bare = matches!(kind, Kind::Cluster | Kind::Node);
    let required: &[&str] =
        if bare { &["apiVersion", "kind", "metadata"] } else { &["apiVersion", "kind", "metadata", "spec"] };
    json!({
        "type": "object",
        "properties": {
            "apiVersion": { "const": API_VERSION, "type": "string" },
            "kind": { "const": kind.as_str(), "type": "string" },
            "metadata": metadata(kind, &name.to_value()),
            "spec": spec,
            "status": { "description": "What became of it; written by Tombolo, dropped when read." },
        },
        "required": required,
        "additionalProperties": false,
    })
}

fn metadata(kind: Kind, name: &Value) -> Value {
    let texts = |description: &str| json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": description });
    let names: &[&str] = match kind {
        Kind::Service => &["name", "cluster", "namespace"],
        Kind::Node => &["name", "cluster"],
        _ => &["name"],
    };
    let mut properties: Map<String, Value> = names.iter().map(|field| ((*field).to_owned(), name.clone())).collect();
    properties.insert("labels".to_owned(), texts("Free labels, by which resources are picked."));
    let notes = "Notes for people and other programs; Tombolo does not keep them.";
    properties.insert("annotations".to_owned(), texts(notes));
    json!({
        "type": "object",
        "description": "What makes it this resource, and its labels.",
        "properties": properties,
        "required": ["name"],
        "additionalProperties": false,
    })
}

/// What people write into a certificate's manifest and no resource ever holds.
fn add_key(definitions: &mut Map<String, Value>) {
    let key = json!({
        "type": "string",
        "writeOnly": true,
        "description": "The private key in PEM. Applying moves it into the vault.",
    });
    let spec = definitions.get_mut("CertificateSpec");
    if let Some(properties) = spec.and_then(|spec| spec.get_mut("properties")).and_then(Value::as_object_mut) {
        properties.insert("key".to_owned(), key);
    }
}
