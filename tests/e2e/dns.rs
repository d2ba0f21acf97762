//! What names mean, in every cluster.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::demo::{ADMIN, Demo, HOST};
use crate::support::dns::{A, AAAA, NOERROR, NXDOMAIN, Over, REFUSED, SOA, ask};
use crate::support::http::{Outcome, Protocol, empty, plain};
use crate::support::{eventually, holds};

const BOTH: [Over; 2] = [Over::Udp, Over::Tcp];

#[tokio::test]
async fn a_services_name_means_the_gateways_of_the_cluster_that_asks() {
    let demo = Demo::shared().await;
    for cluster in 0..3 {
        for over in BOTH {
            for name in ["cart.shop.internal", "v1.cart.shop.internal", "west.cart.shop.internal", "CART.Shop.internal"]
            {
                let reply = ask(demo.dns(cluster), over, name, A).await.unwrap();
                let own: BTreeSet<_> = [demo.gateway(cluster, 0), demo.gateway(cluster, 1)].into();
                assert_eq!(reply.addresses.iter().copied().collect::<BTreeSet<_>>(), own, "{name}: {reply:?}");
                assert!(reply.authoritative && reply.code == NOERROR, "{name}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_public_hosts_name_means_up_to_four_gateways_of_all_clusters() {
    let demo = Demo::shared().await;
    let gateways: BTreeSet<_> = demo.gateways().into_iter().collect();
    for cluster in 0..3 {
        for over in BOTH {
            let reply = ask(demo.dns(cluster), over, HOST, A).await.unwrap();
            let told: BTreeSet<_> = reply.addresses.iter().copied().collect();
            assert!(told.len() == 4 && told.is_subset(&gateways), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_is_nxdomain_with_the_zones_soa() {
    let demo = Demo::shared().await;
    for over in BOTH {
        let reply = ask(demo.dns(1), over, "nobody.shop.internal", A).await.unwrap();
        assert_eq!((reply.code, &reply.authority[..]), (NXDOMAIN, &[SOA][..]), "{reply:?}");
    }
}

#[tokio::test]
async fn a_name_without_a_record_of_that_type_is_nodata_with_the_zones_soa() {
    let demo = Demo::shared().await;
    for name in ["cart.shop.internal", HOST] {
        for over in BOTH {
            let reply = ask(demo.dns(2), over, name, AAAA).await.unwrap();
            assert_eq!((reply.code, &reply.authority[..]), (NOERROR, &[SOA][..]), "{name}: {reply:?}");
            assert!(reply.addresses.is_empty());
        }
    }
}

#[tokio::test]
async fn names_that_are_nobodys_here_are_refused() {
    let demo = Demo::shared().await;
    for name in ["www.debian.org", "internal", "nobody.example.com"] {
        for over in BOTH {
            let reply = ask(demo.dns(0), over, name, A).await.unwrap();
            assert!(reply.code == REFUSED && !reply.authoritative, "{name}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_datagram_that_is_no_question_harms_nobody() {
    let demo = Demo::shared().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for junk in [&b""[..], b"\0", &[0xff; 700], &[0xc0; 40], b"\x70\x6d\x01\0\xff\xff\xff\xff\xff\xff\xff\xff\xc0\x0c"]
    {
        socket.send_to(junk, demo.dns(0)).await.unwrap();
    }
    assert_eq!(ask(demo.dns(0), Over::Udp, "cart.shop.internal", A).await.unwrap().code, NOERROR);
}

/// The first line of a gateway's health stream.
async fn first_line(demo: &Demo, path: &str) -> Outcome<Value> {
    let at = SocketAddr::new(demo.gateway(0, 0), ADMIN);
    let mut connection = plain(demo.workload(0), at, "admin", Protocol::Http1).await?;
    let mut body = connection.open(Method::GET, path, HeaderMap::new(), empty()).await?.into_body();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let frame = body.frame().await.ok_or("the stream ended")?.map_err(|error| error.to_string())?;
        line.extend(frame.into_data().unwrap_or_default());
    }
    serde_json::from_slice(&line).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_dns_server_of_an_older_release_still_follows_whole_views_and_a_new_one_only_what_matters() {
    let demo = Demo::shared().await;
    let told = async || {
        let whole = first_line(demo, "/v1/health/follow").await?;
        let changes = first_line(demo, "/v1/health/follow?changes").await?;
        let cart = |view: &Value| view["services"]["shop"]["cart"]["north"].clone();
        let numbers = (cart(&whole), &whole["sequence"], cart(&changes), changes["sequence"].as_u64() > Some(0));
        holds(numbers == (json!(3), &Value::Null, json!(1), true), || format!("{whole} {changes}"))?;
        holds(whole["gateways"] == changes["gateways"], || format!("{whole} {changes}"))
    };
    eventually("both are told", told).await;
}
