//! Who may use the API for what, and what is written down of it.

use config::resource::Name;
use controller::http::client::{CallError, Client};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Running, manifest, refused, shop, start, web};

const TOKENS: &str = "/v1alpha1/api-tokens";
const AUDIT: &str = "/v1alpha1/audit";

impl Running {
    /// A client with a new token of that role, limited to these GNSs.
    pub async fn with_role(&self, name: &str, role: &str, gns: &[&str]) -> Client {
        let body = json!({"name": name, "role": role, "globalNamespaces": gns});
        let made: Value = self.admin().post(TOKENS, &body).await.unwrap();
        self.stranger().with_bearer(made["token"].as_str().unwrap().to_owned().into())
    }
}

async fn call(client: &Client, method: Method, path: &str, body: Option<&Value>) -> StatusCode {
    let body = body.map(|body| body.to_string().into());
    match client.bytes(method, path, body).await {
        Ok(_) => StatusCode::OK,
        Err(CallError::Refused { status, .. }) => status,
        Err(other) => panic!("{path}: {other}"),
    }
}

fn bank() -> Value {
    manifest("GlobalNamespace", "bank", json!({"domain": "bank.internal", "members": []}))
}

fn bank_web() -> Value {
    let hosts = json!([{"name": "bank.example.com"}]);
    let tls = json!({"certificate": "selfSigned"});
    manifest(
        "PublicService",
        "web",
        json!({"globalNamespace": "bank", "service": "till", "port": 80, "hosts": hosts, "tls": tls}),
    )
}

#[tokio::test]
async fn every_route_asks_for_the_role_that_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let roles = ["viewer", "editor", "admin"];
    let mut clients = vec![(0, controller.stranger())];
    for (level, role) in (1..).zip(roles) {
        clients.push((level, controller.with_role(&format!("some-{role}"), role, &[]).await));
    }
    let nothing = json!({"manifests": [], "dryRun": true});
    let cluster = json!({"manifests": [manifest("Cluster", "west", json!({}))], "dryRun": true});
    let back = json!({"revision": 0, "dryRun": true});
    let routes: [(Method, &str, Option<&Value>, usize, StatusCode); 15] = [
        (Method::GET, "/v1alpha1/resources", None, 1, StatusCode::OK),
        (Method::GET, "/v1alpha1/resources/Cluster/none", None, 1, StatusCode::NOT_FOUND),
        (Method::GET, "/v1alpha1/status", None, 1, StatusCode::OK),
        (Method::GET, "/v1alpha1/peers", None, 1, StatusCode::OK),
        (Method::POST, "/v1alpha1/apply", Some(&nothing), 2, StatusCode::OK),
        (Method::DELETE, "/v1alpha1/resources/PublicService/shop/none", None, 2, StatusCode::NOT_FOUND),
        (Method::POST, "/v1alpha1/apply", Some(&cluster), 3, StatusCode::OK),
        (Method::DELETE, "/v1alpha1/resources/Cluster/none", None, 3, StatusCode::NOT_FOUND),
        (Method::GET, TOKENS, None, 3, StatusCode::OK),
        (Method::DELETE, "/v1alpha1/api-tokens/none", None, 3, StatusCode::NOT_FOUND),
        (Method::GET, AUDIT, None, 3, StatusCode::OK),
        (Method::GET, "/v1alpha1/history", None, 1, StatusCode::OK),
        (Method::GET, "/v1alpha1/resources?revision=0", None, 1, StatusCode::OK),
        (Method::POST, "/v1alpha1/rollback", Some(&back), 2, StatusCode::OK),
        (Method::GET, "/v1alpha1/backup", None, 3, StatusCode::OK),
    ];
    for (method, path, body, least, allowed) in routes {
        for (level, client) in &clients {
            let expected = match level {
                0 => StatusCode::UNAUTHORIZED,
                level if *level < least => StatusCode::FORBIDDEN,
                _ => allowed,
            };
            assert_eq!(call(client, method.clone(), path, body).await, expected, "{method} {path} at level {level}");
        }
    }
    for body in [json!({"cluster": "west"}), json!({"name": "x", "role": "admin"})] {
        let path = if body.get("cluster").is_some() { "/v1alpha1/tokens" } else { TOKENS };
        for (level, client) in clients.iter().skip(1).take(2) {
            assert_eq!(call(client, Method::POST, path, Some(&body)).await, StatusCode::FORBIDDEN, "{path} at {level}");
        }
    }
    controller.stop().await;
}

#[tokio::test]
async fn who_is_limited_to_a_global_namespace_knows_and_changes_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    controller.apply(json!([shop(&["north"]), bank(), bank_web()])).await.unwrap();
    let editor = controller.with_role("shop-team", "editor", &["shop"]).await;
    let apply =
        async |manifests: Value| editor.post::<Value>("/v1alpha1/apply", &json!({ "manifests": manifests })).await;
    apply(json!([web("shop.example.com", json!("selfSigned"))])).await.unwrap();

    let listed: Value = editor.get("/v1alpha1/resources").await.unwrap();
    let names: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(names, ["GlobalNamespace", "PublicService"], "{listed}");
    assert!(!listed.to_string().contains("bank"), "{listed}");
    for hidden in ["GlobalNamespace/bank", "PublicService/bank/web"] {
        let path = format!("/v1alpha1/resources/{hidden}");
        assert_eq!(call(&editor, Method::GET, &path, None).await, StatusCode::NOT_FOUND, "{hidden}");
        assert_eq!(call(&editor, Method::DELETE, &path, None).await, StatusCode::FORBIDDEN, "{hidden}");
    }
    // One resource of another's spoils the batch, and the answer doesn't tell what there is.
    let (status, errors) =
        refused(apply(json!([web("www.example.com", json!("selfSigned")), bank_web(), shop(&[])])).await);
    assert_eq!(status, StatusCode::FORBIDDEN);
    let ids: Vec<_> = errors.iter().filter_map(|error| error.id.as_deref()).collect();
    assert_eq!(ids, ["PublicService/bank/web", "GlobalNamespace/shop"]);
    assert!(errors.iter().all(|error| error.message.contains("limited to the global namespaces shop")), "{errors:?}");
    let web: Value = controller.admin().get("/v1alpha1/resources/PublicService/shop/web").await.unwrap();
    assert_eq!(web["spec"]["hosts"][0]["name"], json!("shop.example.com"), "nothing of the batch counts");

    let prune = json!({"manifests": [], "managedBy": "file", "prune": true});
    assert_eq!(call(&editor, Method::POST, "/v1alpha1/apply", Some(&prune)).await, StatusCode::FORBIDDEN);
    for mesh_wide in ["/v1alpha1/status", "/v1alpha1/peers", TOKENS, AUDIT] {
        assert_eq!(call(&editor, Method::GET, mesh_wide, None).await, StatusCode::FORBIDDEN, "{mesh_wide}");
    }
    let limited_admin = json!({"name": "x", "role": "admin", "globalNamespaces": ["shop"]});
    assert_eq!(call(&controller.admin(), Method::POST, TOKENS, Some(&limited_admin)).await, StatusCode::CONFLICT);
    controller.stop().await;
}

#[tokio::test]
async fn a_revoked_or_ended_token_is_refused_at_once_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let viewer = controller.with_role("ci", "viewer", &[]).await;
    let brief = json!({"name": "brief", "role": "viewer", "expiresIn": "1ms"});
    let brief: Value = controller.admin().post(TOKENS, &brief).await.unwrap();
    let brief = brief["token"].as_str().unwrap().to_owned();
    let brief = controller.stranger().with_bearer(brief.into());
    assert_eq!(call(&brief, Method::GET, "/v1alpha1/status", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(call(&viewer, Method::GET, "/v1alpha1/status", None).await, StatusCode::OK);
    let again = json!({"name": "ci", "role": "admin"});
    assert_eq!(call(&controller.admin(), Method::POST, TOKENS, Some(&again)).await, StatusCode::CONFLICT);
    assert_eq!(call(&controller.admin(), Method::DELETE, "/v1alpha1/api-tokens/ci", None).await, StatusCode::OK);
    assert_eq!(call(&viewer, Method::GET, "/v1alpha1/status", None).await, StatusCode::UNAUTHORIZED);
    let last = call(&controller.admin(), Method::DELETE, "/v1alpha1/api-tokens/admin", None).await;
    assert_eq!(last, StatusCode::CONFLICT, "somebody must administer the mesh");
    controller.stop().await;
    let controller = start(&directory).await;
    let rows: Value = controller.admin().get(TOKENS).await.unwrap();
    let names: Vec<&str> = rows["items"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "brief"]);
    controller.stop().await;
}

#[tokio::test]
async fn who_shows_wrong_tokens_is_not_listened_to_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let wrong = controller.stranger().with_bearer("no".to_owned().into());
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(call(&wrong, Method::GET, "/v1alpha1/status", None).await);
    }
    assert_eq!(statuses[0], StatusCode::UNAUTHORIZED);
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS));
    let began = std::time::Instant::now();
    while call(&controller.admin(), Method::GET, "/v1alpha1/status", None).await != StatusCode::OK {
        assert!(began.elapsed().as_secs() < 10, "a right token is never listened to again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    controller.stop().await;
}

#[tokio::test]
async fn every_change_and_certificate_is_written_down_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(&directory).await;
    let north: Name = "north".parse().unwrap();
    let token = controller.token(north.as_str()).await;
    controller.join(&token, "north", false).await.unwrap();
    controller.apply(json!([shop(&["north"]), web("shop.example.com", json!("selfSigned"))])).await.unwrap();
    let ada = controller.with_role("ada", "editor", &["shop"]).await;
    assert_eq!(call(&ada, Method::DELETE, "/v1alpha1/resources/PublicService/shop/web", None).await, StatusCode::OK);
    let dry = json!({"manifests": [bank()], "dryRun": true});
    assert_eq!(call(&controller.admin(), Method::POST, "/v1alpha1/apply", Some(&dry)).await, StatusCode::OK);

    let audit: Value = controller.admin().get(AUDIT).await.unwrap();
    let line = |entry: &Value| {
        let on: Vec<&str> = entry["on"].as_array().unwrap().iter().map(|on| on.as_str().unwrap()).collect();
        (entry["who"].as_str().unwrap().to_owned(), entry["what"].as_str().unwrap().to_owned(), on.join(" "))
    };
    let entries = audit["items"].as_array().unwrap();
    let lines: Vec<_> = entries.iter().map(line).collect();
    let expected = [
        ("this process", "token.create", "admin"),
        ("admin", "joinToken.create", "north"),
        ("join token of north", "join", "north"),
        ("join token of north", "certificate.issue", "spiffe://mesh.example/cluster/north/agent"),
        ("admin", "apply", "GlobalNamespace/shop created PublicService/shop/web created"),
        ("controller", "certificate.issue", "shop.mesh.example"),
        ("controller", "certificate.issue", "shop.example.com"),
        ("admin", "token.create", "ada"),
        ("ada", "delete", "PublicService/shop/web removed"),
    ];
    let expected = expected.map(|(who, what, on)| (who.to_owned(), what.to_owned(), on.to_owned()));
    assert_eq!(lines, expected, "{audit:#}");
    assert!(entries.iter().all(|entry| entry["at"].as_str().unwrap().ends_with('Z')));
    assert_eq!((&entries[4]["from"], &entries[4]["details"]["revision"]), (&json!("127.0.0.1"), &json!("2")));
    let newest: Value = controller.admin().get("/v1alpha1/audit?limit=1").await.unwrap();
    assert_eq!(newest["items"].as_array().unwrap().iter().map(line).collect::<Vec<_>>(), expected[8..]);

    let log = std::fs::read_to_string(directory.path().join("state/audit.log")).unwrap();
    for secret in [token.secret.as_str(), controller.admin.token.as_str(), "PRIVATE"] {
        assert!(!log.contains(secret));
    }
    controller.stop().await;
}
