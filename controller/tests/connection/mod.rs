//! One connection that is kept, as no sound client of ours keeps it: each of its requests must be judged anew.

pub mod words;

use bytes::Bytes;
use config::resource::Address;
use config::wire::frame::{self, Decoder, Frame};
use config::wire::{Down, Hello, MemberRole, PROTOCOL, Up};
use controller::sync::PATH;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use serde::Serialize;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub struct Kept(SendRequest<Full<Bytes>>);

impl Kept {
    pub async fn open(address: &Address, tls: ClientConfig) -> Self {
        let stream = TcpStream::connect(address.to_string()).await.unwrap();
        let name = std::net::Ipv4Addr::LOCALHOST.into();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Kept(sender)
    }

    async fn send(&mut self, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        let request = Request::post(format!("https://kept{path}"))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .unwrap();
        let (head, body) = self.0.send_request(request).await.unwrap().into_parts();
        (head.status, body.collect().await.unwrap().to_bytes())
    }

    pub async fn post(&mut self, path: &str, body: &impl Serialize) -> (StatusCode, String) {
        let (status, body) = self.send(path, serde_json::to_vec(body).unwrap().into()).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Says hello on a new stream; returns what the source says first.
    pub async fn hello(&mut self, name: &str, role: MemberRole) -> Down {
        let (version, boot) = (String::new(), String::new());
        let name = name.parse().unwrap();
        let hello = Hello { protocol: PROTOCOL, version, features: vec![], name, boot, role, addresses: None };
        let (_, said) = self.send(PATH, frame::message(&Up::Hello(hello)).unwrap()).await;
        let mut decoder = Decoder::default();
        decoder.push(&said);
        match decoder.next().unwrap() {
            Some(Frame::Message(down)) => down,
            _ => panic!("it said nothing"),
        }
    }
}
