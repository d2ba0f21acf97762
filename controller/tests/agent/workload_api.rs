//! A client of the SPIFFE Workload API of a few lines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// A call and what came of it so far.
pub(crate) struct Call {
    head: HeaderMap,
    body: Incoming,
    held: BytesMut,
}

/// What comes of a call next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// A message's length-delimited fields, by number.
    Message(Fields),
    /// Its end: status and message.
    End(String, String),
}

/// Length-delimited fields of a message, by number, in their order.
pub(crate) type Fields = BTreeMap<u8, Vec<Bytes>>;

impl Call {
    /// Calls a method with these metadata and a request of no fields.
    pub(crate) async fn begin(socket: &Path, method: &str, metadata: &[(&str, &str)]) -> Call {
        Self::with_body(socket, method, metadata, &[0; 5]).await
    }

    pub(crate) async fn with_body(socket: &Path, method: &str, metadata: &[(&str, &str)], body: &[u8]) -> Call {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::post(format!("http://localhost/SpiffeWorkloadAPI/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        Call { head: head.headers, body, held: BytesMut::new() }
    }

    /// The next message, or the end.
    pub(crate) async fn next(&mut self) -> Came {
        if let Some(status) = self.head.get("grpc-status").cloned() {
            return end(&self.head, status.to_str().unwrap());
        }
        loop {
            if self.held.len() >= 5 {
                let length = u32::from_be_bytes(self.held[1..5].try_into().unwrap()) as usize;
                if self.held.len() >= 5 + length {
                    let message = self.held.split_to(5 + length).split_off(5).freeze();
                    return Came::Message(fields(message));
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("nothing came");
            let frame = frame.expect("the call ended without a status").unwrap();
            match frame.into_data() {
                Ok(data) => self.held.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    return end(&trailers, trailers["grpc-status"].to_str().unwrap());
                }
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Fields {
        match self.next().await {
            Came::Message(fields) => fields,
            end => panic!("{end:?}"),
        }
    }

    pub(crate) async fn end(&mut self) -> (String, String) {
        match self.next().await {
            Came::End(status, message) => (status, message),
            message => panic!("{message:?}"),
        }
    }
}

fn end(headers: &HeaderMap, status: &str) -> Came {
    let message = headers.get("grpc-message").map(|text| text.to_str().unwrap().to_owned());
    Came::End(status.to_owned(), message.unwrap_or_default())
}

/// The fields of a message, all of which are length-delimited.
pub(crate) fn fields(mut message: Bytes) -> Fields {
    let mut fields = Fields::new();
    while !message.is_empty() {
        let (tag, mut length, mut shift) = (message.split_to(1)[0], 0usize, 0);
        assert_eq!(tag & 7, 2, "not length-delimited");
        loop {
            let byte = message.split_to(1)[0];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        fields.entry(tag >> 3).or_default().push(message.split_to(length));
    }
    fields
}
