//! Faults between the public and the instances.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{Asking, args, failed};
use crate::support::certs::Authority;
use crate::support::demo::{Demo, HTTP, HTTPS, SERVICE, TCP};
use crate::support::holds;
use crate::support::http::{Client, Outcome, Protocol, plain};
use crate::support::moody::{Mood, Moody};
use crate::support::upstream::{register, register_as, service};

const STAND: &str = "stand.example.com";
const IT: &str = "PublicService/shop/stand";
const SERVICE_ID: &str = "Service/north/shop/stand";

fn public(service: &str, port: u16, host: &str, tls: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {{name: stand}}\n\
         spec: {{globalNamespace: shop, service: {service}, port: {port}, hosts: [{host}], tls: {tls}}}\n"
    )
}

fn stand(service: &str, port: u16) -> String {
    public(service, port, &format!("{{name: {STAND}}}"), "{mode: http}")
}

fn apply(demo: &Demo, manifests: &str) {
    demo.cli(|cli| cli.apply(manifests)).success();
}

async fn get(demo: &Demo, port: u16, host: &str, path: &str) -> Outcome<()> {
    let at = SocketAddr::new(demo.gateway(0, 0), port);
    let answer = plain([127, 0, 0, 1].into(), at, host, Protocol::Http1).await?.get(path).await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
}

async fn get_tls(demo: &Demo, also: &str) -> Outcome<()> {
    let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
    let answer = Client::trusting(&(demo.ca() + also)).https(at, STAND, Protocol::Http1).await?.get("/").await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
}

/// A server that greets before it is spoken to, as those of mail do.
pub(super) async fn greeter(at: SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                _ = stream.write_all(b"220 ready\r\n").await;
                _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
}

#[tokio::test]
async fn what_is_wrong_with_the_instances_of_a_public_service_is_named() {
    let demo = &Demo::own().await;
    let (at, mail) = (SocketAddr::new(demo.address(0, 1, 41), 9080), SocketAddr::new(demo.address(0, 1, 42), 9080));
    let (moody, services) = (Moody::start(at).await, demo.state.join("north/services"));
    register(&services, 0, "stand", at);
    apply(demo, &stand("stand", SERVICE));
    greeter(mail).await;
    let url = format!("http://{STAND}:{HTTP}/");
    let asking = Asking { demo, args: args(&["GET", &url]), truth: async || get(demo, HTTP, STAND, "/").await };
    let well = async || moody.set(Mood::Well).await;
    let expected = failed("endpoint", SERVICE_ID, ["refused", "start the instance"]);
    asking.prove("a closed port", expected, async || moody.set(Mood::Refuse).await, well).await;
    let expected = failed("endpoint", SERVICE_ID, ["answers its check with 503", "healthCheck"]);
    let sick = Mood::Sick(StatusCode::SERVICE_UNAVAILABLE);
    asking.prove("unhealthy instances", expected, async || moody.set(sick).await, well).await;
    let expected = failed("endpoint", SERVICE_ID, ["does not answer within", "see what the instance does"]);
    asking.prove("an instance that hangs", expected, async || moody.set(Mood::Hang).await, well).await;

    let back = async || register(&services, 0, "stand", at);
    let expected = failed("endpoint", SERVICE_ID, ["does not speak HTTP", "correct the protocol"]);
    let seed = async || register_as("http", &services, 0, "stand", mail);
    asking.prove("an instance of another protocol", expected, seed, back).await;
    let expected = failed("endpoint", SERVICE_ID, ["no instance", "start one"]);
    let seed = async || {
        let none = service("north", "stand", &[]).replace("instances:\n", "instances: []\n");
        std::fs::write(services.join("stand.yaml"), none).unwrap();
    };
    asking.prove("no instance", expected, seed, back).await;
    let expected = failed("route", IT, ["there is no service stand", "start the service"]);
    let seed = async || std::fs::remove_file(services.join("stand.yaml")).unwrap();
    asking.prove("no such service", expected, seed, back).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_public_service_or_a_request_to_it_is_named() {
    let demo = &Demo::own().await;
    let at = SocketAddr::new(demo.address(0, 1, 41), 9080);
    let (_moody, services) = (Moody::start(at).await, demo.state.join("north/services"));
    register(&services, 0, "stand", at);
    apply(demo, &stand("stand", SERVICE));
    let url = format!("http://{STAND}:{HTTP}/");
    let asking = Asking { demo, args: args(&["GET", &url]), truth: async || get(demo, HTTP, STAND, "/").await };
    let back = async || apply(demo, &stand("stand", SERVICE));
    let expected = failed("route", IT, ["no such port", "use one of the ports"]);
    asking.prove("a port that the service hasn't", expected, async || apply(demo, &stand("stand", 9999)), back).await;
    let expected = failed("route", IT, ["speaks no HTTP", "passthrough"]);
    asking.prove("a port of bytes", expected, async || apply(demo, &stand("echo", TCP)), back).await;
    let expected = failed("route", IT, ["is not published in plain text", "call https://"]);
    let https = "{mode: https, certificate: selfSigned}";
    let host = format!("{{name: {STAND}}}");
    let secure = async || apply(demo, &public("stand", SERVICE, &host, https));
    asking.prove("a host that is published by TLS only", expected, secure, back).await;
    let expected = failed("route", IT, ["allows none of the clusters", "scheme"]);
    let passive = format!("{{name: {STAND}, scheme: {{activePassive: [south]}}}}");
    let seed = async || apply(demo, &public("stand", SERVICE, &passive, "{mode: http}"));
    asking.prove("a scheme without a cluster that has instances", expected, seed, back).await;

    let named = async |what: &str, url: String, (port, host, path): (u16, &str, &str), expected| {
        let truth = async || get(demo, port, host, path).await;
        Asking { demo, args: args(&["GET", &url]), truth }.until_named(what, expected).await;
    };
    let expected = failed("request", "the request", ["status 400", "RFC 9110"]);
    named("a bad target", format!("{url}%zz"), (HTTP, STAND, "/%zz"), expected).await;
    let expected = failed("route", None, ["no PublicService publishes", "correct the URL"]);
    let nobody = "nobody.example.com";
    named("an unknown host", format!("http://{nobody}:{HTTP}/"), (HTTP, nobody, "/"), expected).await;
    let expected = failed("listener", None, ["not on port 18081", "correct the port"]);
    named("a port on which nobody listens", format!("http://{STAND}:18081/"), (18081, STAND, "/"), expected).await;
    let expected = failed("tls", IT, ["in plain text only", "tls.mode: https"]);
    let url = format!("https://{STAND}:{HTTPS}/");
    let asking = Asking { demo, args: args(&["GET", &url]), truth: async || get_tls(demo, "").await };
    asking.until_named("a host without TLS", expected).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_hosts_certificate_is_named() {
    let demo = &Demo::own().await;
    let at = SocketAddr::new(demo.address(0, 1, 41), 9080);
    let (_moody, services) = (Moody::start(at).await, demo.state.join("north/services"));
    register(&services, 0, "stand", at);
    let host = format!("{{name: {STAND}}}");
    let shown =
        |certificate: &str| public("stand", SERVICE, &host, &format!("{{mode: https, certificate: {certificate}}}"));
    apply(demo, &shown("selfSigned"));
    let url = format!("https://{STAND}:{HTTPS}/");
    let authority = Authority::new("short");
    let truth = async || get_tls(demo, &authority.pem()).await;
    let asking = Asking { demo, args: args(&["GET", &url]), truth };
    let back = async || apply(demo, &shown("selfSigned"));
    let expected = failed("tls", IT, ["there is no certificate", "which is missing"]);
    // What was served goes on as long as nothing takes its place: a host that never had one has none.
    let seed = async || {
        demo.cli(|cli| cli.run(&["delete", IT])).success();
        apply(demo, &shown("{uploaded: ghost}"));
    };
    asking.prove("a certificate that isn't there", expected, seed, back).await;
    let expected = failed("tls", IT, ["expired", "apply a Certificate"]);
    let seed = async || {
        let short = authority.issue_short(STAND, Duration::from_secs(4));
        let text = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let certificate = format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Certificate\nmetadata: {{name: short}}\n\
             spec:\n  globalNamespace: shop\n  certificate: |\n{}  key: |\n{}",
            text(&short.certificate),
            text(&short.key)
        );
        apply(demo, &format!("{certificate}---\n{}", shown("{uploaded: short}")));
    };
    asking.prove("an expired certificate", expected, seed, back).await;
}
