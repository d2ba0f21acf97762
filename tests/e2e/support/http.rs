//! A client that says for itself where it connects, from where, and under which names.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A request whose answer takes longer counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Whatever fails, as the text that a failing test shows.
pub type Outcome<T> = Result<T, String>;

/// A body that a request can carry.
pub type Body = BoxBody<Bytes, Infallible>;

/// No body.
pub fn empty() -> Body {
    Empty::new().boxed()
}

/// A body of unknown length, with what follows it.
pub fn with_trailers(bytes: impl Into<Bytes>, trailers: HeaderMap) -> Body {
    let frames = [Ok(Frame::data(bytes.into())), Ok(Frame::trailers(trailers))];
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

/// A body that comes as it is sent into the channel, and ends with it.
pub fn by_and_by() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let next = |mut receiver: mpsc::Receiver<Bytes>| async move { Some((receiver.recv().await?, receiver)) };
    let frames = futures_util::stream::unfold(receiver, next).map(|bytes| Ok(Frame::data(bytes)));
    (sender, BodyExt::boxed(StreamBody::new(frames)))
}

/// A body that is known whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// Both ways of a connection.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http1,
    Http2,
}

/// Whom it trusts, and who it is.
#[derive(Clone)]
pub struct Client {
    roots: RootCertStore,
    identity: Option<(String, String)>,
}

impl Client {
    /// Trusts the certificates in this PEM, and no others.
    pub fn trusting(ca: &str) -> Client {
        let mut roots = RootCertStore::empty();
        CertificateDer::pem_slice_iter(ca.as_bytes()).for_each(|root| roots.add(root.unwrap()).unwrap());
        Client { roots, identity: None }
    }

    /// Shows this certificate chain, with this key, both PEM.
    pub fn with_identity(mut self, chain: &str, key: &str) -> Client {
        self.identity = Some((chain.to_owned(), key.to_owned()));
        self
    }

    fn config(&self, alpn: &[u8]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    /// A TLS connection to this address, for this name; it verifies the name.
    pub async fn tls(&self, at: SocketAddr, name: &str, alpn: &[u8]) -> Outcome<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(at).await.map_err(|error| format!("{at}: {error}"))?;
        self.tls_over(stream, name, alpn).await
    }

    /// TLS over a connection that is there.
    async fn tls_over(&self, stream: TcpStream, name: &str, alpn: &[u8]) -> Outcome<TlsStream<TcpStream>> {
        let at = stream.peer_addr().map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(self.config(alpn)));
        connector.connect(name, stream).await.map_err(|error| format!("TLS with {at}: {error}"))
    }

    /// A connection for HTTPS requests, negotiated by ALPN.
    pub async fn https(&self, at: SocketAddr, name: &str, protocol: Protocol) -> Outcome<Connection> {
        let stream = TcpStream::connect(at).await.map_err(|error| format!("{at}: {error}"))?;
        self.https_over(stream, name, protocol).await
    }

    /// The same over a connection that is there.
    pub async fn https_over(&self, stream: TcpStream, name: &str, protocol: Protocol) -> Outcome<Connection> {
        let at = stream.peer_addr().map_err(|error| error.to_string())?;
        let alpn: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
        let stream = self.tls_over(stream, name, alpn).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn), "the server chose another protocol");
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let mut connection = Connection::over(stream, protocol, "https").await?;
        connection.authority = format!("{name}:{}", at.port());
        connection.certificate = Some(leaf);
        Ok(connection)
    }
}

/// A connection for plain requests, from this address.
pub async fn plain(from: IpAddr, at: SocketAddr, host: &str, protocol: Protocol) -> Outcome<Connection> {
    let stream = connect(from, at).await.map_err(|error| format!("{at} from {from}: {error}"))?;
    let mut connection = Connection::over(stream, protocol, "http").await?;
    connection.authority = format!("{host}:{}", at.port());
    Ok(connection)
}

/// A plain connection, from this address.
pub async fn connect(from: IpAddr, at: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(at).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// One connection: what is sent on it is sent one after another.
pub struct Connection {
    sender: Sender,
    scheme: &'static str,
    /// The host that requests name, unless they name one.
    pub authority: String,
    /// The certificate that the server showed.
    pub certificate: Option<CertificateDer<'static>>,
}

impl Connection {
    /// Over a stream that is there.
    pub async fn over(stream: impl Wire, protocol: Protocol, scheme: &'static str) -> Outcome<Connection> {
        let io = TokioIo::new(stream);
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(explained)?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(explained)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection { sender, scheme, authority: String::new(), certificate: None })
    }

    /// Sends a request for a path, and returns as soon as there is a response head.
    pub async fn open(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Outcome<Response<Incoming>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                *request.uri_mut() = path.parse().unwrap();
                let host = self.authority.parse().unwrap();
                request.headers_mut().entry(http::header::HOST).or_insert(host);
                sender.ready().await.map_err(explained)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = format!("{}://{}{path}", self.scheme, self.authority).parse().unwrap();
                sender.ready().await.map_err(explained)?;
                sender.send_request(request).await
            }
        };
        answer.map_err(explained)
    }

    /// Sends a request, and reads the whole answer.
    pub async fn send(&mut self, method: Method, path: &str, headers: HeaderMap, body: Body) -> Outcome<Answer> {
        let whole = async {
            let (head, body) = self.open(method, path, headers, body).await?.into_parts();
            let body = body.collect().await.map_err(explained)?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
        };
        tokio::time::timeout(PATIENCE, whole).await.map_err(|_| format!("no answer after {PATIENCE:?}"))?
    }

    /// Whether it takes another request.
    pub async fn is_open(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// A GET.
    pub async fn get(&mut self, path: &str) -> Outcome<Answer> {
        self.send(Method::GET, path, HeaderMap::new(), empty()).await
    }
}

/// Whether an error says that the request never left, because its connection was found to be ending: by a close, or by
/// GOAWAY without an error (RFC 9113 section 6.8). Every client library sends it again on another connection.
pub fn never_left(error: &str) -> bool {
    error.contains("operation was canceled") || error.contains("not a result of an error")
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What followed the body.
    pub trailers: HeaderMap,
}

impl Answer {
    /// A header that must be there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// Which instance served, as the gateway says: `cluster/version/address:port`.
    pub fn served_by(&self) -> String {
        self.header("tombolo-served-by").to_owned()
    }

    /// Which cluster served.
    pub fn cluster(&self) -> String {
        self.served_by().split('/').next().unwrap().to_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn explained(error: hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
