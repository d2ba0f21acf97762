//! HTTP/2: with TLS, by prior knowledge, and towards instances.

use http::{HeaderMap, Method, Request, StatusCode};

use super::{WAYS, Way, echo, instance, public, services, until_found};
use crate::support::demo::{Demo, HOST, HTTP, HTTPS, SERVICE};
use crate::support::http::{Connection, Protocol, empty, full, plain};
use crate::support::http2::Http2;
use crate::support::upstream;

async fn echoes(connection: &mut Connection, of: &str) {
    let sent = vec![b'x'; 100_000];
    let answer = connection.send(Method::POST, "/echo", HeaderMap::new(), full(sent.clone())).await.unwrap();
    assert!(answer.status == StatusCode::OK && answer.body == sent, "{of}: {:?}", answer.status);
}

#[tokio::test]
async fn a_workload_may_speak_http2_by_prior_knowledge() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let mut connection = echo(demo, way, Protocol::Http2).await;
        echoes(&mut connection, &format!("{way:?}")).await;
    }
}

#[tokio::test]
async fn a_client_of_the_public_http_port_may_speak_http2_by_prior_knowledge() {
    let demo = Demo::shared().await;
    let at = std::net::SocketAddr::new(demo.gateway(0, 0), HTTP);
    let mut connection = plain("127.0.0.1".parse().unwrap(), at, HOST, Protocol::Http2).await.unwrap();
    let answer = connection.get("/basket").await.unwrap();
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.header("location"), format!("https://{HOST}:{HTTPS}/basket"));
}

#[tokio::test]
async fn an_instance_may_speak_http2_only() {
    let demo = Demo::shared().await;
    for (way, number) in [(Way::OneGateway, 63), (Way::Tunnel, 64)] {
        let (service, at) = (format!("only-http2-{number}"), instance(demo, way, number));
        upstream::serve_http2(at).await;
        upstream::register_as("http2", &services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let gateway = std::net::SocketAddr::new(demo.gateway(0, 0), SERVICE);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let host = format!("{service}.shop.internal");
            let mut connection = plain(demo.workload(0), gateway, &host, protocol).await.unwrap();
            echoes(&mut connection, &format!("{way:?} {protocol:?}")).await;
        }
    }
}

#[tokio::test]
async fn trailers_of_an_answer_reach_a_workload() {
    let demo = Demo::shared().await;
    let welcome = HeaderMap::from_iter([(http::header::TE, "trailers".parse().unwrap())]);
    for way in WAYS {
        let mut connection = echo(demo, way, Protocol::Http2).await;
        let answer = connection.send(Method::GET, "/trailers", welcome.clone(), empty()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{way:?}");
        assert_eq!(answer.trailers["x-end"], "reached", "{way:?}: {answer:?}");
    }
}

#[tokio::test]
async fn trailers_reach_a_public_client() {
    let demo = Demo::shared().await;
    let mut connection =
        Http2::over(public(demo, b"h2").await, &format!("https://{}:{HTTPS}", super::ECHO)).await.unwrap();
    for _ in 0..3 {
        let mut request = Request::new(());
        *request.uri_mut() = connection.uri("/trailers");
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let mut stream = connection.open(request).await.unwrap();
        stream.finish().unwrap();
        let (head, mut body) = stream.answer().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
        while body.part().await.unwrap().is_some() {}
        assert_eq!(body.trailers().await.unwrap()["x-end"], "reached");
    }
}
