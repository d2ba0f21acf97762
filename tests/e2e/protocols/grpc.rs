//! gRPC: calls and their ends, those that the gateway makes too.

use std::net::SocketAddr;

use super::{ECHO, WAYS, Way, instance, public, services, workload};
use crate::support::demo::{Demo, GRPC, HTTP, HTTPS, SERVICE};
use crate::support::grpc::{
    Call, Ended, FAILED_PRECONDITION, OK, PERMISSION_DENIED, UNAVAILABLE, UNIMPLEMENTED, unary,
};
use crate::support::http::{Outcome, connect};
use crate::support::http2::Http2;
use crate::support::{eventually, holds, upstream};

const UNARY: &str = "/tombolo.demo.Echo/Unary";
const STREAM: &str = "/tombolo.demo.Echo/Stream";

/// A workload's connection to the demo's echo, by prior knowledge.
async fn echo(demo: &Demo, way: Way) -> Http2 {
    let origin = format!("http://{}:{GRPC}", way.host("echo"));
    Http2::over(workload(demo, GRPC).await, &origin).await.unwrap()
}

/// A public client's connection to it.
async fn public_echo(demo: &Demo) -> Http2 {
    Http2::over(public(demo, b"h2").await, &format!("https://{ECHO}:{HTTPS}")).await.unwrap()
}

fn ok() -> Ended {
    Ended { status: OK, message: String::new(), trailers_only: false }
}

async fn calls(connection: &mut Http2, of: &str) {
    let message = vec![7; 70_000];
    let (messages, ended) = unary(connection, UNARY, &message).await.unwrap_or_else(|error| panic!("{of}: {error}"));
    assert!(messages == [message], "{of}");
    assert_eq!(ended, ok(), "{of}");
}

/// No message is sent before the last one came back.
async fn converses(connection: &mut Http2, of: &str) {
    let mut call = Call::begin(connection, STREAM).await.unwrap();
    for word in [&b"one"[..], b"", b"three"] {
        call.send(word).unwrap();
        let echoed = call.next().await.unwrap_or_else(|error| panic!("{of}: {error}"));
        assert_eq!(echoed.as_deref(), Some(word), "{of}");
    }
    call.finish().unwrap();
    assert_eq!(call.end().await.unwrap(), ok(), "{of}");
}

#[tokio::test]
async fn a_workloads_calls_are_answered() {
    let demo = Demo::shared().await;
    for way in WAYS {
        calls(&mut echo(demo, way).await, &format!("{way:?}")).await;
    }
}

#[tokio::test]
async fn a_public_clients_calls_are_answered() {
    let demo = Demo::shared().await;
    let mut public = public_echo(demo).await;
    for _ in 0..9 {
        calls(&mut public, "public").await;
    }
}

#[tokio::test]
async fn a_workload_and_an_instance_speak_in_turn() {
    let demo = Demo::shared().await;
    for way in WAYS {
        converses(&mut echo(demo, way).await, &format!("{way:?}")).await;
    }
}

#[tokio::test]
async fn a_public_client_and_an_instance_speak_in_turn() {
    let demo = Demo::shared().await;
    let mut public = public_echo(demo).await;
    for _ in 0..9 {
        converses(&mut public, "public").await;
    }
}

#[tokio::test]
async fn an_instances_health_can_be_asked() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let (answer, ended) = unary(&mut echo(demo, way).await, "/grpc.health.v1.Health/Check", b"").await.unwrap();
        assert_eq!((&answer[..], ended), (&[bytes::Bytes::from_static(&[8, 1])][..], ok()), "{way:?}");
    }
}

#[tokio::test]
async fn a_status_without_a_message_comes_as_it_was_sent() {
    let demo = Demo::shared().await;
    for way in WAYS {
        let (messages, ended) = unary(&mut echo(demo, way).await, "/tombolo.demo.Echo/Fail", b"").await.unwrap();
        let message = "this method always fails".to_owned();
        assert_eq!(ended, Ended { status: FAILED_PRECONDITION, message, trailers_only: true }, "{way:?}");
        assert!(messages.is_empty());
    }
}

/// A call's status when the gateway refuses it.
async fn refused(connection: &mut Http2) -> Outcome<u32> {
    let (messages, ended) = unary(connection, UNARY, b"hello").await?;
    holds(messages.is_empty() && ended.trailers_only && !ended.message.is_empty(), || {
        format!("{messages:?} {ended:?}")
    })?;
    Ok(ended.status)
}

#[tokio::test]
async fn without_an_instance_a_call_ends_as_unavailable() {
    let demo = Demo::shared().await;
    for (way, number) in [(Way::OneGateway, 67), (Way::Tunnel, 68)] {
        let service = format!("nobody-{number}");
        // Nobody listens there.
        upstream::register_as("grpc", &services(demo, way), way.cluster(), &service, instance(demo, way, number));
        let origin = format!("http://{service}.shop.internal:{SERVICE}");
        let ends = || async {
            let status = refused(&mut Http2::over(workload(demo, SERVICE).await, &origin).await?).await?;
            holds(status == UNAVAILABLE, || format!("status {status}"))
        };
        eventually("the call is refused as unavailable", ends).await;
    }
}

/// As a client would translate the HTTP status that others get.
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
#[tokio::test]
async fn a_refusal_tells_its_reason_as_a_grpc_status() {
    let demo = Demo::shared().await;
    let at = |port| SocketAddr::new(demo.gateway(0, 0), port);
    let stranger = "127.0.0.1".parse().unwrap();

    let unknown = connect(stranger, at(HTTP)).await.unwrap();
    let mut unknown = Http2::over(unknown, &format!("http://nobody.example.com:{HTTP}")).await.unwrap();
    assert_eq!(refused(&mut unknown).await, Ok(UNIMPLEMENTED), "404: no such host");

    let foreign = connect(stranger, at(GRPC)).await.unwrap();
    let mut foreign = Http2::over(foreign, &format!("http://echo.shop.internal:{GRPC}")).await.unwrap();
    assert_eq!(refused(&mut foreign).await, Ok(PERMISSION_DENIED), "403: the caller is nobody");
}
