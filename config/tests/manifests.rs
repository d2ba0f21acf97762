//! Reading what people write, and refusing it well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use config::manifest::{self, Defaults, to_manifest};
use config::resource::{Condition, ConditionStatus, Status};
use config::schema::schema;
use serde_json::{Value, json};
use support::{assert_golden, listed, text};

const CLUSTER: &str = r#"{"apiVersion":"tombolo.dev/v1alpha1","kind":"Cluster","metadata":{"name":"north"}}"#;

fn ids(text: &str) -> Vec<String> {
    let manifests = manifest::read(text, "test.yaml", &Defaults::default());
    let manifests = manifests.unwrap_or_else(|errors| panic!("{}", listed(&errors)));
    manifests.iter().map(|manifest| manifest.resource.id.to_string()).collect()
}

fn errors(text: &str) -> String {
    listed(&manifest::read(text, "test.yaml", &Defaults::default()).unwrap_err())
}

/// The examples of the guide, which stand there as `yaml manifest`. Its certificates are shortened for readers.
fn guide() -> Vec<String> {
    let guide = text("../../docs/guides/manifests.md").replace('…', "AAAA");
    let example = |rest: &str| rest.split_once("```").map(|(example, _)| example.to_owned());
    guide.split("```yaml manifest\n").skip(1).filter_map(example).collect()
}

#[test]
fn every_error_is_named_with_its_place_and_remedy() {
    for name in ["shapes", "values"] {
        let file = format!("bad/{name}.yaml");
        let errors = listed(&manifest::read(&text(&file), &file, &Defaults::default()).unwrap_err());
        assert_golden(&format!("bad/{name}.errors"), &errors);
        for secret in ["c2VjcmV0", "PRIVATE KEY-----"] {
            assert!(!errors.contains(secret), "{errors}");
        }
    }
}

#[test]
fn the_guide_shows_every_kind_and_all_of_it_is_right() {
    let read: Vec<String> = guide().iter().flat_map(|example| ids(example)).collect();
    let mut kinds: Vec<&str> = read.iter().filter_map(|id| id.split('/').next()).collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        ["Cluster", "Node", "Service", "GlobalNamespace", "AccessPolicy", "PublicService", "Certificate"]
    );
}

#[test]
fn what_is_printed_reads_as_the_same_resource() {
    let ready = Condition {
        kind: "Ready".into(),
        status: ConditionStatus::True,
        reason: "Acknowledged".into(),
        message: String::new(),
    };
    let status = Status { revision: 7, conditions: vec![ready], ..Status::default() };
    for example in guide() {
        let mut manifest = manifest::read(&example, "guide", &Defaults::default()).unwrap().remove(0);
        let uploaded =
            manifest::from_json(vec![manifest.to_upload()], "upload", &Defaults::default()).unwrap().remove(0);
        assert_eq!(uploaded.resource, manifest.resource);
        assert_eq!(uploaded.key.map(|key| key.into_pem()), manifest.key.clone().map(|key| key.into_pem()));

        store_key(&mut manifest);
        let printed = to_manifest(&manifest.resource, Some(&status));
        assert_eq!(printed["status"]["revision"], 7);
        let yaml = serde_saphyr::to_string(&printed).unwrap();
        let again = manifest::read(&yaml, "again", &Defaults::default()).unwrap_or_else(|e| panic!("{}", listed(&e)));
        assert_eq!(again[0].resource, manifest.resource);
    }
}

/// What the controller does with an uploaded key.
fn store_key(manifest: &mut manifest::Manifest) {
    if let config::resource::Spec::Certificate(spec) = &mut manifest.resource.spec {
        assert!(manifest.key.take().unwrap().pem().contains("PRIVATE KEY"));
        spec.secret_ref = Some(config::resource::SecretRef { key_sha256: "ab".repeat(32).into() });
    }
}

#[test]
fn json_documents_lists_and_nothing_at_all_are_read() {
    assert_eq!(ids(CLUSTER), ["Cluster/north"]);
    assert_eq!(ids(&format!("[{CLUSTER}]")), ["Cluster/north"]);
    let list = format!("{{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"List\",\n\t\"items\": [{CLUSTER}]\n}}");
    assert_eq!(ids(&list), ["Cluster/north"]);
    assert_eq!(ids(&format!("---\n# nothing\n---\n{CLUSTER}\n---\n")), ["Cluster/north"]);
    assert!(ids("").is_empty());
    assert!(ids("kind: List\nitems: []").is_empty());
}

#[test]
fn syntax_errors_say_where() {
    assert!(errors("kind: Cluster\nmetadata: {name: north\n").starts_with("test.yaml:"));
    assert!(errors("kind: Cluster\nkind: Node\n").starts_with("test.yaml:2: "));
    let secret = errors("kind: Certificate\nspec:\n  key: |\n    c2VjcmV0\n  key: c2VjcmV0\n bad\n");
    assert!(!secret.contains("c2VjcmV0"), "{secret}");
}

#[test]
fn deep_and_self_multiplying_texts_are_refused() {
    let deep = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(errors(&deep).starts_with("test.yaml:"));
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    (1..40).for_each(|i| bomb.push_str(&format!("a{i}: &a{i} [*a{p}, *a{p}]\n", p = i - 1)));
    assert!(errors(&bomb).starts_with("test.yaml:"));
}

#[test]
fn a_directory_says_what_its_services_leave_out() {
    let service = "apiVersion: tombolo.dev/v1alpha1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{name: http, port: 80}]}";
    let defaults = Defaults { cluster: Some("north".parse().unwrap()), namespace: Some("shop".parse().unwrap()) };
    let manifests = manifest::read(service, "cart.yaml", &defaults).unwrap();
    assert_eq!(manifests[0].resource.id.to_string(), "Service/north/shop/cart");
    assert_eq!(manifests[0].line, Some(1));
    assert!(errors(service).contains("metadata.cluster: it is missing"));
}

#[test]
fn a_resource_stands_once_in_a_batch_of_files() {
    let errors = manifest::read_all([("a.yaml", CLUSTER), ("b.yaml", CLUSTER)], &Defaults::default()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().starts_with("b.yaml:1: Cluster/north: "), "{}", errors[0]);
    assert!(errors[0].fault.what.contains("a.yaml:1"));
}

#[test]
fn values_without_text_are_named_by_their_position() {
    let values = vec![serde_json::from_str(CLUSTER).unwrap(), json!({"kind": "Cluster"}), json!(5)];
    let errors = manifest::from_json(values, "manifests", &Defaults::default()).unwrap_err();
    assert!(errors.iter().any(|error| error.to_string().starts_with("manifests[1]: apiVersion: ")));
    assert!(errors.iter().any(|error| error.to_string().starts_with("manifests[2]: this is not a manifest")));
}

#[test]
fn the_schema_closes_every_object_and_explains_every_field() {
    fn visit(schema: &Value, path: &str) {
        let open = ["additionalProperties", "unevaluatedProperties"].iter().all(|closed| schema.get(*closed).is_none());
        let fields = schema.get("properties").and_then(Value::as_object);
        assert!(fields.is_none() || !open, "{path} is open");
        for (field, schema) in fields.into_iter().flatten() {
            let explained = ["description", "const", "$ref"].iter().any(|key| schema.get(*key).is_some());
            assert!(explained || path.contains("oneOf"), "{path}.{field} is not explained");
        }
    }
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    definitions.iter().for_each(|(name, schema)| visit(schema, name));
    assert_eq!(schema["oneOf"].as_array().unwrap().len(), 7);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = manifest::read(&text, "test.yaml", &Defaults::default());
    }

    #[test]
    fn no_damage_to_a_manifest_makes_it_panic(cut in 0usize..1500, insert in "[ -~\n]{0,3}") {
        let mut manifests = guide().join("---\n");
        let cut = (0..=cut.min(manifests.len())).rev().find(|cut| manifests.is_char_boundary(*cut)).unwrap_or(0);
        manifests.insert_str(cut, &insert);
        let _ = manifest::read(&manifests, "test.yaml", &Defaults::default());
    }
}
