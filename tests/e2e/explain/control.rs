//! What cannot be asked is unknown; what DNS says is compared with what is there.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;

use super::{Asking, Expected, args, explain, failed};
use crate::support::demo::{ADMIN, Demo, HOST, HTTPS, SERVICE};
use crate::support::dns::{self, A, Over};
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::process::signal;
use crate::support::upstream::{register, serve, service};
use crate::support::{eventually, holds};

const CART: &str = "cart.shop.internal";

async fn call(demo: &Demo, gateway: IpAddr) -> Outcome<()> {
    let at = SocketAddr::new(gateway, SERVICE);
    let answer = plain(demo.workload(0), at, CART, Protocol::Http1).await?.get("/").await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
}

/// As a workload of north does it: by a name.
async fn by_name(demo: &Demo) -> Outcome<()> {
    let reply = dns::ask(demo.dns(0), Over::Udp, CART, A).await?;
    for address in &reply.addresses {
        call(demo, *address).await?;
    }
    holds(!reply.addresses.is_empty(), || format!("{reply:?}"))
}

fn asked(demo: &Demo) -> Vec<String> {
    args(&["--from", &format!("north/{}", demo.workload(0)), "GET", &format!("http://{CART}:{SERVICE}/")])
}

/// It is stopped, which is not known to be a fault, but is not known to be none either; and goes on.
async fn is_unknown(demo: &Demo, what: &str, processes: &[u32], words: [&'static str; 2]) {
    let expected = Expected { verdict: "unknown", hop: "member", resource: Some("Cluster/north"), words };
    let asking = Asking { demo, args: asked(demo), truth: async || Ok(()) };
    asking.until_healthy(&format!("before: {what}")).await;
    signal("STOP", processes);
    eventually(&format!("{what}: nobody can tell"), async || expected.found_in(&asking.explain().await)).await;
    signal("CONT", processes);
    asking.until_healthy(&format!("after: {what}")).await;
}

#[tokio::test]
async fn whoever_cannot_be_asked_is_unknown_by_name() {
    let demo = &Demo::own().await;
    let status = "see whether it runs";
    let words = ["north/gw-a could not be asked: it did not answer in time", status];
    is_unknown(demo, "a gateway that is stopped", &demo.pids("north_gw_a"), words).await;
    let words = ["north/dns-a could not be asked: it did not answer in time", status];
    is_unknown(demo, "a DNS server that is stopped", &demo.pids("north_dns_a"), words).await;
    let words = ["could not be asked: it did not answer in time", status];
    is_unknown(demo, "an agent that is stopped", &demo.pids("north_agent"), words).await;
    let asking = Asking { demo, args: asked(demo), truth: async || Ok(()) };
    signal("KILL", &demo.pids("north_agent"));
    let words = ["the agent of cluster north is not connected", "start the agent"];
    let expected = Expected { verdict: "unknown", hop: "member", resource: Some("Cluster/north"), words };
    eventually("an agent that is gone", async || expected.found_in(&asking.explain().await)).await;
}

#[tokio::test]
async fn stale_dns_is_named() {
    let demo = &Demo::own().await;
    let asking = Asking { demo, args: asked(demo), truth: async || by_name(demo).await };
    let north = |gateways: &str| {
        let manifest = format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: north}}\n\
             spec: {{workloads: [{{cidr: {}/24, namespace: shop}}], gateways: [{gateways}]}}\n",
            demo.address(0, 2, 0)
        );
        drop(demo.cli(|cli| cli.apply(&manifest)).success());
    };
    let gone = format!("{{name: gw-a, mesh: {}, eastWest: '{}:7445'}}", demo.address(0, 0, 77), demo.gateway(0, 0));
    let expected = failed("dns", "Cluster/north", ["stale DNS", "spec.gateways"]);
    asking.prove("an address at which no gateway is", expected, async || north(&gone), async || north("")).await;

    let old = demo.address(0, 0, 78);
    let args = [asked(demo), args(&["--at", &old.to_string()])].concat();
    let asking = Asking { demo, args, truth: async || call(demo, old).await };
    let expected = failed("dns", "GlobalNamespace/shop", ["stale DNS", "TTL"]);
    asking.until_named("a resolver that keeps what was", expected).await;
}

#[tokio::test]
async fn a_cluster_without_gateways_is_named() {
    let demo = &Demo::own().await;
    let asking = Asking { demo, args: asked(demo), truth: async || call(demo, demo.gateway(0, 0)).await };
    asking.until_healthy("with gateways").await;
    // They take their leave, so that nobody waits for them.
    signal("TERM", &[demo.pids("north_gw_a"), demo.pids("north_gw_b")].concat());
    let expected = failed("dns", "Cluster/north", ["no gateway with an address for it is known", "start a gateway"]);
    asking.until_named("a cluster without gateways", expected).await;
}

#[tokio::test]
async fn a_gateway_explains_by_itself_when_nobody_else_is_there() {
    let demo = &Demo::own().await;
    let url = format!("https://{HOST}:{HTTPS}/");
    let asking = Asking { demo, args: args(&["GET", &url]), truth: async || demo.get_public(demo.gateway(0, 0)).await };
    asking.until_healthy("with everybody").await;
    signal("KILL", &demo.pids("controller"));
    signal("KILL", &demo.pids("north_agent"));
    let admin = SocketAddr::new(demo.gateway(0, 0), ADMIN).to_string();
    let explained = explain(demo.context(), &["--admin", &admin, "GET", &url]).await;
    // The request may go on to other clusters, of which one gateway cannot tell.
    assert_eq!((explained.code, explained.verdict()), (4, "unknown"), "{:#}", explained.json);
    let is = |verdict: &str, hop: &str| explained.steps().any(|step| step["verdict"] == verdict && step["hop"] == hop);
    assert!(
        is("ok", "tls") && is("ok", "route") && is("ok", "endpoint") && is("unknown", "tunnel"),
        "{:#}",
        explained.json
    );
    let nowhere = format!("https://nobody.example.com:{HTTPS}/");
    let explained = explain(demo.context(), &["--admin", &admin, "GET", &nowhere]).await;
    assert_eq!((explained.code, explained.verdict()), (1, "failed"), "{:#}", explained.json);
    // Who could not be asked is told from what is broken.
    let nobody = SocketAddr::new(demo.gateway(0, 0), 1).to_string();
    for (asked, why) in [
        (vec!["explain", "GET", &url], "tombolo: "),
        (vec!["explain", "--admin", &nobody, "GET", &url], "no gateway answers at"),
        (vec!["explain", "--admin", &admin, "GET", "ftp://example.com/"], "no URL of HTTP"),
    ] {
        let said = demo.cli(|cli| cli.run(&asked));
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:?}");
        assert!(said.stderr.contains(why), "{said:?}");
    }
}

#[tokio::test]
async fn a_limited_token_is_told_of_its_own_global_namespaces_only() {
    let demo = &Demo::own().await;
    demo.cli(|cli| {
        cli.make_ready(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: rival}\n\
             spec: {domain: rival.internal, members: [{cluster: {prefix: ''}, namespace: {exact: rival}}]}\n",
        );
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("context.yaml");
    let save = format!("--save={}", path.display());
    demo.cli(|cli| cli.run(&["token", "create", "--role=viewer", "--name=rival", "--gns=rival", &save])).success();
    let explained = explain(path, &["GET", &format!("https://{HOST}:{HTTPS}/")]).await;
    let [only] = explained.json["steps"].as_array().unwrap().as_slice() else { panic!("{:#}", explained.json) };
    assert_eq!(
        (&only["verdict"], &only["hop"], &only["resource"]),
        (&"failed".into(), &"route".into(), &serde_json::Value::Null)
    );
}

#[tokio::test]
async fn what_another_global_namespace_leaves_out_under_the_same_name_is_no_fault_of_this_one() {
    let demo = &Demo::own().await;
    demo.cli(|cli| {
        cli.make_ready(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: rival}\n\
             spec: {domain: rival.internal, mtls: strict, \
             members: [{cluster: {prefix: ''}, namespace: {exact: rival}}]}\n",
        );
    });
    // Shop's runs in south; in north there is one in plain text, which rival's mode leaves out.
    let (at, other) = (SocketAddr::new(demo.address(1, 1, 41), 9080), SocketAddr::new(demo.address(0, 1, 41), 9080));
    serve(at).await;
    register(&demo.state.join("south/services"), 1, "twin", at);
    let left_out = service("north", "twin", &[other]).replace("namespace: shop", "namespace: rival");
    std::fs::write(demo.state.join("north/services/rival-twin.yaml"), left_out).unwrap();
    eventually("it is left out", async || {
        let twin = demo.cli(|cli| cli.run(&["describe", "Service/north/rival/twin"]));
        holds(twin.ok && twin.stdout.contains("mtls: strict"), || format!("{twin:?}"))
    })
    .await;
    let host = "twin.shop.internal";
    let truth = async || {
        let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let answer = plain(demo.workload(0), at, host, Protocol::Http1).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    let asked = args(&["--from", &format!("north/{}", demo.workload(0)), "GET", &format!("http://{host}:{SERVICE}/")]);
    let asking = Asking { demo, args: asked, truth };
    asking.until_healthy("with another of the same name").await;
    let explained = asking.explain().await;
    assert!(!explained.json.to_string().contains("rival"), "{:#}", explained.json);
}
