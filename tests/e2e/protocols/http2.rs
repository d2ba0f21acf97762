//! HTTP/2: with TLS, by prior knowledge, and towards instances.

use http::{HeaderMap, Method, Request, StatusCode};

use super::http1::HINTED;
use super::{WAYS, Way, echo, instance, public, services, until_found, workload};
use crate::support::demo::{Demo, HOST, HTTP, HTTPS, SERVICE};
use crate::support::http::{Connection, Protocol, empty, full, plain, with_trailers};
use crate::support::http2::{Http2, Stream};
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

#[tokio::test]
async fn trailers_of_a_request_reach_an_instance_but_for_those_that_must_not() {
    let demo = Demo::shared().await;
    let said = [("x-sum", "42"), ("content-length", "9"), ("x-forwarded-for", "6.6.6.6")];
    let trailers = HeaderMap::from_iter(said.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())));
    let welcome = [("te", "trailers"), ("trailer", "x-sum")];
    let welcome = HeaderMap::from_iter(welcome.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())));
    for way in WAYS {
        let mut connection = echo(demo, way, Protocol::Http2).await;
        let body = with_trailers("hello", trailers.clone());
        let answer = connection.send(Method::POST, "/echo", welcome.clone(), body).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]), "{way:?}");
        let harmless = HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())]);
        assert_eq!(answer.trailers, harmless, "{way:?}");
    }
}

/// A workload's request to a service of the mesh, whose body may follow.
async fn ask(demo: &Demo, service: &str, path: &str, fields: &[(&'static str, &'static str)]) -> Stream {
    let origin = format!("http://{service}.shop.internal:{SERVICE}");
    let mut connection = Http2::over(workload(demo, SERVICE).await, &origin).await.unwrap();
    let mut request = Request::new(());
    *request.uri_mut() = connection.uri(path);
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connection.open(request).await.unwrap()
}

#[tokio::test]
async fn early_hints_come_before_the_answer() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([65, 66]) {
        let (service, at) = (format!("hints-{number}"), instance(demo, way, number));
        upstream::say(at, HINTED).await;
        upstream::register(&services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let mut stream = ask(demo, &service, "/page", &[]).await;
        stream.finish().unwrap();
        let hints = stream.interim().await.unwrap().expect("hints");
        assert_eq!(hints.status(), StatusCode::EARLY_HINTS, "{way:?}");
        assert_eq!(hints.headers()["link"], "</style.css>; rel=preload", "{way:?}");
        let (head, mut body) = stream.answer().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK, "{way:?}");
        assert_eq!(&body.exactly(4).await.unwrap().unwrap()[..], b"page", "{way:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_so_is_told_to_go_on() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let service = way.host("echo");
        let service = service.strip_suffix(".shop.internal").unwrap();
        let mut stream = ask(demo, service, "/echo", &[("expect", "100-continue"), ("content-length", "5")]).await;
        let interim = stream.interim().await.unwrap().expect("to be told to go on");
        assert_eq!(interim.status(), StatusCode::CONTINUE, "{way:?}");
        stream.send("hello").unwrap();
        stream.finish().unwrap();
        let (head, mut body) = stream.answer().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK, "{way:?}");
        assert_eq!(&body.exactly(5).await.unwrap().unwrap()[..], b"hello", "{way:?}");
    }
}

#[tokio::test]
async fn an_answer_keeps_its_date() {
    const DATED: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([67, 68]) {
        let (service, at) = (format!("dated-{number}"), instance(demo, way, number));
        upstream::say(at, DATED).await;
        upstream::register(&services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let mut stream = ask(demo, &service, "/", &[]).await;
        stream.finish().unwrap();
        let (head, _) = stream.answer().await.unwrap();
        let dates: Vec<_> = head.headers().get_all("date").iter().collect();
        assert_eq!(dates, ["Sun, 06 Nov 1994 08:49:37 GMT"], "{way:?}");
    }
}

#[tokio::test]
async fn an_answer_without_a_date_gets_one() {
    let demo = Demo::shared().await;
    let mut stream = ask(demo, "nobody", "/", &[]).await;
    stream.finish().unwrap();
    let (head, _) = stream.answer().await.unwrap();
    let date = head.headers()["date"].to_str().unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{head:?}");
}
