//! Much at once: bodies that no memory of a gateway's could hold, and a side that does not read.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;

use super::{WAYS, echo};
use crate::support::demo::Demo;
use crate::support::http::{Connection, Protocol, by_and_by, empty};

const MUCH: usize = 64 << 20;
/// What a gateway may need more for it, in bytes, however much it is.
const GROWTH: u64 = 32 << 20;

/// A gateway's resident memory in bytes: now (`VmRSS`), or at most so far (`VmHWM`).
fn memory(demo: &Demo, gateway: &str, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", demo.pids(gateway)[0])).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Sends it in parts, as fast as the gateway takes them.
async fn upload(connection: &mut Connection) -> Bytes {
    let (sender, body) = by_and_by();
    let feed = async move {
        let part = Bytes::from(vec![b'x'; 64 << 10]);
        for _ in 0..MUCH / part.len() {
            sender.send(part.clone()).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(connection.open(Method::POST, "/count", HeaderMap::new(), body), feed);
    answer.unwrap().into_body().collect().await.unwrap().to_bytes()
}

async fn download(connection: &mut Connection) -> usize {
    let path = format!("/bytes/{MUCH}");
    let answer = connection.open(Method::GET, &path, HeaderMap::new(), empty()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let (mut body, mut length) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
    }
    length
}

/// Through each of the gateways that a request may pass.
async fn memory_stays_flat(protocol: Protocol) {
    let demo = Demo::own().await;
    let gateways = ["north_gw_a", "south_gw_a", "south_gw_b"];
    // Each has carried something before it is measured.
    for way in WAYS {
        for _ in 0..8 {
            assert_eq!(echo(&demo, way, Protocol::Http1).await.get("/").await.unwrap().status, StatusCode::OK);
        }
    }
    let before = gateways.map(|gateway| memory(&demo, gateway, "VmRSS"));
    for way in WAYS {
        let mut connection = echo(&demo, way, protocol).await;
        assert_eq!(upload(&mut connection).await, MUCH.to_string(), "{way:?}");
        assert_eq!(download(&mut connection).await, MUCH, "{way:?}");
    }
    for (gateway, before) in gateways.into_iter().zip(before) {
        let grown = memory(&demo, gateway, "VmHWM").saturating_sub(before);
        assert!(grown < GROWTH, "{gateway} grew by {grown} bytes from {before}");
    }
}

#[tokio::test]
async fn memory_stays_flat_while_much_goes_up_and_comes_down_over_http1() {
    memory_stays_flat(Protocol::Http1).await;
}

#[tokio::test]
async fn memory_stays_flat_while_much_goes_up_and_comes_down_over_http2() {
    memory_stays_flat(Protocol::Http2).await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_waits_and_holds_nothing_else_up() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let mut connection = echo(demo, way, Protocol::Http2).await;
        let path = format!("/bytes/{MUCH}");
        let unread = connection.open(Method::GET, &path, HeaderMap::new(), empty()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(connection.get("/").await.unwrap().status, StatusCode::OK, "{way:?}");
        }
        let mut left = unread.into_body();
        let mut length = 0;
        while let Some(frame) = left.frame().await {
            length += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(length, MUCH, "{way:?}");
    }
}
