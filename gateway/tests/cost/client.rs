//! Clients that send one request after another on one connection, on threads other than the gateway's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::instance;

/// No answer takes so long, on the slowest machine.
const LATE: Duration = Duration::from_secs(30);

/// Whoever asks the gateway.
pub trait Client {
    /// Sends a request, and takes the answer, which must be the instance's.
    fn ask(&mut self);
}

/// HTTP/1.1, by hand.
pub struct Http1 {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Http1 {
    /// Connects. With a body it is a POST.
    pub fn new(to: SocketAddr, host: &str, body: &[u8]) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LATE)).unwrap();
        let common = format!("host: {host}\r\nuser-agent: cost/1\r\naccept: */*\r\naccept-encoding: gzip\r\n");
        let head = match body.len() {
            0 => format!("GET /catalogue/items?page=2 HTTP/1.1\r\n{common}\r\n"),
            length => format!("POST /orders HTTP/1.1\r\n{common}content-length: {length}\r\n\r\n"),
        };
        Http1 { stream, request: [head.as_bytes(), body].concat(), answer: Vec::new() }
    }

    /// The answer's head, once the whole answer has come.
    fn head(&self) -> Option<&[u8]> {
        let end = self.answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        (self.answer.len() >= end + instance::BODY).then_some(&self.answer[..end])
    }
}

impl Client for Http1 {
    fn ask(&mut self) {
        self.stream.write_all(&self.request).unwrap();
        self.answer.clear();
        let mut piece = [0; 4_096];
        while self.head().is_none() {
            let read = self.stream.read(&mut piece).unwrap();
            assert!(read > 0, "the gateway closed: {}", String::from_utf8_lossy(&self.answer));
            self.answer.extend_from_slice(&piece[..read]);
        }
        let head = String::from_utf8_lossy(self.head().unwrap());
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

/// HTTP/2 over TLS.
pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

impl Http2 {
    /// Connects, and believes this certificate.
    pub fn new(to: SocketAddr, host: &str, certificate: CertificateDer<'static>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let sender = runtime.block_on(connect(to, host, certificate));
        let request = Request::get(format!("https://{host}/catalogue/items?page=2"));
        let request = request.header("user-agent", "cost/1").header("accept", "*/*").header("accept-encoding", "gzip");
        Http2 { runtime, sender, request: request.body(()).unwrap() }
    }
}

async fn connect(to: SocketAddr, host: &str, certificate: CertificateDer<'static>) -> SendRequest<Bytes> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

impl Client for Http2 {
    fn ask(&mut self) {
        let answered = exchange(&mut self.sender, self.request.clone());
        let answered = self.runtime.block_on(async { timeout(LATE, answered).await });
        assert_eq!(answered.unwrap().unwrap(), instance::BODY);
    }
}

/// The length of the body that was answered.
async fn exchange(sender: &mut SendRequest<Bytes>, request: Request<()>) -> Result<usize, h2::Error> {
    let (answer, _) = sender.send_request(request, true)?;
    let answer = answer.await?;
    assert_eq!(answer.status(), 200);
    let (mut body, mut length) = (answer.into_body(), 0);
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        length += piece.len();
    }
    Ok(length)
}
