//! What was, and the way back to it: whole or not at all, as one batch is.

use http::StatusCode;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::harness::{Running, manifest, refused, shop, start, web};

fn gns(name: &str, domain: &str) -> Value {
    manifest("GlobalNamespace", name, json!({"domain": domain}))
}

async fn batch(controller: &Running, body: Value) -> Result<Value, (StatusCode, String)> {
    let answer = controller.admin().post::<Value>("/v1alpha1/apply", &body).await;
    answer.map_err(|error| {
        let (status, errors) = refused(Err::<Value, _>(error));
        (status, format!("{errors:?}"))
    })
}

async fn rollback(controller: &Running, revision: u64) -> Result<Value, (StatusCode, String)> {
    let answer = controller.admin().post::<Value>("/v1alpha1/rollback", &json!({"revision": revision})).await;
    answer.map_err(|error| {
        let (status, errors) = refused(Err::<Value, _>(error));
        (status, format!("{errors:?}"))
    })
}

/// What is there, without its status.
async fn specs(controller: &Running, path: &str) -> Vec<Value> {
    let listed: Value = controller.admin().get(path).await.unwrap();
    let bare = |item: &Value| {
        let mut item = item.clone();
        item.as_object_mut().unwrap().remove("status");
        item
    };
    listed["items"].as_array().unwrap().iter().map(bare).collect()
}

const NOW: &str = "/v1alpha1/resources";

#[tokio::test]
async fn a_batch_writes_and_removes_all_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    batch(&controller, json!({"manifests": [gns("a", "a.internal"), gns("b", "b.internal")]})).await.unwrap();
    let before = specs(&controller, NOW).await;
    for (body, word) in [
        (json!({"manifests": [gns("c", "c.internal")], "removals": ["GlobalNamespace/gone"]}), "not there"),
        (json!({"manifests": [gns("a", "x.internal")], "removals": ["GlobalNamespace/a"]}), "same batch writes it"),
        (json!({"removals": ["GlobalNamespace/a", "Service/north/shop/cart"]}), "agent of north"),
        (json!({"manifests": [gns("c", "sub.a.internal")], "removals": ["GlobalNamespace/b"]}), "overlaps"),
        (json!({"manifests": [], "diff": true}), "dryRun"),
    ] {
        let (status, said) = batch(&controller, body).await.unwrap_err();
        assert!(status == StatusCode::UNPROCESSABLE_ENTITY && said.contains(word), "{word}: {status} {said}");
        assert_eq!(specs(&controller, NOW).await, before, "{word}");
    }
    let absent = json!({"removals": ["GlobalNamespace/a", "GlobalNamespace/gone"], "ignoreAbsent": true,
        "manifests": [gns("c", "sub.a.internal")]});
    let done = batch(&controller, absent).await.unwrap();
    assert_eq!(done["revision"], json!(2), "what is free by the removal may be taken in the same step: {done}");
    let names: Vec<_> = specs(&controller, NOW).await.iter().map(|item| item["metadata"]["name"].clone()).collect();
    assert_eq!(names, [json!("b"), json!("c")]);
    controller.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_too_long_is_refused_with_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let removals: Vec<String> = (0..20_001).map(|number| format!("Cluster/c{number}")).collect();
    let (status, said) = batch(&controller, json!({"removals": removals, "ignoreAbsent": true})).await.unwrap_err();
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && said.contains("20000 are the most"), "{status} {said}");
    let (status, said) = batch(&controller, json!({"manifests": ["x".repeat(9 << 20)]})).await.unwrap_err();
    assert!(status == StatusCode::PAYLOAD_TOO_LARGE && said.contains("8 MiB"), "{status} {said}");
    controller.stop().await;
}

#[tokio::test]
async fn the_history_tells_who_did_what_and_every_state_comes_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let mut states = vec![specs(&controller, NOW).await];
    for body in [
        json!({"manifests": [shop(&["north"]), gns("b", "b.internal")]}),
        json!({"manifests": [web("shop.example.com", json!("selfSigned"))], "removals": ["GlobalNamespace/b"]}),
        json!({"manifests": [gns("b", "c.internal"), web("www.example.com", json!("selfSigned"))]}),
        json!({"removals": ["PublicService/shop/web"]}),
    ] {
        batch(&controller, body).await.unwrap();
        states.push(specs(&controller, NOW).await);
    }
    let diff = json!({"revision": 2, "dryRun": true, "diff": true});
    let told: Value = controller.admin().post("/v1alpha1/rollback", &diff).await.unwrap();
    let made = told["results"].as_array().unwrap().iter().find(|result| result["action"] == "created").unwrap();
    assert_eq!(made["after"]["spec"]["hosts"][0]["name"], "shop.example.com", "{told}");
    assert_eq!(specs(&controller, NOW).await, states[4], "a dry run changes nothing");

    for (revision, state) in (0..).zip(states.clone()).chain([(3, states[3].clone())]) {
        assert_eq!(specs(&controller, &format!("{NOW}?revision={revision}")).await, state);
        rollback(&controller, revision).await.unwrap();
        assert_eq!(specs(&controller, NOW).await, state, "back at revision {revision}");
    }
    let told: Value = controller.admin().get("/v1alpha1/history?limit=100").await.unwrap();
    let rows = told["items"].as_array().unwrap();
    let row = |row: &Value| format!("{} {} {}", row["revision"], row["who"], row["what"]);
    let text: Vec<String> = rows.iter().map(row).collect();
    assert_eq!(text[0], r#"1 "admin" "apply""#);
    assert_eq!(text[3..5], [r#"4 "admin" "delete""#, r#"5 "admin" "rollback to 0""#]);
    let changes = json!([{"removed": "GlobalNamespace/b"}, {"created": "PublicService/shop/web"}]);
    assert_eq!(rows[1]["changes"], changes);
    let (status, said) = rollback(&controller, 99).await.unwrap_err();
    assert!(status == StatusCode::NOT_FOUND && said.contains("no revision 99"), "{status} {said}");
    controller.stop().await;
}

#[tokio::test]
async fn a_rollback_is_refused_whole_where_it_may_not_write() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    batch(&controller, json!({"manifests": [gns("a", "a.internal")]})).await.unwrap();
    let by_file = json!({"manifests": [gns("b", "b.internal")], "managedBy": "file", "prune": true});
    batch(&controller, by_file).await.unwrap();
    batch(&controller, json!({"removals": ["GlobalNamespace/a"]})).await.unwrap();
    let before = specs(&controller, NOW).await;
    // b would have to go, and is a file's.
    let (status, said) = rollback(&controller, 1).await.unwrap_err();
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && said.contains("managed by file"), "{status} {said}");
    batch(&controller, json!({"manifests": [], "managedBy": "file", "prune": true})).await.unwrap();
    // And now it would have to come back.
    let (_, said) = rollback(&controller, 3).await.unwrap_err();
    assert!(said.contains("was managed by file"), "{said}");
    assert_ne!(specs(&controller, NOW).await, before);

    let limited = controller.with_role("shop-team", "editor", &["shop"]).await;
    let (status, errors) = refused(limited.post::<Value>("/v1alpha1/rollback", &json!({"revision": 1})).await);
    assert!(status == StatusCode::FORBIDDEN && errors[0].message.contains("whole set"), "{status} {errors:?}");
    let editor = controller.with_role("some-editor", "editor", &[]).await;
    controller.apply(json!([manifest("Cluster", "west", json!({}))])).await.unwrap();
    let (status, errors) = refused(editor.post::<Value>("/v1alpha1/rollback", &json!({"revision": 4})).await);
    assert!(status == StatusCode::FORBIDDEN && errors[0].message.contains("needs admin"), "{status} {errors:?}");
    controller.stop().await;
}

#[tokio::test]
async fn no_cluster_leaves_or_joins_by_a_rollback() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    controller.apply(json!([gns("a", "a.internal")])).await.unwrap();
    for cluster in ["north", "south"] {
        let token = controller.token(cluster).await;
        controller.join(&token, cluster, false).await.unwrap();
    }
    // The one is as the join made it, the other was taken over by people since.
    let taken = json!({"workloads": [{"cidr": "10.0.0.0/8", "namespace": "shop"}]});
    controller.apply(json!([manifest("Cluster", "south", taken), gns("a", "b.internal")])).await.unwrap();
    rollback(&controller, 1).await.unwrap();
    let there = specs(&controller, NOW).await;
    let names: Vec<_> = there.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["north", "south", "a"]);
    assert_eq!(there[2]["spec"]["domain"], "a.internal");
    assert!(controller.handle.status().clusters.iter().all(|cluster| cluster.enrolled));
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_whose_key_is_gone_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let key = KeyPair::generate().unwrap();
    let chain = CertificateParams::new(vec!["shop.example.com".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let spec = json!({"globalNamespace": "shop", "certificate": chain, "key": key.serialize_pem()});
    controller.apply(json!([shop(&["north"]), manifest("Certificate", "c", spec)])).await.unwrap();
    batch(&controller, json!({"removals": ["Certificate/shop/c"]})).await.unwrap();
    let (status, said) = rollback(&controller, 1).await.unwrap_err();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
    assert!(said.contains("Certificate/shop/c") && said.contains("no such key, or no longer"), "{said}");
    controller.stop().await;
}

#[tokio::test]
async fn who_is_limited_is_told_why_a_rollback_is_not_theirs_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    controller.apply(json!([shop(&["north"])])).await.unwrap();
    controller.apply(json!([web("shop.example.com", json!("selfSigned"))])).await.unwrap();
    let before = specs(&controller, NOW).await;
    let editor = controller.with_role("shop-team", "editor", &["shop"]).await;
    for body in [json!({"revision": 1}), json!({"revision": 1, "dryRun": true}), json!({"revision": 99})] {
        let (status, errors) = refused(editor.post::<Value>("/v1alpha1/rollback", &body).await);
        let said = &errors[0].message;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(said.contains("concerns the whole set") && said.contains("limited to global namespaces"), "{said}");
        assert!(said.contains("tombolo get --revision"), "the remedy: {said}");
    }
    assert_eq!(specs(&controller, NOW).await, before);
    controller.stop().await;
}

#[tokio::test]
async fn history_comes_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    for number in 0..5 {
        controller.apply(json!([gns("a", &format!("a{number}.internal"))])).await.unwrap();
    }
    let page = async |query: &str| {
        let got: Value = controller.admin().get(&format!("/v1alpha1/history?{query}")).await.unwrap();
        let rows: Vec<u64> =
            got["items"].as_array().unwrap().iter().map(|row| row["revision"].as_u64().unwrap()).collect();
        (rows, got.get("more").is_some())
    };
    assert_eq!(page("limit=2").await, (vec![4, 5], false), "as many as were asked for");
    assert_eq!(page("limit=2&before=4").await, (vec![2, 3], false));
    assert_eq!(page("limit=9&before=3").await, (vec![1, 2], false));
    let got: Value = controller.admin().get("/v1alpha1/history").await.unwrap();
    assert_eq!(got["items"][0]["changes"], json!([{"created": "GlobalNamespace/a"}]));
    assert_eq!(got["items"][4]["changes"], json!([{"changed": "GlobalNamespace/a"}]));
    controller.stop().await;
}
