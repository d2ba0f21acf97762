//! Faults between a workload and a service of its cluster: who calls, what is called, and in which way.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;

use super::{Asking, args, failed};
use crate::support::demo::{CLUSTERS, Demo, GRPC, SERVICE, TCP};
use crate::support::holds;
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::workload::{self, Caller, Inside, Member, register, service};

/// The namespaces, each of one GNS of its name and mode; their workloads stand in the third network of a cluster, and so
/// on.
const NAMESPACES: [(&str, &str); 3] = [("safe", "strict"), ("clear", "off"), ("far", "permissive")];

fn gns(name: &str, mode: &str, cluster: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\n\
         spec: {{domain: {name}.internal, mtls: {mode}, \
         members: [{{cluster: {cluster}, namespace: {{exact: {name}}}}}]}}\n---\n"
    )
}

fn manifests(demo: &Demo) -> String {
    let namespaces = NAMESPACES.iter().map(|(name, mode)| gns(name, mode, "{prefix: ''}"));
    let row =
        |third: u8, namespace: &str| format!("{{cidr: {}/24, namespace: {namespace}}}", demo.address(0, third, 0));
    let rows: Vec<_> = [(2, "shop"), (3, "safe"), (4, "clear"), (5, "far")].map(|(at, name)| row(at, name)).into();
    namespaces.collect::<String>()
        + &format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: north}}\nspec: {{workloads: [{}]}}\n",
            rows.join(", ")
        )
}

async fn call(demo: &Demo, from: IpAddr, host: &str, port: u16) -> Outcome<()> {
    let at = SocketAddr::new(demo.gateway(0, 0), port);
    let answer = plain(from, at, host, Protocol::Http1).await?.get("/").await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
}

fn service_port() -> String {
    format!("port: {SERVICE}, protocol: http")
}

/// A service of north, with one instance in plain text that its manifest may say something else of.
fn place(demo: &Demo, namespace: &str, name: &str, host: u8, tls: &str) {
    let at = SocketAddr::new(demo.address(0, 1, host), 9080);
    let manifest = service(CLUSTERS[0], namespace, name, &service_port(), tls, &[at]);
    register(demo, 0, &format!("{namespace}-{name}"), &[manifest]);
}

async fn serve(demo: &Demo, host: u8) {
    workload::serve_plain(SocketAddr::new(demo.address(0, 1, host), 9080), "it").await;
}

#[tokio::test]
async fn whoever_calls_wrongly_is_told_why() {
    let demo = &Demo::own().await;
    demo.cli(|cli| cli.make_ready(&manifests(demo)));
    let shopper = demo.workload(0);
    let url = format!("http://cart.shop.internal:{SERVICE}/");
    let named = async |what: &str, (from, host, port): (IpAddr, &str, u16), url: &str, expected| {
        let args = args(&["--from", &format!("north/{from}"), "GET", url]);
        let truth = async || call(demo, from, host, port).await;
        Asking { demo, args, truth }.until_named(what, expected).await;
    };
    let cart = "cart.shop.internal";
    let args_of = args(&["--from", &format!("north/{shopper}"), "GET", &url]);
    let asking = Asking { demo, args: args_of, truth: async || call(demo, shopper, cart, SERVICE).await };
    asking.until_healthy("at first").await;
    let stranger = demo.address(0, 9, 1);
    let expected = failed("access", "Cluster/north", ["stands in no namespace", "spec.workloads"]);
    named("an unmapped caller", (stranger, cart, SERVICE), &url, expected).await;
    let expected = failed("dns", None, ["does not exist", "start the service"]);
    let ghost = "ghost.shop.internal";
    named("a service that isn't there", (shopper, ghost, SERVICE), &format!("http://{ghost}:{SERVICE}/"), expected)
        .await;
    let expected = failed("route", None, ["in the domain of no GlobalNamespace", "correct the URL"]);
    let lost = "cart.lost.internal";
    named(
        "a global namespace that isn't there",
        (shopper, lost, SERVICE),
        &format!("http://{lost}:{SERVICE}/"),
        expected,
    )
    .await;
    let expected = failed("listener", "Service/north/shop/cart", ["has port 8099", "call one of its ports: 8080"]);
    named("a port that no service has", (shopper, cart, 8099), &format!("http://{cart}:8099/"), expected).await;
    let expected = failed("route", "Service/north/shop/cart", ["no such port", "use one of the ports of cart: 8080"]);
    named("a port of another service", (shopper, cart, GRPC), &format!("http://{cart}:{GRPC}/"), expected).await;
    let expected = failed("listener", None, ["speaks no HTTP", "call a port that speaks HTTP"]);
    let echo = "echo.shop.internal";
    named("a port of bytes", (shopper, echo, TCP), &format!("http://{echo}:{TCP}/"), expected).await;
    let expected = failed("request", "the request", ["status 400", "RFC 9110"]);
    let host = "cart..shop.internal";
    let bad = format!("http://{cart}:{SERVICE}/a b");
    let args = args(&["--from", &format!("north/{shopper}"), "GET", &bad]);
    let truth = async || {
        // The client would not send it; the gateway refuses likewise what it would send.
        call(demo, shopper, host, SERVICE).await
    };
    Asking { demo, args, truth }.until_named("a malformed request", expected).await;
}

#[tokio::test]
async fn what_the_mtls_mode_refuses_is_named() {
    let demo = &Demo::own().await;
    demo.cli(|cli| cli.make_ready(&manifests(demo)));
    // Strict: callers prove who they are, and so do instances.
    let member = Member::of(demo, 0, "safe").await;
    let at = SocketAddr::new(demo.address(0, 1, 51), 9443);
    workload::serve(at, &member, &member.workload("safe", "vault"), Inside::Http1, "vault").await;
    let vault = |tls: &str| service(CLUSTERS[0], "safe", "vault", &service_port(), tls, &[at]);
    register(demo, 0, "safe-vault", &[vault("mesh")]);
    let (host, from) = ("vault.safe.internal", demo.address(0, 3, 1));
    let truth = async || call(demo, from, host, SERVICE).await;
    let address = format!("north/{from}");
    let asking = Asking { demo, args: args(&["--from", &address, "GET", &format!("http://{host}:{SERVICE}/")]), truth };
    let expected = failed("access", "GlobalNamespace/safe", ["prove who they are", "https://"]);
    asking.until_named("a caller without identity, in strict", expected).await;
    let caller = Caller::new(member.workload("safe", "vault"), from);
    let truth = async || {
        let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let answer = caller.http(at, host, &member, Protocol::Http1).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    let asked = args(&["--from", "north/vault", "GET", &format!("https://{host}:{SERVICE}/")]);
    let asking = Asking { demo, args: asked, truth };
    let expected = failed("endpoint", "Service/north/safe/vault", ["mtls: strict", "mtls mode"]);
    let (seed, mend) = (
        async || register(demo, 0, "safe-vault", &[vault("none")]),
        async || register(demo, 0, "safe-vault", &[vault("mesh")]),
    );
    asking.prove("an instance in plain text, in strict", expected, seed, mend).await;
    let url = format!("https://cart.clear.internal:{SERVICE}/");
    let truth = async || {
        let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
        caller.http(at, "cart.clear.internal", &member, Protocol::Http1).await.map(drop)
    };
    let asking = Asking { demo, args: args(&["--from", "north/vault", "GET", &url]), truth };
    serve(demo, 52).await;
    place(demo, "clear", "cart", 52, "none");
    let expected = failed("tls", "GlobalNamespace/clear", ["plain text only", "call in plain text"]);
    asking.until_named("a caller by TLS, in off", expected).await;

    serve(demo, 53).await;
    place(demo, "shop", "open", 53, "none");
    let (host, from) = ("open.shop.internal", demo.workload(0));
    let url = format!("http://{host}:{SERVICE}/");
    let truth = async || call(demo, from, host, SERVICE).await;
    let asking = Asking { demo, args: args(&["--from", &format!("north/{from}"), "GET", &url]), truth };
    let expected = failed("tls", "Service/north/shop/open", ["handshake failed", "certificate of the mesh"]);
    let (seed, mend) =
        (async || place(demo, "shop", "open", 53, "mesh"), async || place(demo, "shop", "open", 53, "none"));
    asking.prove("an instance that is said to speak mutual TLS and does not", expected, seed, mend).await;
}

#[tokio::test]
async fn whoever_no_policy_lets_in_is_named() {
    let demo = &Demo::own().await;
    demo.cli(|cli| cli.make_ready(&manifests(demo)));
    let member = Member::of(demo, 0, "far").await;
    let at = SocketAddr::new(demo.address(0, 1, 61), 9443);
    workload::serve(at, &member, &member.workload("far", "bank"), Inside::Http1, "bank").await;
    register(demo, 0, "far-bank", &[service(CLUSTERS[0], "far", "bank", &service_port(), "mesh", &[at])]);
    let caller = Caller::new(Member::of(demo, 0, "shop").await.workload("shop", "web"), demo.workload(0));
    let host = "bank.far.internal";
    let truth = async || {
        let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let answer = caller.http(at, host, &member, Protocol::Http1).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    let asked = args(&["--from", "north/web", "GET", &format!("https://{host}:{SERVICE}/")]);
    let asking = Asking { demo, args: asked, truth };
    let policy = |service: &str| {
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: shoppers}}\n\
             spec: {{globalNamespace: far, action: allow, to: [{{service: bank}}], \
             from: [{{globalNamespace: shop, service: {service}}}]}}\n"
        )
    };
    let apply = |service: &str| drop(demo.cli(|cli| cli.apply(&policy(service))).success());
    apply("web");
    let expected =
        failed("access", "GlobalNamespace/far", ["AccessPolicy/far/shoppers lets in others", "apply an AccessPolicy"]);
    asking.prove("a policy for somebody else", expected, async || apply("cart"), async || apply("web")).await;
    let expected = failed("access", "GlobalNamespace/far", ["no AccessPolicy lets", "apply an AccessPolicy"]);
    let seed = async || drop(demo.cli(|cli| cli.run(&["delete", "AccessPolicy/far/shoppers"])).success());
    asking.prove("no policy", expected, seed, async || apply("web")).await;
}
