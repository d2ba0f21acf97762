//! Controllers of the release before this one, and of the one after it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use config::wire::frame::{self, Decoder, Frame};
use controller::local::Agent;
use controller::member::Member;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::controller_fake::Fake;
use crate::life::{PATIENCE, Place, run_agent, run_member};

/// One follower's stream, at a source of another release.
struct Words {
    heard: mpsc::UnboundedReceiver<Value>,
    out: mpsc::UnboundedSender<Bytes>,
}

impl Words {
    /// What the follower says next, but beats.
    async fn next(&mut self) -> Value {
        timeout(PATIENCE, self.heard.recv()).await.expect("it says nothing").expect("the stream ended")
    }

    fn say(&self, message: &Value) {
        self.out.send(frame::message(message).unwrap()).unwrap();
    }
}

async fn hear(mut body: axum::body::BodyDataStream, heard: mpsc::UnboundedSender<Value>) {
    let mut decoder = Decoder::default();
    while let Some(Ok(bytes)) = body.next().await {
        decoder.push(&bytes);
        while let Some(Frame::Message(message)) = decoder.next::<Value>().unwrap() {
            if message["type"] != "beat" && heard.send(message).is_err() {
                return;
            }
        }
    }
}

/// The streams that come to a controller of another release.
async fn streams(fake: &Arc<Fake>, place: &Place) -> (mpsc::UnboundedReceiver<Words>, Agent) {
    let (streams, coming) = mpsc::unbounded_channel();
    let stream = post(move |body: Body| async move {
        let ((heard, hearing), (out, mut waiting)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel::<Bytes>());
        tokio::spawn(hear(body.into_data_stream(), heard));
        streams.send(Words { heard: hearing, out }).unwrap();
        let frames = futures_util::stream::poll_fn(move |context| waiting.poll_recv(context));
        Response::new(Body::from_stream(frames.map(Ok::<_, Infallible>)))
    });
    let (address, _) = fake.serve_as("127.0.0.1:0", stream).await;
    let agent = Agent::build(place.settings(Some(fake.token(address).to_string()))).await.unwrap();
    (coming, agent)
}

fn update(entries: Value) -> Value {
    let revision = json!({"global": 7, "agent": {"incarnation": 0, "sequence": 0}});
    json!({"type": "update", "revision": revision, "reset": true, "last": true, "entries": entries})
}

fn cluster(name: &str, more: Value) -> Value {
    let id = format!("Cluster/{name}");
    let mut value = json!({"resource": {"id": id, "labels": {}, "spec": {"Cluster": {"newerField": [1]}}}});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"key": id, "value": value})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_of_the_release_before_hears_nothing_that_it_does_not_know() {
    let (fake, place) = (Fake::new(), Place::new());
    place.write_service("cart");
    let (mut coming, agent) = streams(&fake, &place).await;
    let (_agent, _running) = run_agent(agent);
    let mut stream = timeout(PATIENCE, coming.recv()).await.unwrap().unwrap();
    let hello = stream.next().await;
    assert_eq!((&hello["type"], &hello["protocol"]), (&json!("hello"), &json!(1)));
    stream.say(&json!({"type": "welcome", "mesh": "mesh.example"}));
    let observed = stream.next().await;
    assert_eq!((&observed["type"], &observed["reset"]), (&json!("observed"), &json!(true)), "no holdings");
    stream.say(&update(json!([cluster("north", json!({}))])));
    let mut acks = 0;
    while acks < 3 {
        let said = stream.next().await;
        assert!(["ack", "observed"].contains(&said["type"].as_str().unwrap()), "{said}");
        assert!(
            said.get("partial").is_none() && said.get("same").is_none() && said.get("replaces").is_none(),
            "{said}"
        );
        acks += u32::from(said["type"] == "ack");
        stream.say(&update(json!([cluster(&format!("more{acks}"), json!({}))])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_newer_controllers_words_those_that_are_known_count() {
    let (fake, place) = (Fake::new(), Place::new());
    let (mut coming, agent) = streams(&fake, &place).await;
    let (agent, running) = run_agent(agent);
    let mut stream = timeout(PATIENCE, coming.recv()).await.unwrap().unwrap();
    stream.next().await;
    stream.say(&json!({"type": "welcome", "mesh": "mesh.example", "features": ["fromTheFuture"], "newerField": 1}));
    stream.say(&json!({"type": "fromTheFuture", "x": {"y": []}}));
    stream.out.send(Bytes::from_static(&[0, 0, 0, 2, 77, 1])).unwrap();
    let wonder = json!({"key": "wonder/x", "value": {"wonder": {"x": 1}}});
    stream.say(&update(json!([cluster("north", json!({})), cluster("south", json!({})), wonder])));
    let mut gateway = loop {
        if let Ok(member) = Member::build(place.member_settings("gw1", config::wire::MemberRole::Gateway)) {
            break run_member(member);
        }
    };
    gateway.until_it_knows("Cluster/south").await;
    // South now needs something that this release doesn't have.
    let newer = json!({"needs": ["fromTheFuture"]});
    stream.say(&update(json!([
        cluster("north", json!({})),
        cluster("south", newer.clone()),
        cluster("west", newer),
        wonder
    ])));
    let rejected = |followed: &Option<Arc<controller::member::Followed>>| {
        let rejected = followed.as_ref().map(|followed| followed.rejected.clone()).unwrap_or_default();
        rejected.iter().map(|rejection| rejection.key.clone()).collect::<Vec<_>>()
    };
    let all = ["Cluster/south", "Cluster/west", "wonder/x"];
    crate::life::until(&mut gateway.followed, |followed| rejected(followed) == all).await;
    let keeps = |followed: &Option<Arc<controller::member::Followed>>| {
        let world = &followed.as_ref().unwrap().world;
        (world.facts.contains_key("Cluster/south"), world.facts.contains_key("Cluster/west"))
    };
    assert_eq!(keeps(&gateway.followed.borrow()), (true, false), "the last that was understood, where there was one");
    let settings = place.member_settings("gw1", config::wire::MemberRole::Gateway);
    let kept = settings.state_dir.join("world.json");
    while !std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"understood\"")) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gateway.running.stop().await;
    running.stop().await;
    drop(agent);
    // Also after a restart, with nobody in reach.
    let again = Member::build(settings).unwrap();
    assert_eq!(keeps(&again.followed().borrow()), (true, false));
}
