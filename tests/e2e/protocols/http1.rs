//! HTTP/1.1, and what older clients speak.

use http::{HeaderMap, Method, StatusCode};

use super::{WAYS, Way, echo, instance, raw, services, until_found, workload};
use crate::support::demo::{Demo, SERVICE};
use crate::support::http::{Protocol, empty, with_trailers};
use crate::support::raw::Raw;
use crate::support::upstream;

/// An instance's answer that comes with hints before it.
pub const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n\
                      HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage";

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let (mut connection, host) = raw(demo, way).await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        let sized = "Content-Length: 3\r\n\r\nabc";
        let post = |path: &str, body: &str| format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{body}");
        let requests = [get("/first"), post("/count", chunked), get("/third"), post("/count", sized), get("/fifth")];
        connection.send(requests.concat()).await;
        assert_eq!(connection.answer().await.json()["path"], "/first", "{way:?}");
        assert_eq!(&connection.answer().await.body[..], b"11", "{way:?}");
        assert_eq!(connection.answer().await.json()["path"], "/third", "{way:?}");
        assert_eq!(&connection.answer().await.body[..], b"3", "{way:?}");
        assert_eq!(connection.answer().await.json()["path"], "/fifth", "{way:?}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_and_the_connection_ends() {
    let demo = Demo::shared().await;
    for way in WAYS {
        for path in ["/hello", "/events?n=2"] {
            let (mut connection, host) = raw(demo, way).await;
            connection.send(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")).await;
            let head = connection.head().await;
            assert_eq!(head.status, StatusCode::OK, "{way:?} {path}");
            assert!(!head.headers.contains_key("transfer-encoding"), "HTTP/1.0 knows no chunks: {head:?}");
            let answer = connection.rest(head).await;
            let expected = if path == "/hello" { "\"path\":\"/hello\"" } else { "id: 1\ndata: 1\n\n" };
            assert!(std::str::from_utf8(&answer.body).unwrap().contains(expected), "{way:?}: {answer:?}");
            assert!(connection.has_ended().await);
        }
    }
}

#[tokio::test]
async fn an_answer_that_has_no_body_leaves_the_connection_usable() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let (mut connection, host) = raw(demo, way).await;
        for status in [204, 304] {
            connection.send(format!("GET /status/{status} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(connection.answer().await.status.as_u16(), status, "{way:?}");
        }
        connection.send(format!("HEAD /hello HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = connection.head().await;
        assert!(head.status == StatusCode::OK && head.headers["content-length"].to_str().unwrap() != "0", "{head:?}");
        connection.send(format!("GET /last HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(connection.answer().await.json()["path"], "/last", "{way:?}");
    }
}

#[tokio::test]
async fn a_body_is_sent_once_the_gateway_says_continue() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let (mut connection, host) = raw(demo, way).await;
        let expect = "Expect: 100-continue\r\nContent-Length: 5\r\n";
        connection.send(format!("POST /count HTTP/1.1\r\nHost: {host}\r\n{expect}\r\n")).await;
        assert_eq!(connection.head().await.status, StatusCode::CONTINUE, "{way:?}");
        connection.send("hello").await;
        let answer = connection.answer().await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"5"[..]), "{way:?}");
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_without_asking_for_the_body() {
    let demo = Demo::shared().await;
    let mut connection = Raw::over(workload(demo, SERVICE).await);
    let expect = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    connection.send(format!("POST / HTTP/1.1\r\nHost: nobody.shop.internal:{SERVICE}\r\n{expect}\r\n")).await;
    let head = connection.head().await;
    assert!(head.status.is_client_error() || head.status.is_server_error(), "{head:?}");
}

/// Says that trailers are welcome (RFC 9110 section 10.1.4).
fn welcoming() -> HeaderMap {
    let fields = [("te", "trailers"), ("connection", "te")];
    HeaderMap::from_iter(fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())))
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let demo = Demo::shared().await;
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())]);
    let mut connection = echo(demo, Way::OneGateway, Protocol::Http1).await;
    let mut headers = welcoming();
    headers.insert("trailer", "x-sum".parse().unwrap());
    let body = with_trailers("hello", trailers.clone());
    let answer = connection.send(Method::POST, "/echo", headers, body).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(answer.trailers, trailers, "{answer:?}");
}

#[tokio::test]
async fn trailers_of_an_answer_come_from_another_cluster_too() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let mut connection = echo(demo, way, Protocol::Http1).await;
        let answer = connection.send(Method::GET, "/trailers", welcoming(), empty()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{way:?}");
        assert_eq!(answer.trailers["x-end"], "reached", "{way:?}: {answer:?}");
    }
}

#[tokio::test]
async fn early_hints_come_before_the_answer_but_not_to_http_1_0() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([61, 62]) {
        let (service, at) = (format!("hints-{number}"), instance(demo, way, number));
        let heads = upstream::say(at, HINTED).await;
        upstream::register(&services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let request = |version| format!("GET /page {version}\r\nHost: {service}.shop.internal:{SERVICE}\r\n\r\n");

        let mut connection = Raw::over(workload(demo, SERVICE).await);
        connection.send(request("HTTP/1.1")).await;
        let hints = connection.head().await;
        assert_eq!(hints.status, StatusCode::EARLY_HINTS, "{way:?}: {hints:?}");
        assert_eq!(hints.headers["link"], "</style.css>; rel=preload");
        assert_eq!(&connection.answer().await.body[..], b"page");

        let mut connection = Raw::over(workload(demo, SERVICE).await);
        connection.send(request("HTTP/1.0")).await;
        assert_eq!(connection.head().await.status, StatusCode::OK, "{way:?}");

        let asked = heads.lock().unwrap().iter().filter(|head| head.starts_with("GET /page HTTP/1.1\r\n")).count();
        assert_eq!(asked, 2, "{way:?}: {heads:?}");
    }
}
