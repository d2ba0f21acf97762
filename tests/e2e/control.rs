//! The controller, as people and their scripts see it.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::demo::{CLUSTERS, Demo};
use crate::support::http::{Answer, Protocol, empty, full};

fn gns(name: &str, domain: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\n\
         spec: {{domain: {domain}, members: [{{cluster: {{exact: north}}, namespace: {{exact: {name}}}}}]}}\n"
    )
}

fn public_service(name: &str, gns: &str, host: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {{name: {name}}}\n\
         spec: {{globalNamespace: {gns}, service: web, port: 8080, hosts: [{{name: {host}}}], \
         tls: {{certificate: selfSigned}}}}\n"
    )
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in: {text}");
}

#[tokio::test]
async fn what_is_applied_can_be_got_described_changed_and_deleted() {
    let demo = Demo::shared().await;
    demo.cli(|cli| {
        let id = "GlobalNamespace/books";
        assert_says(&cli.apply(&gns("books", "books.internal")).success(), &[id, "created"]);
        assert_says(&cli.apply(&gns("books", "books.internal")).success(), &[id, "unchanged"]);
        assert_says(&cli.apply(&gns("books", "library.internal")).success(), &[id, "changed"]);
        assert_says(&cli.run(&["get", "gns", "books"]).success(), &["KIND", "books"]);
        assert_eq!(cli.json(&["get", id])["spec"]["domain"], "library.internal");
        assert_says(&cli.run(&["describe", id]).success(), &[id, "Ready", "library.internal"]);
        // What `get` shows can be applied again.
        let shown = cli.run(&["get", id, "-o", "yaml"]).success();
        assert_says(&cli.apply(&shown).success(), &[id, "unchanged"]);
        assert_says(&cli.run(&["delete", id]).success(), &[id, "deleted"]);
        assert_says(&cli.run(&["get", id]).failure(), &[id]);
        assert_says(&cli.run(&["delete", id]).failure(), &[id]);
    });
}

#[tokio::test]
async fn status_tells_of_every_cluster_and_member() {
    let demo = Demo::shared().await;
    let text = demo.cli(|cli| cli.run(&["status"])).success();
    assert_says(&text, &["demo.internal", "connected"]);
    for cluster in CLUSTERS {
        for member in ["gw-a", "gw-b", "dns-a", "dns-b"] {
            let row = |line: &str| line.split_whitespace().take(2).eq([cluster, member]);
            assert!(text.lines().any(row), "{cluster}/{member} in: {text}");
        }
    }
}

#[tokio::test]
async fn peers_tells_of_the_tunnels_between_all_gateways_of_different_clusters() {
    let demo = Demo::shared().await;
    let tunnels = || async {
        let peers = demo.cli(|cli| cli.json(&["peers"]));
        let rows = peers["items"].as_array().unwrap();
        let ready = rows.iter().filter(|row| row["globalNamespace"] == "shop" && row["tunnels"].as_u64() >= Some(1));
        crate::support::holds(ready.count() == 6 * 4, || peers.to_string())
    };
    crate::support::eventually("each gateway has tunnels to four", tunnels).await;
}

#[tokio::test]
async fn check_reads_manifests_without_a_controller() {
    let demo = Demo::shared().await;
    demo.cli(|cli| {
        cli.with_manifests(&["check"], &gns("a", "a.internal")).success();
        let wrong = cli.with_manifests(&["check"], &gns("a", "not a domain"));
        assert!(!wrong.ok);
        assert_says(&wrong.stdout, &["shop.yaml:4", "GlobalNamespace/a", "spec.domain"]);
    });
}

#[tokio::test]
async fn schema_and_ca_are_printed() {
    let demo = Demo::shared().await;
    let schema = demo.cli(|cli| cli.run(&["schema"])).success();
    assert!(serde_json::from_str::<Value>(&schema).unwrap().is_object());
    assert_says(&schema, &["PublicService", "GlobalNamespace", "Certificate", "Cluster", "Service", "Node"]);
    assert_eq!(demo.cli(|cli| cli.run(&["ca"])).success(), demo.ca());
}

#[tokio::test]
async fn an_unknown_field_or_kind_is_refused_with_the_place_and_the_likely_word() {
    let demo = Demo::shared().await;
    let field = gns("typo", "typo.internal").replace("domain:", "domian:");
    let kind = gns("typo", "typo.internal").replace("GlobalNamespace", "GlobalNamespcae");
    let cases = [
        (field, vec!["shop.yaml:4", "GlobalNamespace/typo", "spec.domian", "did you mean domain?"]),
        (kind, vec!["shop.yaml:2", "GlobalNamespcae", "did you mean GlobalNamespace?"]),
        (gns("typo", "[1]"), vec!["shop.yaml:4", "spec.domain"]),
        ("apiVersion: [".to_owned(), vec!["shop.yaml:1"]),
    ];
    for (manifest, words) in cases {
        assert_says(&demo.cli(|cli| cli.apply(&manifest)).failure(), &words);
    }
}

#[tokio::test]
async fn kinds_and_fields_that_are_still_to_come_are_refused_by_name() {
    let demo = Demo::shared().await;
    let deny = "apiVersion: tombolo.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: later}\n\
                spec: {globalNamespace: shop, action: deny, from: [{globalNamespace: bank}]}\n";
    assert_says(&demo.cli(|cli| cli.apply(deny)).failure(), &["spec.action", "deny", "supported"]);
    let policy = gns("later", "later.internal").replace("GlobalNamespace", "TrafficPolicy");
    assert_says(&demo.cli(|cli| cli.apply(&policy)).failure(), &["TrafficPolicy", "supported"]);
}

#[tokio::test]
async fn a_name_that_stands_twice_is_refused_with_both_places() {
    let demo = Demo::shared().await;
    let twice = gns("twice", "one.internal") + "---\n" + &gns("twice", "two.internal");
    assert_says(&demo.cli(|cli| cli.apply(&twice)).failure(), &["shop.yaml:6", "shop.yaml:1", "GlobalNamespace/twice"]);
}

#[tokio::test]
async fn a_host_that_another_holds_is_refused_with_the_holder() {
    let demo = Demo::shared().await;
    let error = demo.cli(|cli| cli.apply(&public_service("thief", "shop", "shop.example.com"))).failure();
    assert_says(&error, &["shop.yaml:1", "PublicService/shop/thief", "shop.example.com", "PublicService/shop/web"]);
}

#[tokio::test]
async fn a_public_service_of_an_unknown_gns_is_taken_and_says_that_it_is_not_ready() {
    let demo = Demo::shared().await;
    demo.cli(|cli| {
        cli.apply(&public_service("early", "nowhere", "early.example.org")).success();
        let shown = cli.json(&["get", "ps/nowhere/early"]);
        let conditions = shown["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("UnknownGlobalNamespace")));
        assert_says(ready["message"].as_str().unwrap(), &["GlobalNamespace/nowhere"]);
        cli.run(&["delete", "ps/nowhere/early"]).success();
    });
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let demo = Demo::shared().await;
    demo.cli(|cli| {
        let told = cli.with_manifests(&["apply", "--dry-run", "-f"], &gns("dry", "dry.internal")).success();
        assert_says(&told, &["GlobalNamespace/dry", "created", "dry run"]);
        cli.run(&["get", "gns", "dry"]).failure();
    });
}

#[tokio::test]
async fn of_a_batch_with_one_wrong_manifest_nothing_is_applied() {
    let demo = Demo::shared().await;
    // That a host is taken only the controller knows, so the whole batch gets there.
    let batch = gns("batch", "batch.internal") + "---\n" + &public_service("batch", "shop", "shop.example.com");
    demo.cli(|cli| {
        assert_says(&cli.apply(&batch).failure(), &["PublicService/shop/batch", "nothing was applied"]);
        cli.run(&["get", "gns/batch"]).failure();
    });
}

/// One request to the API.
async fn call(demo: &Demo, method: Method, path: &str, bearer: Option<&str>, body: &str) -> Answer {
    // The controller's certificate names the address on which it listens.
    let (at, name) = (demo.controller(), demo.controller().ip().to_string());
    let mut connection = demo.client().https(at, &name, Protocol::Http2).await.unwrap();
    let mut headers = HeaderMap::new();
    if let Some(token) = bearer {
        headers.insert(header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    }
    let body = if body.is_empty() { empty() } else { full(body.to_owned()) };
    connection.send(method, path, headers, body).await.unwrap()
}

#[tokio::test]
async fn without_a_token_the_api_answers_401_and_does_nothing() {
    let demo = Demo::shared().await;
    let manifest = r#"{"apiVersion":"tombolo.dev/v1alpha1","kind":"GlobalNamespace","metadata":{"name":"sneaky"},"spec":{"domain":"sneaky.internal"}}"#;
    let apply = format!(r#"{{"manifests":[{manifest}]}}"#);
    for bearer in [None, Some("x"), Some("")] {
        for (method, path, body) in [
            (Method::POST, "/v1alpha1/apply", apply.as_str()),
            (Method::GET, "/v1alpha1/resources", ""),
            (Method::GET, "/v1alpha1/status", ""),
            (Method::GET, "/v1alpha1/peers", ""),
            (Method::DELETE, "/v1alpha1/resources/PublicService/shop/web", ""),
            (Method::POST, "/v1alpha1/tokens", r#"{"cluster":"north"}"#),
        ] {
            let answer = call(demo, method.clone(), path, bearer, body).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {answer:?}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        for path in ["/v1alpha1/sync", "/v1alpha1/issuing", "/v1alpha1/renew"] {
            let answer = call(demo, Method::POST, path, bearer, "{}").await;
            assert!(matches!(answer.status.as_u16(), 401 | 403), "{path} is for agents: {answer:?}");
        }
    }
    assert!(!demo.cli(|cli| cli.run(&["get", "gns/sneaky"])).ok);
    demo.cli(|cli| cli.run(&["get", "ps/shop/web"])).success();
}

#[tokio::test]
async fn what_is_no_api_request_is_answered_with_an_error_in_json() {
    let demo = Demo::shared().await;
    let context: Value = serde_json::from_slice(&std::fs::read(demo.context()).unwrap()).unwrap();
    let token = context["token"].as_str().unwrap();
    for (method, path, body, status) in [
        (Method::POST, "/v1alpha1/apply", "not JSON", 400),
        (Method::POST, "/v1alpha1/apply", r#"{"manifests":[7]}"#, 422),
        (Method::GET, "/v1alpha1/resources/PublicService/shop/nobody", "", 404),
        (Method::GET, "/v1alpha1/nothing", "", 404),
    ] {
        let answer = call(demo, method, path, Some(token), body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {answer:?}");
        assert!(answer.json()["errors"][0]["message"].is_string(), "{path} {body}: {answer:?}");
    }
}
