//! The one HTTPS client: JSON calls, and the two-way stream of a sync. HTTP/2, one connection for each call: calls
//! are rare, and a stream wants its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::resource::Address;
use config::resource::cluster::AddressHost;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::Refusal;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::message::{ErrorItem, Errors};

/// How long connecting, with its TLS handshake, may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take after that.
const CALL: Duration = Duration::from_secs(30);
/// No answer to a call is longer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How long a download may take.
const DOWNLOAD: Duration = Duration::from_secs(600);
/// No download is longer, in bytes.
const MAX_DOWNLOAD: usize = 1 << 30;

/// A request's body.
pub type Body = BoxBody<Bytes, io::Error>;

/// Why a call failed: what was called, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody is there.
    #[error("cannot reach {address}: {source}; is it running there, and does a firewall let you through?")]
    Unreachable {
        /// Who was called.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is there, or it doesn't believe us.
    #[error("no TLS with {address}: {reason} (is it of your mesh, and are both machines' clocks right?)")]
    Tls {
        /// Who was called.
        address: Address,
        /// Why.
        reason: String,
    },
    /// It is of another mesh or cluster than the token says, or its root was replaced since.
    #[error("no TLS with {address}: {reason}", reason = Refusal::NotPinned)]
    NotPinned {
        /// Who was called.
        address: Address,
    },
    /// It took too long.
    #[error("{0} did not answer in time; it may be overloaded or hung: see its log")]
    Slow(Address),
    /// The connection broke.
    #[error("the connection to {address} broke: {reason}; try again")]
    Broken {
        /// Who was called.
        address: Address,
        /// How.
        reason: String,
    },
    /// It said no.
    #[error("{address} refused ({status}): {}", sentences(.errors))]
    Refused {
        /// Who was called.
        address: Address,
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        errors: Vec<ErrorItem>,
    },
    /// It answered something else than we asked for.
    #[error("the answer of {address} cannot be read: {reason}; is it of the same version?")]
    Unreadable {
        /// Who was called.
        address: Address,
        /// Why.
        reason: String,
    },
}

fn sentences(errors: &[ErrorItem]) -> String {
    let sentence = |error: &ErrorItem| match (&error.id, error.path.as_str()) {
        (Some(id), "") => format!("{id}: {}", error.message),
        (Some(id), path) => format!("{id}, {path}: {}", error.message),
        (None, "") => error.message.clone(),
        (None, path) => format!("{path}: {}", error.message),
    };
    errors.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

/// Calls one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    address: Address,
    tls: watch::Receiver<Arc<ClientConfig>>,
    bearer: Option<Arc<Zeroizing<String>>>,
}

impl Client {
    /// A client that dials `address` with the newest of these configurations. Their ALPN must be
    /// [`CLIENT_ALPN`](super::CLIENT_ALPN).
    pub fn new(address: Address, tls: watch::Receiver<Arc<ClientConfig>>) -> Self {
        Client { address, tls, bearer: None }
    }

    /// The same with one configuration for ever.
    pub fn fixed(address: Address, tls: ClientConfig) -> Self {
        Client::new(address, watch::channel(Arc::new(tls)).1)
    }

    /// Shows a person's API token with each request.
    #[must_use]
    pub fn with_bearer(self, token: Zeroizing<String>) -> Self {
        Client { bearer: Some(Arc::new(token)), ..self }
    }

    /// Whom it calls.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends `body` as JSON and reads the answer as JSON.
    ///
    /// # Errors
    /// When nobody answers in time, the server says no, or the answer is no such `A`.
    pub async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, CallError> {
        let json = serde_json::to_vec(body).map_err(|e| self.unreadable(&e))?;
        self.call(Method::POST, path, Some(json.into())).await
    }

    /// The same without a body.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// The same for `DELETE`.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn delete<A: DeserializeOwned>(&self, path: &str) -> Result<A, CallError> {
        self.call(Method::DELETE, path, None).await
    }

    /// Sends a request and returns the answer's body as it is, whatever it holds.
    ///
    /// # Errors
    /// When nobody answers in time, or the server says no.
    pub async fn bytes(&self, method: Method, path: &str, json: Option<Bytes>) -> Result<Bytes, CallError> {
        self.answer(method, path, json, MAX_ANSWER, CALL).await
    }

    /// Reads what may be long, whatever it holds.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub async fn download(&self, path: &str) -> Result<Bytes, CallError> {
        self.answer(Method::GET, path, None, MAX_DOWNLOAD, DOWNLOAD).await
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        json: Option<Bytes>,
        longest: usize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let body = Full::new(json.unwrap_or_default()).map_err(|never| match never {}).boxed();
        let answered = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), longest).collect().await;
            Ok((status, body.map_err(|e| self.broken(&*e))?.to_bytes()))
        };
        let (status, body) = timeout(CONNECT + patience, answered).await.map_err(|_| self.slow())??;
        if status.is_success() { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    /// Opens a two-way stream: `body` goes up while the answer comes down. The connection ends with the answer.
    ///
    /// # Errors
    /// When nobody answers in time, or the server says no.
    pub async fn stream(&self, path: &str, body: Body) -> Result<Incoming, CallError> {
        let answered = timeout(CONNECT + CALL, self.send(Method::POST, path, body));
        let response = answered.await.map_err(|_| self.slow())??;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let refusal = timeout(CALL, Limited::new(response.into_body(), MAX_ANSWER).collect()).await;
        let said = refusal.map_err(|_| self.slow())?.map_err(|e| self.broken(&*e))?;
        Err(self.refused(status, &said.to_bytes()))
    }

    async fn call<A: DeserializeOwned>(&self, method: Method, path: &str, json: Option<Bytes>) -> Result<A, CallError> {
        serde_json::from_slice(&self.bytes(method, path, json).await?).map_err(|e| self.unreadable(&e))
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>, CallError> {
        let uri = format!("https://{}{path}", self.address);
        let mut request = Request::builder().method(method).uri(uri).header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        let request = request.body(body).map_err(|e| self.unreadable(&e))?;
        self.connect().await?.send_request(request).await.map_err(|e| self.broken(&e))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, CallError> {
        let stream = timeout(CONNECT, self.dial()).await.map_err(|_| self.slow())??;
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|e| self.broken(&e))?;
        // It ends by itself when the request, its answer and the sender are gone.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(sender)
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, CallError> {
        let unreachable = |source| CallError::Unreachable { address: self.address.clone(), source };
        let (host, port) = (&self.address.host, self.address.port);
        let (stream, name) = match host {
            AddressHost::Ip(ip) => (TcpStream::connect((*ip, port)).await, Ok(ServerName::from(*ip))),
            AddressHost::Name(name) => {
                (TcpStream::connect((name.as_str(), port)).await, ServerName::try_from(name.as_str().to_owned()))
            }
        };
        let stream = stream.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let name = name.map_err(|e| unreachable(io::Error::other(e)))?;
        let config = self.tls.borrow().clone();
        let tls = TlsConnector::from(config).connect(name, stream).await;
        tls.map_err(|error| no_tls(self.address.clone(), &error))
    }

    fn slow(&self) -> CallError {
        CallError::Slow(self.address.clone())
    }

    fn broken(&self, error: &dyn std::error::Error) -> CallError {
        CallError::Broken { address: self.address.clone(), reason: chain(error) }
    }

    fn unreadable(&self, error: &dyn std::error::Error) -> CallError {
        CallError::Unreadable { address: self.address.clone(), reason: chain(error) }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> CallError {
        let plain = || vec![ErrorItem { id: None, path: String::new(), message: excerpt(body) }];
        let errors = serde_json::from_slice::<Errors>(body).map_or_else(|_| plain(), |errors| errors.errors);
        CallError::Refused { address: self.address.clone(), status, errors }
    }
}

/// With our own verifier's words, where it was that.
fn no_tls(address: Address, error: &io::Error) -> CallError {
    match Refusal::in_handshake(error) {
        Some(Refusal::NotPinned) => CallError::NotPinned { address },
        _ => CallError::Tls { address, reason: Refusal::or_error(error) },
    }
}

/// An error with its causes: hyper's own text says little.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn excerpt(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(256).collect();
    if text.is_empty() { "it gave no reason".into() } else { text }
}
