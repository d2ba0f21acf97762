//! What takes long comes as it is sent. No clock is asked: nobody sends the next part before the last one arrived.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;

use super::{WAYS, echo, instance, services, until_found};
use crate::support::demo::{Demo, SERVICE};
use crate::support::events::Events;
use crate::support::fickle::Fickle;
use crate::support::http::{PATIENCE, Protocol, by_and_by, empty, plain};
use crate::support::upstream;

async fn events_arrive_one_by_one(protocol: Protocol, numbers: [u8; 2]) {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip(numbers) {
        let (service, at) = (format!("events-{number}"), instance(demo, way, number));
        let instance = upstream::events(at).await;
        upstream::register(&services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let gateway = std::net::SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let host = format!("{service}.shop.internal");
        let mut connection = plain(demo.workload(0), gateway, &host, protocol).await.unwrap();
        let answer = connection.open(Method::GET, "/events", HeaderMap::new(), empty()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = Events::of(answer.into_body());
        for event in ["one", "two", "three"] {
            instance.send(event).await.unwrap();
            assert_eq!(events.next().await.as_deref(), Some(event), "{way:?} {protocol:?}");
        }
        drop(instance);
        assert_eq!(events.next().await, None, "{way:?} {protocol:?}");
    }
}

#[tokio::test]
async fn an_event_arrives_before_the_next_one_is_sent_over_http1() {
    events_arrive_one_by_one(Protocol::Http1, [69, 70]).await;
}

#[tokio::test]
async fn an_event_arrives_before_the_next_one_is_sent_over_http2() {
    events_arrive_one_by_one(Protocol::Http2, [71, 72]).await;
}

#[tokio::test]
async fn a_body_is_answered_while_it_is_sent_over_http1() {
    body_is_answered_while_it_is_sent(Protocol::Http1).await;
}

#[tokio::test]
async fn a_body_is_answered_while_it_is_sent_over_http2() {
    body_is_answered_while_it_is_sent(Protocol::Http2).await;
}

async fn body_is_answered_while_it_is_sent(protocol: Protocol) {
    let demo = Demo::shared().await;
    for way in WAYS {
        let mut connection = echo(demo, way, protocol).await;
        let (sender, body) = by_and_by();
        sender.send(Bytes::from_static(b"one")).await.unwrap();
        let answer = connection.open(Method::POST, "/echo", HeaderMap::new(), body).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut back = answer.into_body();
        for (this, next) in [("one", "two"), ("two", "three"), ("three", "end")] {
            let echoed = back.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(&echoed[..], this.as_bytes(), "{way:?} {protocol:?}");
            sender.send(Bytes::from_static(next.as_bytes())).await.unwrap();
        }
        drop(sender);
        assert_eq!(&back.collect().await.unwrap().to_bytes()[..], b"end", "{way:?} {protocol:?}");
    }
}

/// Small answers of known length are held for a moment, in case they break off: not until their end.
#[tokio::test]
async fn the_first_part_of_a_short_answer_arrives_before_the_last_one_is_sent() {
    let demo = Demo::shared().await;
    for (way, number) in WAYS.into_iter().zip([165, 166]) {
        let (service, at) = (format!("parts-{number}"), instance(demo, way, number));
        let fickle = Fickle::serve(at).await;
        upstream::register(&services(demo, way), way.cluster(), &service, at);
        until_found(demo, &service).await;
        let gateway = std::net::SocketAddr::new(demo.gateway(0, 0), SERVICE);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let host = format!("{service}.shop.internal");
            let mut connection = plain(demo.workload(0), gateway, &host, protocol).await.unwrap();
            let answer = connection.open(Method::GET, "/parts", HeaderMap::new(), empty());
            let answer = tokio::time::timeout(PATIENCE, answer).await.expect("the head").unwrap();
            assert_eq!((answer.status(), answer.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "5"));
            let mut body = answer.into_body();
            let first = tokio::time::timeout(PATIENCE, body.frame()).await.expect("the first part").unwrap().unwrap();
            assert_eq!(&first.into_data().unwrap()[..], b"he", "{way:?} {protocol:?}");
            fickle.go_on();
            assert_eq!(&body.collect().await.unwrap().to_bytes()[..], b"llo", "{way:?} {protocol:?}");
        }
    }
}
