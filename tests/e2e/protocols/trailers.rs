//! What follows an answer's body, and must not say what belongs before it.

use std::net::SocketAddr;

use http::header::TE;
use http::{HeaderMap, Method, StatusCode};

use super::{WAYS, Way, instance, services, until_found};
use crate::support::demo::{Demo, SERVICE};
use crate::support::http::{Protocol, empty, plain};
use crate::support::leaver::Leaver;
use crate::support::upstream;

/// What nobody may say there (RFC 9110 section 6.5.1), and what everybody may.
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
                       Set-Cookie: a=b\r\nContent-Length: 3\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
                       Tombolo-Served-By: nobody\r\nX-End: reached\r\n\r\n";

/// Only the harmless trailer reaches a client of HTTP/2, behind the whole body.
async fn only_the_harmless_one_comes(demo: &Demo, way: Way, service: &str) {
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let host = format!("{service}.shop.internal");
    let mut connection = plain(demo.workload(0), at, &host, Protocol::Http2).await.unwrap();
    let welcome = HeaderMap::from_iter([(TE, "trailers".parse().unwrap())]);
    let answer = connection.send(Method::GET, "/trailers", welcome, empty()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]), "{way:?}");
    let harmless = HeaderMap::from_iter([("x-end".parse().unwrap(), "reached".parse().unwrap())]);
    assert_eq!(answer.trailers, harmless, "{way:?}");
}

#[tokio::test]
async fn trailers_of_chunks_are_stripped_for_http2() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([161, 162]) {
        let (service, at) = (format!("chunked-trailers-{number}"), instance(demo, way, number));
        upstream::say(at, CHUNKED).await;
        upstream::register(&services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        only_the_harmless_one_comes(demo, way, &service).await;
    }
}

#[tokio::test]
async fn trailers_of_http2_are_stripped_for_http2() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([163, 164]) {
        let (service, at) = (format!("http2-trailers-{number}"), instance(demo, way, number));
        Leaver::serve(at).await;
        upstream::register_as("http2", &services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        only_the_harmless_one_comes(demo, way, &service).await;
    }
}
