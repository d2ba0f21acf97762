//! The port between clusters: only gateways of the same GNS come in.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certs::Authority;
use crate::support::demo::{Demo, EAST_WEST};
use crate::support::http::Client;
use crate::support::identities::Held;

fn east_west(demo: &Demo) -> SocketAddr {
    SocketAddr::new(demo.gateway(1, 0), EAST_WEST)
}

/// Whether somebody gets as far as speaking: in TLS 1.3 a refused client certificate shows only in the first read.
async fn speaks(demo: &Demo, client: &Client, label: &str) -> Result<(), String> {
    let mut stream = client.tls(east_west(demo), label, b"h2").await?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.map_err(|error| error.to_string())?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).await.map(|_| ()).map_err(|error| error.to_string())
}

fn trusting_south(demo: &Demo) -> Client {
    Held::of(demo, "south/gw-a", "shop").unwrap().trusting()
}

#[tokio::test]
async fn a_gateway_of_the_same_gns_comes_in() {
    let demo = Demo::shared().await;
    let (north, label) = (Held::of(demo, "north/gw-a", "shop").unwrap(), south_label(demo));
    let client = trusting_south(demo).with_identity(&north.chain(), &north.key());
    speaks(demo, &client, &label).await.unwrap();
}

fn south_label(demo: &Demo) -> String {
    Held::of(demo, "south/gw-a", "shop").unwrap().label()
}

#[tokio::test]
async fn nobody_comes_in_without_a_certificate_of_the_gns() {
    let demo = Demo::shared().await;
    let label = south_label(demo);
    let trusting = trusting_south(demo);
    let forger = Authority::new("north");
    let forged = forger.issue_identity("spiffe://shop.demo.internal/cluster/north/gateway/gw-a");
    let plain = forger.issue("shop.demo.internal");
    let with_ca = forged.certificate.clone() + &forger.pem();
    let strangers = [
        ("no certificate", trusting.clone()),
        ("one without an identity", trusting.clone().with_identity(&plain.certificate, &plain.key)),
        ("a forged one", trusting.clone().with_identity(&forged.certificate, &forged.key)),
        ("a forged one with its CA", trusting.with_identity(&with_ca, &forged.key)),
    ];
    for (who, client) in strangers {
        let refused = speaks(demo, &client, &label).await;
        assert!(refused.as_ref().is_err_and(|error| error.contains("alert")), "{who}: {refused:?}");
    }
}

#[tokio::test]
async fn a_gateway_of_another_gns_does_not_come_in() {
    let demo = Demo::shared().await;
    demo.cli(|cli| {
        cli.make_ready(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: rival}\n\
             spec: {domain: rival.internal, members: [{cluster: {prefix: ''}, namespace: {exact: rival}}]}\n",
        );
    });
    let read = || std::future::ready(Held::of(demo, "north/gw-a", "rival").ok_or("no certificate yet"));
    let rival = crate::support::eventually("north's gateway gets a certificate of the rival", read).await;
    let client = trusting_south(demo).with_identity(&rival.chain(), &rival.key());
    let refused = speaks(demo, &client, &south_label(demo)).await;
    assert!(refused.as_ref().is_err_and(|error| error.contains("alert")), "{refused:?}");
}

#[tokio::test]
async fn a_name_that_is_no_label_is_a_handshake_alert() {
    let demo = Demo::shared().await;
    let north = Held::of(demo, "north/gw-a", "shop").unwrap();
    let client = trusting_south(demo).with_identity(&north.chain(), &north.key());
    for name in ["shop.example.com", "cart.shop.internal", "0000000000000000.t.invalid"] {
        let refused = speaks(demo, &client, name).await;
        assert!(refused.as_ref().is_err_and(|error| error.contains("alert")), "{name}: {refused:?}");
    }
}

/// What a gateway of the north asks of one of the south in a tunnel of one stream: a PROXY header for a service's port.
fn asked(cluster: &str, service: &str, port: u16) -> Vec<u8> {
    let value = |kind: u8, value: &[u8]| [&[kind, 0, value.len() as u8], value].concat();
    let addresses = [192, 0, 2, 7, 192, 0, 2, 1, 0x0f, 0xa0, 0x15, 0x38];
    let wanted = [value(0xe0, cluster.as_bytes()), value(0xe1, service.as_bytes()), value(0xe2, &port.to_be_bytes())];
    let rest = [&addresses[..], &wanted.concat()].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..], &[rest.len() as u8], &rest].concat()
}

#[tokio::test]
async fn a_peer_gets_no_stream_but_to_a_service_of_the_gns_in_its_own_cluster() {
    let demo = Demo::shared().await;
    let (north, label) = (Held::of(demo, "north/gw-a", "shop").unwrap(), south_label(demo));
    let client = trusting_south(demo).with_identity(&north.chain(), &north.key());
    for (question, refusal) in [
        (asked("west", "cart", 8080), "not_for_here"),
        (asked("north", "cart", 8080), "not_for_here"),
        (asked("south", "nobody", 8080), "unknown_service"),
        (asked("south", "cart", 1), "unknown_port"),
        (asked("south", "cart", 8080), "wrong_protocol"),
        ([asked("south", "cart", 8080), b"early".to_vec()].concat(), "forbidden_peer"),
        (b"GET / HTTP/1.1\r\nhost: cart.shop.internal\r\n\r\n".to_vec(), "forbidden_peer"),
    ] {
        let mut stream = client.tls(east_west(demo), &label, b"tombolo-stream/1").await.unwrap();
        stream.write_all(&question).await.unwrap();
        let mut verdict = Vec::new();
        stream.read_to_end(&mut verdict).await.unwrap();
        assert_eq!(verdict, [&[1, refusal.len() as u8], refusal.as_bytes()].concat(), "{refusal}");
    }
}
