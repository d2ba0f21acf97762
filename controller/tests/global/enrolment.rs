//! How clusters join, renew, get their issuing CAs, and leave.

use controller::http::csr;
use controller::http::message::{Certified, Renewed};
use http::StatusCode;
use identity::{Facts, PrivateKey, SpiffeId};
use serde_json::{Value, json};

use config::wire::{Down, MemberRole};

use crate::connection::Kept;
use crate::harness::{agent_id, manifest, refused, shop, start};

fn request(id: &SpiffeId) -> String {
    csr::make(id, &PrivateKey::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_admits_its_own_cluster_once() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let token = controller.token("west").await;
    let (status, errors) = refused(controller.join(&token, "east", false).await.map(drop));
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(errors[0].message.contains("west, not east"), "{errors:?}");
    let identity = controller.join(&token, "west", false).await.unwrap();
    assert_eq!(identity.id(), &agent_id("west"));
    let (_, errors) = refused(controller.join(&token, "west", true).await.map(drop));
    assert!(errors[0].message.contains("used already"), "{errors:?}");
    let cluster: Value = controller.admin().get("/v1alpha1/resources/Cluster/west").await.unwrap();
    assert_eq!(
        (&cluster["metadata"]["labels"]["region"], &cluster["status"]["managedBy"]),
        (&json!("eu"), &json!("join"))
    );

    let other = tempfile::tempdir().unwrap();
    let elsewhere = start(&other).await;
    let mut foreign = elsewhere.token("west").await;
    foreign.address = controller.address.clone();
    assert!(controller.join(&foreign, "west", true).await.is_err(), "the CA that a token pins must answer");
    foreign.ca_sha256 = controller.token("x").await.ca_sha256;
    let (_, errors) = refused(controller.join(&foreign, "west", true).await.map(drop));
    assert!(errors[0].message.contains("not of this mesh"), "{errors:?}");
    elsewhere.stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_name_is_taken_until_it_is_replaced_and_then_the_old_agent_is_out() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let first = controller.join(&controller.token("west").await, "west", false).await.unwrap();
    let token = controller.token("west").await;
    let (status, errors) = refused(controller.join(&token, "west", false).await.map(drop));
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(errors[0].message.contains("--replace"), "{errors:?}");
    let renew = json!({"csr": request(&agent_id("west"))});
    let renewed: Renewed = controller.client(Some(&first)).post("/v1alpha1/renew", &renew).await.unwrap();
    assert!(renewed.certificate.starts_with("-----BEGIN CERTIFICATE"));
    let second = controller.join(&token, "west", true).await.unwrap();
    assert!(controller.client(Some(&first)).post::<Renewed>("/v1alpha1/renew", &renew).await.is_err());
    controller.client(Some(&second)).post::<Renewed>("/v1alpha1/renew", &renew).await.unwrap();
    let _: Value = controller.admin().delete("/v1alpha1/resources/Cluster/west").await.unwrap();
    assert!(controller.client(Some(&second)).post::<Renewed>("/v1alpha1/renew", &renew).await.is_err());
    controller.stop().await;
}

async fn is_shut_out(kept: &mut Kept) {
    let certify = json!({"globalNamespace": "shop", "csr": request(&agent_id("west"))});
    for (path, body) in [("/v1alpha1/renew", &json!({"csr": ""})), ("/v1alpha1/issuing", &certify)] {
        let (status, said) = kept.post(path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
        assert!(said.contains("with a new token"), "{said}");
    }
    let said = kept.hello("west", MemberRole::Agent).await;
    assert!(matches!(&said, Down::Goodbye { reason } if reason.contains("with a new token")), "{said:?}");
}

#[tokio::test]
async fn a_connection_that_was_kept_is_worth_no_more_than_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let first = controller.join(&controller.token("west").await, "west", false).await.unwrap();
    controller.apply(json!([shop(&["west"])])).await.unwrap();
    let mut kept = controller.kept(&first).await;
    assert!(matches!(kept.hello("west", MemberRole::Agent).await, Down::Welcome { .. }));
    let second = controller.join(&controller.token("west").await, "west", true).await.unwrap();
    is_shut_out(&mut kept).await;
    let mut kept = controller.kept(&second).await;
    let renew = json!({"csr": request(&agent_id("west"))});
    assert_eq!(kept.post("/v1alpha1/renew", &renew).await.0, StatusCode::OK);
    let _: Value = controller.admin().delete("/v1alpha1/resources/Cluster/west").await.unwrap();
    is_shut_out(&mut kept).await;
    controller.stop().await;
}

#[tokio::test]
async fn only_a_member_gets_an_issuing_ca_and_only_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let west = controller.join(&controller.token("west").await, "west", false).await.unwrap();
    let bank = manifest("GlobalNamespace", "bank", json!({"domain": "bank.internal"}));
    controller.apply(json!([shop(&["west"]), bank])).await.unwrap();
    let client = controller.client(Some(&west));
    let ask = |gns: &str, id: SpiffeId| {
        let (client, body) = (client.clone(), json!({"globalNamespace": gns, "csr": request(&id)}));
        async move { client.post::<Certified>("/v1alpha1/issuing", &body).await }
    };
    let chain = identity::pem::decode_certificates(&ask("shop", agent_id("west")).await.unwrap().chain).unwrap();
    let facts = Facts::read(&chain[0]).unwrap();
    assert!(facts.is_ca);
    assert_eq!(facts.subject.common_name.as_deref(), Some("west"));
    assert_eq!(refused(ask("shop", agent_id("east")).await).0, StatusCode::BAD_REQUEST);
    assert_eq!(refused(ask("bank", agent_id("west")).await).0, StatusCode::FORBIDDEN);
    assert_eq!(refused(ask("none", agent_id("west")).await).0, StatusCode::NOT_FOUND);
    let status = controller.handle.status();
    assert_eq!(status.authorities.len(), 2);
    assert!(status.fault.is_none());
    controller.stop().await;
}
