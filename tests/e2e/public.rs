//! What is published, as its clients see it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::support::certs::{Authority, Issued};
use crate::support::demo::{Demo, HOST, HTTP, HTTPS};
use crate::support::http::{Client, Connection, Outcome, Protocol, empty, plain};
use crate::support::load::Load;
use crate::support::{eventually, holds};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

fn https(gateway: IpAddr) -> SocketAddr {
    SocketAddr::new(gateway, HTTPS)
}

async fn shop(demo: &Demo, gateway: IpAddr, protocol: Protocol) -> Connection {
    demo.client().https(https(gateway), HOST, protocol).await.unwrap()
}

#[tokio::test]
async fn every_gateway_serves_https_over_both_protocols_and_says_who_served() {
    let demo = Demo::shared().await;
    for gateway in demo.gateways() {
        for protocol in BOTH {
            let answer = shop(demo, gateway, protocol).await.get("/hello").await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{gateway} {protocol:?}: {answer:?}");
            let (body, served_by) = (answer.json(), answer.served_by());
            let (cluster, version) = (body["cluster"].as_str().unwrap(), body["version"].as_str().unwrap());
            assert!(served_by.starts_with(&format!("{cluster}/{version}/127.")), "{served_by} but {body}");
            assert_eq!(body["path"], "/hello");
        }
    }
}

#[tokio::test]
async fn plain_http_is_redirected_to_https() {
    let demo = Demo::shared().await;
    for gateway in demo.gateways() {
        let at = SocketAddr::new(gateway, HTTP);
        let mut connection = plain("127.0.0.1".parse().unwrap(), at, HOST, Protocol::Http1).await.unwrap();
        let answer = connection.get("/basket?item=1").await.unwrap();
        assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(answer.header("location"), format!("https://{HOST}:{HTTPS}/basket?item=1"));
    }
}

#[tokio::test]
async fn one_connection_reaches_all_nine_instances_in_even_shares() {
    const REQUESTS: usize = 9_000;
    // Others' requests would take turns of their own, so nobody else may use these instances.
    let demo = Demo::own().await;
    let mut connection = shop(&demo, demo.gateway(0, 0), Protocol::Http2).await;
    let mut served: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..REQUESTS {
        *served.entry(connection.get("/").await.unwrap().served_by()).or_default() += 1;
    }
    let share = REQUESTS / 9;
    let even = |count: &usize| count.abs_diff(share) <= share / 50;
    assert!(served.len() == 9 && served.values().all(even), "{served:#?}");
}

#[tokio::test]
async fn an_unknown_sni_is_a_handshake_alert() {
    let demo = Demo::shared().await;
    for gateway in demo.gateways() {
        let error = demo.client().https(https(gateway), "nobody.example.com", Protocol::Http2).await.err().unwrap();
        assert!(error.contains("alert") && error.contains("nrecogni"), "{error}");
    }
}

#[tokio::test]
async fn an_unknown_host_is_404_on_the_plain_port_and_421_over_tls() {
    let demo = Demo::shared().await;
    let unknown = "nobody.example.com";
    let at = SocketAddr::new(demo.gateway(0, 0), HTTP);
    let mut connection = plain("127.0.0.1".parse().unwrap(), at, unknown, Protocol::Http1).await.unwrap();
    assert_eq!(connection.get("/").await.unwrap().status, StatusCode::NOT_FOUND);
    for protocol in BOTH {
        let mut connection = shop(demo, demo.gateway(1, 0), protocol).await;
        connection.authority = unknown.to_owned();
        assert_eq!(connection.get("/").await.unwrap().status, StatusCode::MISDIRECTED_REQUEST, "{protocol:?}");
    }
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_not_believed() {
    let demo = Demo::shared().await;
    let mut connection = shop(demo, demo.gateway(0, 1), Protocol::Http2).await;
    let mut headers = HeaderMap::new();
    for name in ["x-forwarded-for", "forwarded", "tombolo-served-by"] {
        headers.insert(name, HeaderValue::from_static("203.0.113.7"));
    }
    let answer = connection.send(Method::GET, "/", headers, empty()).await.unwrap();
    assert_eq!(answer.json()["for"], "127.0.0.1", "{answer:?}");
}

#[tokio::test]
async fn a_request_of_two_framings_is_refused() {
    let demo = Demo::shared().await;
    let mut connection = shop(demo, demo.gateway(2, 0), Protocol::Http1).await;
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: {HOST}:{HTTPS}\r\n{framing}");
        let answer = raw_exchange(demo, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{framing:?}: {answer:?}");
    }
    // The gateway is unharmed.
    assert_eq!(connection.get("/").await.unwrap().status, StatusCode::OK);
}

async fn raw_exchange(demo: &Demo, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = demo.client().tls(https(demo.gateway(2, 0)), HOST, b"http/1.1").await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 16];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_self_signed_certificate_chains_to_the_meshs_ca_and_no_other() {
    let demo = Demo::shared().await;
    shop(demo, demo.gateway(0, 0), Protocol::Http2).await;
    let stranger = Client::trusting(&Authority::new("stranger").pem());
    let error = stranger.https(https(demo.gateway(0, 0)), HOST, Protocol::Http2).await.err().unwrap();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// A certificate of the shop's, and the public service that uses it.
fn upload(name: &str, host: &str, issued: &Issued) -> String {
    let api = "tombolo.dev/v1alpha1";
    let certificate = json!({
        "apiVersion": api, "kind": "Certificate", "metadata": { "name": name },
        "spec": { "globalNamespace": "shop", "certificate": issued.certificate, "key": issued.key },
    });
    let public = json!({
        "apiVersion": api, "kind": "PublicService", "metadata": { "name": name },
        "spec": {
            "globalNamespace": "shop", "service": "cart", "port": 8080, "hosts": [{ "name": host }],
            "tls": { "certificate": { "uploaded": name } }, "serviceInfo": true,
        },
    });
    format!("{certificate}\n---\n{public}\n")
}

/// A new connection, as new clients make them; the certificate that it was shown.
async fn shown(client: &Client, gateway: IpAddr, host: &str) -> Outcome<Vec<u8>> {
    let mut connection = client.https(https(gateway), host, Protocol::Http2).await?;
    let answer = connection.get("/").await?;
    holds(answer.status == StatusCode::OK, || format!("{answer:?}"))?;
    Ok(connection.certificate.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_certificate_is_served_and_replaced_under_requests_without_a_failure() {
    let demo = Demo::shared().await;
    let (host, authority) = ("live.example.com", Authority::new("a customer's CA"));
    let client = Client::trusting(&authority.pem());
    demo.cli(|cli| cli.make_ready(&upload("live", host, &authority.issue(host))));

    let mut before = BTreeSet::new();
    let mut connections = Vec::new();
    for gateway in demo.gateways() {
        before.insert(eventually("it is served", || shown(&client, gateway, host)).await);
        connections.push(client.https(https(gateway), host, Protocol::Http2).await.unwrap());
    }
    assert_eq!(before.len(), 1, "all gateways serve the one certificate");
    let load = Load::start(connections);
    load.window().await;
    demo.cli(|cli| cli.make_ready(&upload("live", host, &authority.issue(host))));
    for gateway in demo.gateways() {
        let replaced = || async {
            let shown = shown(&client, gateway, host).await.expect("a new connection during the change");
            holds(!before.contains(&shown), || "the old one is still served".to_owned())
        };
        eventually("the new one is served", replaced).await;
    }
    load.window().await;
    assert!(load.end_without_failure().await > 100);
}

#[tokio::test]
async fn a_certificate_that_is_not_its_keys_or_its_hosts_or_of_its_time_is_refused_by_name() {
    let demo = Demo::shared().await;
    let (host, authority) = ("bad.example.com", Authority::new("a customer's CA"));
    let good = authority.issue(host);
    let stolen = Issued { key: authority.issue(host).key, ..good };
    let cases = [
        (stolen, vec!["Certificate/shop/bad", "key"]),
        (authority.issue("www.example.org"), vec!["PublicService/shop/bad", "bad.example.com"]),
        (authority.issue_expired(host), vec!["Certificate/shop/bad", "2021"]),
    ];
    for (issued, words) in cases {
        let error = demo.cli(|cli| cli.apply(&upload("bad", host, &issued))).failure();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in: {error}");
        assert!(error.contains("shop.yaml:"), "where: {error}");
        assert!(!error.contains("PRIVATE KEY"), "the key is not shown: {error}");
    }
    demo.cli(|cli| cli.run(&["get", "certificate/shop/bad"])).failure();
}
