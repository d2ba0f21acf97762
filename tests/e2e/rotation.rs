//! Certificates of every level are replaced under load, and no request notices.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::demo::{ADMIN, Demo, HOST, HTTPS, SERVICE};
use crate::support::http::{Client, Protocol, plain};
use crate::support::load::Load;
use crate::support::process::signal;
use crate::support::router::{Router, address, shop};
use crate::support::upstream::service;
use crate::support::{eventually, holds};

/// Public requests and calls of workloads through a gateway of each cluster: two of three go through tunnels.
async fn load(demo: &Demo) -> Load {
    let mut connections = Vec::new();
    for cluster in 0..3 {
        let at = demo.gateway(cluster, 0);
        let public = demo.client().https(SocketAddr::new(at, HTTPS), HOST, Protocol::Http2).await;
        connections.push(public.unwrap());
        let at = SocketAddr::new(demo.gateway(cluster, 1), SERVICE);
        connections.push(plain(demo.workload(cluster), at, "cart.shop.internal", Protocol::Http1).await.unwrap());
    }
    let load = Load::start(connections);
    load.until_served_by("all nine serve", |served| served.len() == 9).await;
    load
}

fn certificates(demo: &Demo) -> Value {
    demo.cli(|cli| cli.json(&["certs"]))
}

/// What holders of a level show, by holder: serial numbers.
fn serials(status: &Value, level: &str, gns: Option<&str>) -> BTreeMap<String, String> {
    let rows = status["certificates"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["level"] == level && row["globalNamespace"].as_str() == gns);
    rows.map(|row| (row["holder"].as_str().unwrap().to_owned(), row["serial"].as_str().unwrap().to_owned())).collect()
}

/// Everybody has reported what he holds.
async fn settled(demo: &Demo) -> Value {
    eventually("everybody tells what he holds", || async {
        let status = certificates(demo);
        let counts =
            [("leaf", Some("shop"), 6), ("issuing", Some("shop"), 3), ("gns", Some("shop"), 1), ("top", None, 1)];
        let told = counts.iter().all(|(level, gns, count)| serials(&status, level, *gns).len() == *count);
        // Three agents, six gateways and six DNS servers show something on the control plane.
        let control = serials(&status, "leaf", None).len() == 15;
        holds(told && control && status["rotations"] == json!([]), || status.to_string()).map(|()| status)
    })
    .await
}

fn rotate(demo: &Demo, args: &[&str]) -> String {
    let said = demo.cli(|cli| cli.run(&[&["certs", "rotate", "--wait", "--timeout=60"], args].concat()));
    assert!(said.ok, "{said:?}");
    said.stderr
}

fn none_is_kept(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let kept: Vec<_> = before.iter().filter(|(holder, serial)| after.get(*holder) == Some(*serial)).collect();
    assert!(kept.is_empty(), "still the same: {kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_levels_are_replaced_one_after_another_and_no_request_fails() {
    let demo = Demo::own().await;
    let load = load(&demo).await;
    let old_ca = demo.ca();
    let mut before = settled(&demo).await;
    let all = [("leaf", Some("shop")), ("issuing", Some("shop")), ("gns", Some("shop")), ("top", None), ("leaf", None)];
    for (level, replaced) in
        [("leaf", [0, 4].as_slice()), ("issuing", &[0, 1]), ("gns", &[0, 1, 2]), ("top", &[3]), ("control", &[4])]
    {
        rotate(&demo, &["--level", level]);
        let after = settled(&demo).await;
        for at in replaced {
            let (level, gns) = all[*at];
            none_is_kept(&serials(&before, level, gns), &serials(&after, level, gns));
        }
        before = after;
        load.until_served_by("all nine serve", |served| served.len() == 9).await;
    }
    let trust = before["trust"].as_array().unwrap();
    assert_eq!(trust.len(), 2, "a root is left over: {trust:?}");
    assert!(trust.iter().all(|root| root["signing"] == true), "{trust:?}");
    rotate(&demo, &["--level=issuing", "--gns=shop", "--cluster=west"]);
    let after = settled(&demo).await;
    for level in ["issuing", "leaf"] {
        let (old, new) = (serials(&before, level, Some("shop")), serials(&after, level, Some("shop")));
        for (holder, serial) in &old {
            assert_eq!(new[holder] != *serial, holder.contains("west"), "{level} of {holder}");
        }
    }
    load.end_without_failure().await;

    // Who has imported the first top-level CA only is still served, by people's commands and by public hosts.
    let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
    let mut connection = Client::trusting(&old_ca).https(at, HOST, Protocol::Http2).await.unwrap();
    assert_eq!(connection.get("/").await.unwrap().status, 200);
    assert_eq!(demo.cli(|cli| cli.run(&["ca"])).success().trim(), old_ca.trim());
    let newest = demo.cli(|cli| cli.run(&["ca", "--refresh"])).success();
    assert!(newest.trim() != old_ca.trim() && newest.matches("BEGIN CERTIFICATE").count() == 1, "{newest}");
    demo.cli(|cli| cli.run(&["status"])).success();
    let mut connection = Client::trusting(&newest).https(at, HOST, Protocol::Http2).await.unwrap();
    assert_eq!(connection.get("/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_holds_up_the_end_of_a_root_and_is_named() {
    let demo = Demo::with(&["--quiet"]).await; // its controller is started again
    settled(&demo).await;
    let away = demo.pids("west_gw_b");
    signal("STOP", &away);
    eventually("it is missed", || async {
        let status = demo.cli(|cli| cli.json(&["status"]));
        let west = status["clusters"].as_array().unwrap().iter().find(|cluster| cluster["name"] == "west").unwrap();
        let members = west["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["name"].as_str().unwrap().ends_with("gw-b")).unwrap();
        holds(member["connected"] == false, || member.to_string())
    })
    .await;
    let command = ["certs", "rotate", "--level=gns", "--gns=shop", "--wait", "--timeout=2"];
    let said = demo.cli(|cli| cli.run(&command));
    assert!(!said.ok && said.stderr.contains("overlap"), "{said:?}");
    let rotation = certificates(&demo)["rotations"][0].clone();
    assert_eq!(rotation["phase"], "overlap");
    let waiting = rotation["waiting"].as_array().unwrap();
    assert!(waiting.len() == 1 && waiting[0].as_str().unwrap().starts_with("west/"), "{rotation}");
    let again = demo.cli(|cli| cli.run(&["certs", "rotate", "--level=gns", "--gns=shop"])).failure();
    assert!(again.contains("is being replaced already"), "{again}");
    let status = demo.cli(|cli| cli.run(&["status"])).success();
    assert!(status.contains("overlap") && status.contains(waiting[0].as_str().unwrap()), "{status}");

    signal("KILL", &demo.pids("controller"));
    eventually("the controller goes on where it was", || async {
        let said = demo.cli(|cli| cli.run(&["certs", "--gns=shop"]));
        let goes_on = said.ok && said.stdout.contains("overlap") && said.stdout.contains("west/gw-b");
        holds(goes_on, || format!("{said:?}"))
    })
    .await;
    assert_eq!(serials(&certificates(&demo), "gns", Some("shop")).len(), 2);

    signal("CONT", &away);
    let status = settled(&demo).await;
    assert_eq!(status["trust"].as_array().unwrap().len(), 2, "the old root is gone: {status}");
}

/// The last phase is held up by whoever believed in time, and then was away when certificates were issued anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_shows_an_old_certificate_holds_up_the_proof_and_is_named() {
    let demo = Demo::own().await;
    let before = settled(&demo).await;
    let old =
        before["trust"].as_array().unwrap().iter().find(|root| root["globalNamespace"] == "shop").unwrap()["root"]
            .clone();
    demo.cli(|cli| cli.run(&["certs", "rotate", "--level=gns", "--gns=shop"])).success();
    // The new root signs once everybody has believed it for three seconds.
    eventually("it believes both", || async {
        let status = demo.cli(|cli| cli.json(&["certs", "--gns=shop"]));
        let new =
            status["trust"].as_array().unwrap().iter().find(|root| root["root"] != old).ok_or("no new root yet")?;
        let believed = new["believedBy"].as_array().unwrap().contains(&json!("west/gw-b"));
        holds(believed && new["signing"] == false, || status.to_string())
    })
    .await;
    let away = demo.pids("west_gw_b");
    signal("STOP", &away);
    eventually("all others show new ones, and the old root stays", || async {
        let status = demo.cli(|cli| cli.json(&["certs", "--gns=shop"]));
        let only = status["rotations"][0]["phase"] == "prove" && waiting(&status) == ["west/gw-b"];
        let held = status["trust"].as_array().unwrap().iter().find(|root| root["root"] == old);
        let held = held.is_some_and(|root| root["heldBy"] == json!(["west/gw-b"]));
        holds(only && held, || status.to_string())
    })
    .await;
    signal("CONT", &away);
    let after = settled(&demo).await;
    assert!(after["trust"].as_array().unwrap().iter().all(|root| root["root"] != old), "{after}");
}

/// The leaf that a gateway keeps on disk.
fn leaf_on_disk(demo: &Demo, gateway: &str) -> String {
    let text = std::fs::read_to_string(demo.state.join(gateway).join("identities/shop.pem")).unwrap();
    text.split("-----END CERTIFICATE-----").next().unwrap().split("-----BEGIN CERTIFICATE-----").last().unwrap().into()
}

/// How long the first leaf to end still lives, as a gateway's metrics tell it.
async fn leaf_left(gateway: IpAddr) -> f64 {
    let at = SocketAddr::new(gateway, ADMIN);
    let mut connection = plain(gateway, at, "metrics", Protocol::Http1).await.unwrap();
    let text = connection.get("/metrics").await.unwrap();
    let text = String::from_utf8_lossy(&text.body);
    let name = "tombolo_certificate_expiry_seconds{global_namespace=\"shop\",level=\"leaf\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_renew_while_the_controller_is_away_and_nobody_sends_a_request() {
    let demo = Demo::own().await;
    settled(&demo).await;
    let lives = "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: shop}\nspec:\n  \
                 domain: shop.internal\n  members: [{cluster: {prefix: ''}, namespace: {exact: shop}}]\n  \
                 publicHosts: ['*.example.com']\n  certificates: {leafLifetime: 60s, issuingLifetime: 180s, caLifetime: 540s}\n";
    demo.cli(|cli| cli.make_ready(lives));
    rotate(&demo, &["--level=gns"]);
    let status = settled(&demo).await;
    let leaf = status["certificates"].as_array().unwrap().iter().find(|row| row["holder"] == "west/gw-a").unwrap();
    assert_eq!(leaf["notAfter"].as_i64().unwrap() - leaf["notBefore"].as_i64().unwrap(), 60, "{leaf}");
    let left = leaf_left(demo.gateway(2, 0)).await;
    assert!((1.0..=54.0).contains(&left), "{left}");

    signal("KILL", &demo.pids("controller"));
    let before = leaf_on_disk(&demo, "west/gw-a");
    eventually("the gateway renews", || async {
        holds(leaf_on_disk(&demo, "west/gw-a") != before, || "still the same".into())
    })
    .await;
    for gateway in demo.gateways() {
        demo.get_public(gateway).await.unwrap();
    }
}

/// The names that the one rotation that is under way waits for.
fn waiting(status: &Value) -> Vec<&str> {
    let waiting = status["rotations"][0]["waiting"].as_array();
    waiting.into_iter().flatten().map(|name| name.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_certificate_that_a_workload_asked_for_holds_up_the_next_root_until_it_ends() {
    let at = address(69, 1);
    let lives = "{domain: shop.internal, certificates: {leafLifetime: 60s, issuingLifetime: 180s, caLifetime: 540s},";
    let manifests = shop("127.0.0.0/8").replace("{domain: shop.internal,", lives);
    let router = Router::start(at, &(manifests + &service("local", "cart", &[(at, 9000).into()])), &[]);
    let (agent, out) =
        (format!("--agent={}/agent/member.token", router.state().display()), tempfile::tempdir().unwrap());
    let out = format!("--out={}", out.path().join("cart").display());
    eventually("a certificate is issued", async || {
        let said = router.cli(|cli| cli.run(&["certs", "issue", "--gns=shop", "--service=shop/cart", &agent, &out]));
        holds(said.ok, || format!("{said:?}"))
    })
    .await;
    router.cli(|cli| cli.run(&["certs", "rotate", "--level=gns", "--gns=shop"])).success();
    let named = async |router: &Router| {
        let status = async || {
            let said = router.cli(|cli| cli.run(&["certs", "--gns=shop", "-o=json"]));
            let status = serde_json::from_str::<Value>(&said.stdout).map_err(|error| format!("{error}: {said:?}"))?;
            let only = status["rotations"][0]["phase"] == "overlap" && waiting(&status) == ["the workloads of local"];
            holds(only, || status.to_string()).map(|()| status)
        };
        eventually("only the workload is waited for", status).await
    };
    let status = named(&router).await;
    let old = status["trust"].as_array().unwrap().iter().find(|root| root["signing"] == true).unwrap();
    assert!(old["heldBy"].as_array().unwrap().contains(&json!("the workloads of local")), "{status}");
    let router = router.again(&[], &[]);
    named(&router).await;
    // A minute's life, of which a tenth is in the past.
    tokio::time::timeout(Duration::from_secs(75), async {
        while router.cli(|cli| cli.json(&["certs"]))["rotations"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("the certificate has ended, and the rotation with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_only_believes_a_root_is_waited_for_as_well() {
    let demo = Demo::own().await;
    let gns = |name: &str, cluster: &str| {
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\nspec: \
             {{domain: {name}.internal, members: [{{cluster: {{exact: {cluster}}}, namespace: {{exact: {name}}}}}]}}\n"
        )
    };
    let policy = "apiVersion: tombolo.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: visit}\n\
                  spec: {globalNamespace: far, from: [{globalNamespace: near}], to: [{service: tower}]}\n";
    let manifests = [gns("near", "north"), gns("far", "west"), policy.to_owned()].join("---\n");
    demo.cli(|cli| cli.with_manifests(&["apply", "-f"], &manifests).success());
    let visitors = ["the agent of north", "north/gw-a", "north/gw-b"];
    eventually("the visitors say whom they believe", async || {
        let status = demo.cli(|cli| cli.json(&["certs", "--gns=far"]));
        let believers = status["trust"][0]["believedBy"].as_array().unwrap();
        let all = visitors.iter().all(|name| believers.contains(&json!(name)));
        holds(all && status["rotations"] == json!([]), || status.to_string())
    })
    .await;
    let away = demo.pids("north_gw_b");
    signal("STOP", &away);
    demo.cli(|cli| cli.run(&["certs", "rotate", "--level=gns", "--gns=far"])).success();
    eventually("only the one that is away is waited for", async || {
        let status = demo.cli(|cli| cli.json(&["certs", "--gns=far"]));
        let only = status["rotations"][0]["phase"] == "overlap" && waiting(&status) == ["north/gw-b"];
        holds(only, || status.to_string())
    })
    .await;
    signal("CONT", &away);
    eventually("the old root is dropped", async || {
        let status = demo.cli(|cli| cli.json(&["certs", "--gns=far"]));
        let rows = status["trust"].as_array().unwrap();
        let dropped = rows.len() == 1 && status["rotations"] == json!([]);
        holds(dropped, || status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_level_has_no_part_of_is_refused() {
    let demo = Demo::shared().await;
    for (args, why) in [
        (["--level=top", "--gns=shop"], "leave the global namespace out"),
        (["--level=gns", "--cluster=west"], "leave the cluster out"),
        (["--level=leaf", "--gns=none"], "there is no GlobalNamespace/none"),
        (["--level=issuing", "--cluster=none"], "there is no Cluster/none"),
    ] {
        let said = demo.cli(|cli| cli.run(&[&["certs", "rotate"], args.as_slice()].concat())).failure();
        assert!(said.contains(why), "{args:?}: {said}");
    }
}
