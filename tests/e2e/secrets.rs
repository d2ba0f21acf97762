//! Who may use the API, what seals the store, and that no secret goes where it doesn't belong.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::certs::Authority;
use crate::support::cli::{Cli, Said};
use crate::support::demo::ADMIN;
use crate::support::http::{Protocol, plain};
use crate::support::router::{Router, address, public, shop};
use crate::support::upstream::service;
use crate::support::{eventually, holds};

const UP: &str = "an agent is connected";

fn manifests(network: u8) -> String {
    let cart = service("local", "cart", &[(address(network, 2), 9000).into()]);
    shop("127.0.0.0/8") + &public("shop", "cart", 8080, "{certificate: selfSigned}") + &cart
}

#[tokio::test]
async fn a_token_allows_what_its_role_says_until_it_is_revoked_and_all_is_written_down() {
    let mut router = Router::start(address(66, 1), &manifests(66), &[]);
    router.until_said(UP).await;
    let saved = router.folder().join("ci.yaml");
    let save = format!("--save={}", saved.display());
    router.cli(|cli| cli.run(&["token", "create", "--role=viewer", "--name=ci", "--gns=shop", &save])).success();
    let ci = |args: &[&str]| -> Said { Cli { context: &saved }.run(args) };
    assert!(ci(&["get"]).success().contains("PublicService"));
    for (args, what) in [
        (&["delete", "gns/shop"][..], "has the role viewer, and this needs editor"),
        (&["status"], "limited to the global namespaces shop"),
        (&["audit"], "needs admin"),
        (&["token", "create", "--cluster=west"], "needs admin"),
        (&["token", "create", "--role=admin", "--name=me"], "needs admin"),
        (&["token", "revoke", "admin"], "needs admin"),
    ] {
        let said = ci(args).failure();
        assert!(said.contains(what), "{args:?}: {said}");
    }
    let listed = router.cli(|cli| cli.run(&["token", "list"])).success();
    assert!(listed.lines().any(|line| line.starts_with("ci") && line.contains("viewer  shop")), "{listed}");
    router.cli(|cli| cli.run(&["token", "revoke", "ci"])).success();
    assert!(ci(&["get"]).failure().contains("was revoked"));
    let audit = router.cli(|cli| cli.json(&["audit"]));
    let whats: Vec<_> = audit["items"].as_array().unwrap().iter().map(|item| (&item["who"], &item["what"])).collect();
    let (who, create, revoke) = (json!("admin"), json!("token.create"), json!("token.revoke"));
    assert_eq!(whats[whats.len() - 2..], [(&who, &create), (&who, &revoke)], "{audit:#}");
    for (args, what) in [
        (&["token", "create"][..], "--cluster"),
        (&["token", "create", "--role=viewer"], "--name"),
        (&["token", "create", "--role=root", "--name=x"], "is no role"),
        (&["token", "create", "--role=admin", "--cluster=west", "--name=x"], "cannot be used with"),
        (&["token", "create", "--role=admin", "--name=x", "--gns=shop"], "not limited"),
        (&["token", "revoke", "admin"], "the last admin's"),
    ] {
        let said = router.cli(|cli| cli.run(args)).failure();
        assert!(said.contains(what), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn a_sealed_store_opens_with_its_key_only_and_changes_over_to_another() {
    let mut router = Router::start(address(67, 1), &manifests(67), &[]);
    router.until_said(UP).await;
    let ca = router.cli(|cli| cli.run(&["ca"])).success();
    let own = router.state().join("controller/vault.key");
    assert!(own.exists());
    let keys = ["1a", "2b", "3c"].map(|byte| byte.repeat(32));
    let file = router.folder().join("seal.key");
    identity::files::write_private(&file, keys[0].as_bytes()).unwrap();
    let given = format!("--seal-key-file={}", file.display());

    let mut router = router.again(&[&given], &[]);
    router.until_said(UP).await;
    assert!(!own.exists(), "the vault's own key seals nothing any more");
    let (old, new) = ("TOMBOLO_OLD_SEAL_KEY", "TOMBOLO_SEAL_KEY");
    for (variables, what) in [
        (&[][..], "which isn't here: give it with --seal-key-file"),
        (&[(new, keys[1].as_str())], "to seal it anew, also the old one"),
        (&[(new, &keys[1]), (old, &keys[2])], "to seal it anew, also the old one"),
        (&[(new, "s3cret")], "TOMBOLO_SEAL_KEY is no sealing key"),
        (&[(old, &keys[0])], "none to change over to"),
    ] {
        router = router.again(&[], variables);
        assert!(!router.process.wait().success());
        let said = router.process.log();
        assert!(said.contains(what) && !said.contains("s3cret"), "{said}");
    }
    let flags = [given.as_str(), &format!("--old-seal-key-file={}", file.display())];
    let mut router = router.again(&flags[..1], &[]);
    router.until_said(UP).await;
    let mut router = router.again(&flags[1..], &[(new, &keys[1])]);
    router.until_said(UP).await;
    assert_eq!(router.cli(|cli| cli.run(&["ca"])).success(), ca, "it is the same mesh");
    let mut router = router.again(&flags[..1], &[]);
    assert!(!router.process.wait().success(), "the old key opens nothing any more");
}

#[tokio::test]
async fn no_key_or_token_is_in_any_log_or_answer() {
    let folder = tempfile::tempdir().unwrap();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let cart = folder.path().join("cart");
    let workload = format!("--workload=shop/cart,uid={uid},dir={}", cart.display());
    let router = Router::start(address(68, 1), &manifests(68), &[]);
    let ours = ["", "_controller", "_gateway", "_identity", "_dns", "_config", "_decide"];
    let level = ours.map(|name| format!("tombolo{name}=trace")).join(",");
    let mut router = router.again(&[&workload], &[("RUST_LOG", level.as_str())]);
    router.until_said("a workload's certificate was issued").await;
    let made = ["token create --cluster=west", "token create --role=editor --name=ci"];
    let tokens = made.map(|args| router.cli(|cli| cli.run(&args.split(' ').collect::<Vec<_>>())).success());
    let issue = format!(
        "certs issue --gns=shop --service=shop/cart --agent={} --out={}",
        router.state().join("agent/member.token").display(),
        folder.path().join("issued").display()
    );
    router.cli(|cli| cli.run(&issue.split(' ').collect::<Vec<_>>())).success();

    let mut said = vec![("log".to_owned(), router.process.log())];
    for args in [
        "get -o=json",
        "get -o=yaml",
        "describe ps/shop/shop gns/shop cl/local",
        "status -o=json",
        "peers -o=json",
        "audit -o=json",
        "token list -o=json",
        "ca",
    ] {
        let answer = router.cli(|cli| cli.run(&args.split(' ').collect::<Vec<_>>())).success();
        said.push((args.to_owned(), answer));
    }
    for (port, path) in [(ADMIN, "/metrics"), (ADMIN, "/v1/health"), (ADMIN + 1, "/metrics")] {
        let mut connection = plain([127, 0, 0, 1].into(), router.at(port), "admin", Protocol::Http1).await.unwrap();
        let answer = connection.get(path).await.unwrap();
        said.push((path.to_owned(), String::from_utf8_lossy(&answer.body).into_owned()));
    }
    for log in ["controller/audit.log", "agent/audit.log"] {
        said.push((log.to_owned(), std::fs::read_to_string(router.state().join(log)).unwrap()));
    }
    let mut secrets: Vec<String> = tokens.iter().map(|token| token.trim().to_owned()).collect();
    collect(&router.state(), &mut secrets);
    collect(folder.path(), &mut secrets);
    secrets.extend(token_secrets(&secrets));
    let context: serde_json::Value = serde_json::from_slice(&std::fs::read(router.context()).unwrap()).unwrap();
    secrets.push(context["token"].as_str().unwrap().to_owned());
    assert!(secrets.len() > 12, "keys of all kinds were found: {}", secrets.len());
    for (place, text) in &said {
        let found = secrets.iter().find(|secret| text.contains(secret.as_str()));
        assert!(found.is_none(), "a secret stands in {place}: {found:?}");
    }
}

/// The private keys and tokens in the files of a directory: of PEM each line that is long enough to be told.
fn collect(directory: &Path, secrets: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, secrets);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        if path.ends_with("vault.key") {
            secrets.extend([STANDARD.encode(&bytes), bytes.iter().map(|byte| format!("{byte:02x}")).collect()]);
        }
        let text = String::from_utf8_lossy(&bytes);
        secrets.extend(text.lines().filter(|line| line.starts_with("tombolo1.")).map(str::to_owned));
        for block in text.split("-----BEGIN PRIVATE KEY-----").skip(1) {
            let body = block.split("-----END").next().unwrap();
            // The first line of a PKCS #8 key says its type, and is the same for all.
            secrets.extend(body.lines().skip(2).filter(|line| line.len() > 20).map(str::to_owned));
        }
    }
}

/// The secrets within tokens.
fn token_secrets(tokens: &[String]) -> Vec<String> {
    let read = |token: &String| {
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.strip_prefix("tombolo1.")?).ok()?;
        let fields: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some(fields["secret"].as_str()?.to_owned())
    };
    tokens.iter().filter_map(read).collect()
}

#[tokio::test]
async fn a_dns_server_is_given_neither_certificates_nor_keys_of_hosts() {
    let (host, authority) = ("cart.example.com", Authority::new("a customer's CA"));
    let issued = authority.issue(host);
    let certificate = json!({
        "apiVersion": "tombolo.dev/v1alpha1", "kind": "Certificate", "metadata": { "name": "own" },
        "spec": { "globalNamespace": "shop", "certificate": issued.certificate, "key": issued.key },
    });
    let uploaded = public("cart", "cart", 8080, "{certificate: {uploaded: own}}");
    let made = public("shop", "cart", 8080, "{certificate: selfSigned}");
    let cart = service("local", "cart", &[(address(73, 2), 9000).into()]);
    let manifests = format!("{}{uploaded}{made}{certificate}\n---\n{cart}", shop("127.0.0.0/8"));
    let router = Router::start(address(73, 1), &manifests, &[]);
    let (gateway, dns) = (router.state().join("gateway"), router.state().join("dns"));
    let [chain, key] = [&issued.certificate, &issued.key].map(|pem| pem.lines().nth(2).unwrap());
    let known = async || {
        let kept = [chain, key, "hostCertificate/shop/shop"].iter().all(|text| stands_in(&gateway, text));
        let named = ["cart.example.com", "shop.example.com"].iter().all(|host| stands_in(&dns, host));
        holds(kept && named, || format!("at the gateway: {kept}, at the DNS server: {named}"))
    };
    eventually("both know the hosts", known).await;
    for text in [chain, key, "hostCertificate/", "keySha256"] {
        assert!(!stands_in(&dns, text), "{text} is on a DNS server's disk");
    }
    assert!(std::fs::read_dir(dns.join("secrets")).map_or(0, Iterator::count) == 0);
}

/// Whether a file, or one in a directory, has the text.
fn stands_in(path: &Path, text: &str) -> bool {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().any(|entry| stands_in(&entry.path(), text)),
        Err(_) => std::fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text)),
    }
}
