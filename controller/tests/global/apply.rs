//! What people do.

use std::os::unix::fs::PermissionsExt;

use controller::global::{Controller, Error};
use http::{Method, StatusCode};
use identity::PrivateKey;
use identity::ca::TopLevelCa;
use identity::pem::encode_certificates;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::harness::{manifest, refused, settings, shop, start, web};

const RESOURCES: &str = "/v1alpha1/resources";

/// A certificate for a host, and its key.
fn certificate(host: &str, made: OffsetDateTime) -> (String, String) {
    let (ca, key) = (TopLevelCa::create("elsewhere", made).unwrap(), PrivateKey::generate().unwrap());
    let chain = ca.issue_public([host], &key, made).unwrap();
    (encode_certificates(&chain), key.to_pem().to_string())
}

fn upload((chain, key): &(String, String)) -> Value {
    manifest("Certificate", "c", json!({"globalNamespace": "shop", "certificate": chain, "key": key}))
}

#[tokio::test]
async fn what_is_applied_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let mode = std::fs::metadata(directory.path().join("config/admin.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let batch = json!([shop(&["north"]), web("shop.example.com", json!("selfSigned"))]);
    let applied = controller.apply(batch.clone()).await.unwrap();
    assert_eq!(applied["revision"], json!(1));
    assert_eq!(applied["results"][0], json!({"id": "GlobalNamespace/shop", "action": "created"}));
    let again = controller.apply(batch).await.unwrap();
    assert_eq!((&again["revision"], &again["results"][1]["action"]), (&json!(1), &json!("unchanged")));
    let (token, ca) = (controller.admin.token.clone(), controller.admin.ca.clone());
    controller.stop().await;

    let controller = start(&directory).await;
    assert!(controller.admin.token == token && controller.admin.ca == ca, "the admin context changed");
    let got: Value = controller.admin().get(&format!("{RESOURCES}/PublicService/shop/web")).await.unwrap();
    assert_eq!((&got["status"]["revision"], &got["status"]["managedBy"]), (&json!(1), &json!("api")));
    assert_eq!(got["status"]["conditions"][0]["type"], json!("Ready"));
    assert_eq!(got["status"]["conditions"][0]["status"], json!("False"));
    let listed: Value = controller.admin().get(&format!("{RESOURCES}?kind=GlobalNamespace")).await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let deleted: Value = controller.admin().delete(&format!("{RESOURCES}/PublicService/shop/web")).await.unwrap();
    assert_eq!(deleted, json!({"revision": 2}));
    let gone = controller.admin().get::<Value>(&format!("{RESOURCES}/PublicService/shop/web")).await;
    assert_eq!(refused(gone).0, StatusCode::NOT_FOUND);
    controller.stop().await;
}

#[tokio::test]
async fn nothing_of_a_bad_batch_counts_and_every_error_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let expired = certificate("shop.example.com", OffsetDateTime::now_utc() - Duration::days(90));
    let batch = json!([
        shop(&["north"]),
        manifest("GlobalNamespace", "bank", json!({"domain": "a.shop.internal"})),
        upload(&expired),
        manifest("Service", "cart", json!({"ports": [{"name": "http", "port": 80}]})),
    ]);
    let (status, errors) = refused(controller.apply(batch).await);
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!errors.is_empty(), "{errors:?}");
    let batch = json!([
        shop(&["north"]),
        manifest("GlobalNamespace", "bank", json!({"domain": "a.shop.internal"})),
        upload(&expired),
        {"apiVersion": "tombolo.dev/v1alpha1", "kind": "Service",
            "metadata": {"name": "cart", "cluster": "north", "namespace": "shop"},
            "spec": {"ports": [{"name": "http", "port": 80}]}},
    ]);
    let (_, errors) = refused(controller.apply(batch).await);
    let all = errors.iter().map(|e| format!("{} {} {}", e.id.clone().unwrap_or_default(), e.path, e.message));
    let all = all.collect::<Vec<_>>().join("\n");
    for part in ["spec.domain", "Certificate/shop/c spec.certificate the certificate expired", "agent of north"] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    let listed: Value = controller.admin().get(RESOURCES).await.unwrap();
    assert_eq!(listed, json!({"items": []}));
    controller.stop().await;
}

#[tokio::test]
async fn certificates_must_fit_their_key_and_their_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let now = OffsetDateTime::now_utc();
    let (good, other) = (certificate("shop.example.com", now), certificate("other.example.com", now));
    let uploaded = json!({"uploaded": "c"});
    let apply = |certificate: Value| {
        controller.apply(json!([shop(&[]), certificate, web("shop.example.com", uploaded.clone())]))
    };
    let error = |result| refused(result).1.remove(0);
    let mismatched = error(apply(upload(&(good.0.clone(), other.1.clone()))).await);
    assert_eq!((mismatched.id.as_deref(), mismatched.path.as_str()), (Some("Certificate/shop/c"), "spec.key"));
    let keyless = manifest("Certificate", "c", json!({"globalNamespace": "shop", "certificate": good.0}));
    assert_eq!(error(apply(keyless).await).path, "spec.key");
    let uncovering = error(apply(upload(&other)).await);
    assert_eq!(uncovering.id.as_deref(), Some("PublicService/shop/web"));
    assert!(uncovering.message.contains("shop.example.com"), "{uncovering:?}");
    apply(upload(&good)).await.unwrap();
    // The vault has the key now; what it should cover still counts, and the key is never shown.
    let shown: Value = controller.admin().get(&format!("{RESOURCES}/Certificate/shop/c")).await.unwrap();
    assert_eq!(apply(shown.clone()).await.unwrap()["results"][1]["action"], json!("unchanged"));
    let mut unknown = shown;
    unknown["spec"]["secretRef"]["keySha256"] = json!("00".repeat(32));
    assert_eq!(error(apply(unknown).await).path, "spec.secretRef");
    let replaced = error(controller.apply(json!([upload(&other)])).await);
    assert_eq!((replaced.id.as_deref(), replaced.path.as_str()), (Some("Certificate/shop/c"), "spec.certificate"));
    let shown = controller.admin().bytes(Method::GET, RESOURCES, None).await.unwrap();
    assert!(!String::from_utf8_lossy(&shown).contains("PRIVATE KEY"));
    controller.stop().await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let body = json!({"manifests": [shop(&["north"])], "dryRun": true});
    let answer: Value = controller.admin().post("/v1alpha1/apply", &body).await.unwrap();
    assert_eq!(answer, json!({"revision": 0, "results": [{"id": "GlobalNamespace/shop", "action": "created"}]}));
    assert_eq!(controller.handle.status().revision, 0);
    controller.stop().await;
}

#[tokio::test]
async fn a_resource_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let by_file = |manifests: Value| json!({"manifests": manifests, "managedBy": "file", "prune": true});
    let admin = controller.admin();
    let bank = || manifest("GlobalNamespace", "bank", json!({"domain": "bank.internal"}));
    let _: Value = admin.post("/v1alpha1/apply", &by_file(json!([shop(&["north"]), bank()]))).await.unwrap();
    let (_, errors) = refused(controller.apply(json!([shop(&["south"])])).await);
    assert!(errors[0].message.contains("managed by file"), "{errors:?}");
    let (status, errors) = refused(admin.delete::<Value>(&format!("{RESOURCES}/GlobalNamespace/shop")).await);
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{errors:?}");
    let answer: Value = admin.post("/v1alpha1/apply", &by_file(json!([bank()]))).await.unwrap();
    assert_eq!(answer["results"][1], json!({"id": "GlobalNamespace/shop", "action": "removed"}));
    controller.stop().await;
}

#[tokio::test]
async fn without_a_token_nothing_is_told_or_changed() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let wrong = controller.stranger().with_bearer(Zeroizing::new("wrong".to_owned()));
    for client in [controller.stranger(), wrong] {
        for path in [RESOURCES, "/v1alpha1/status", "/v1alpha1/peers", "/v1alpha1/resources/Cluster/north"] {
            let (status, errors) = refused(client.get::<Value>(path).await);
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(errors[0].message.contains("admin context"), "{errors:?}");
        }
        for path in ["/v1alpha1/apply", "/v1alpha1/tokens", "/v1alpha1/issuing", "/v1alpha1/renew", "/v1alpha1/sync"] {
            assert_eq!(refused(client.post::<Value>(path, &json!({})).await).0, StatusCode::UNAUTHORIZED, "{path}");
        }
        assert_eq!(refused(client.get::<Value>("/v1alpha1/nothing").await).0, StatusCode::NOT_FOUND);
        let ca = client.bytes(Method::GET, "/v1alpha1/ca", None).await.unwrap();
        assert_eq!(ca, controller.admin.ca.as_bytes());
    }
    controller.stop().await;
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let long = json!({"manifests": ["x".repeat(9 * 1024 * 1024)]});
    let answer = controller.admin().post::<Value>("/v1alpha1/apply", &long).await;
    assert!(answer.is_err(), "{answer:?}");
    let unknown = json!({"manifests": [], "dryrun": true});
    let (status, errors) = refused(controller.admin().post::<Value>("/v1alpha1/apply", &unknown).await);
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(errors[0].message.contains("dryrun"), "{errors:?}");
    controller.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let other = tempfile::tempdir().unwrap();
    let port = controller.address.port;
    let busy = controller::global::Settings { listen: ([127, 0, 0, 1], port).into(), ..settings(other.path()) };
    let error = Controller::build(busy).err().unwrap();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    controller.stop().await;
    let renamed = controller::global::Settings { mesh: "other.example".into(), ..settings(directory.path()) };
    assert!(matches!(Controller::build(renamed), Err(Error::Authority(_))));
    let wrong = controller::global::Settings { advertised: vec!["not a host".into()], ..settings(directory.path()) };
    assert!(matches!(Controller::build(wrong), Err(Error::Advertised(_))));
}
