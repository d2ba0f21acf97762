//! A stream on which a test says what it likes, word by word, as releases do that are not this one.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use config::wire::frame::{self, Decoder, Frame};
use controller::http::client::Client;
use controller::sync::PATH;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Words {
    out: mpsc::UnboundedSender<Bytes>,
    body: Incoming,
    decoder: Decoder,
}

impl Words {
    pub async fn open(client: &Client, hello: Value) -> Self {
        let (out, mut waiting) = mpsc::unbounded_channel::<Bytes>();
        let frames = futures_util::stream::poll_fn(move |context| {
            waiting
                .poll_recv(context)
                .map(|bytes| bytes.map(|bytes| Ok::<_, io::Error>(hyper::body::Frame::data(bytes))))
        });
        out.send(frame::message(&hello).unwrap()).unwrap();
        let body = client.stream(PATH, BodyExt::boxed(StreamBody::new(frames))).await.unwrap();
        Words { out, body, decoder: Decoder::default() }
    }

    pub fn say(&self, message: &Value) {
        self.say_bytes(frame::message(message).unwrap());
    }

    /// Says that it lives, for as long as anybody listens.
    pub fn keep_beating(&self) {
        let (out, beat) = (self.out.clone(), frame::message(&serde_json::json!({"type": "beat"})).unwrap());
        tokio::spawn(async move {
            while out.send(beat.clone()).is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    pub fn say_bytes(&self, bytes: Bytes) {
        self.out.send(bytes).unwrap();
    }

    /// The next message but beats; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match self.decoder.next::<Value>().unwrap() {
                Some(Frame::Message(message)) if message["type"] == "beat" => {}
                Some(Frame::Message(message)) => return Some(message),
                Some(_) => {}
                None => {
                    let part = timeout(PATIENCE, self.body.frame()).await.expect("nothing is said");
                    self.decoder.push(&part?.ok()?.into_data().ok()?);
                }
            }
        }
    }

    /// The next message of a type; others before it are passed over.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("it ended without {kind}"));
            if message["type"] == kind {
                return message;
            }
        }
    }
}
