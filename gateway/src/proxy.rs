//! The adapter to pingora's HTTP sessions: the only place that knows them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use pingora_http::{RequestHeader, ResponseHeader};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::exchange::{Door, Entry, Exchange, Gone};
use crate::request;
use crate::runtime::Core;
use crate::tunnel::dial::{STREAM_WINDOW, TUNNEL_WINDOW};

/// From a connection's first byte to the end of its first request's head.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Between two parts of a request's body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// An idle connection is closed after so long, in seconds.
const KEEP_ALIVE: u64 = 75;
/// A stopping gateway waits so long for the next request on an idle connection, and tells its client to open another.
const LAST_REQUEST: Duration = Duration::from_secs(2);
/// So long, and so many bytes, a refused request's body is read on before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// See [`LINGER`].
const LINGER_BYTES: usize = 256 * 1024;
/// Streams that a peer gateway may have open at once in one tunnel.
const TUNNEL_STREAMS: u32 = 4096;
/// Streams that a client may have open at once on one connection.
const CLIENT_STREAMS: u32 = 256;

/// One connection's view of the gateway: what pingora calls for each of its requests.
pub struct HttpDoor {
    core: Arc<Core>,
    entry: Entry,
    options: HttpServerOptions,
    /// Cancelled once the first request's head was read.
    began: CancellationToken,
}

impl HttpDoor {
    /// For one connection.
    pub fn new(core: Arc<Core>, entry: Entry) -> Self {
        let mut options = HttpServerOptions::default();
        if !matches!(entry.door, Door::Tunnel { .. }) {
            options.h2_idle_timeout = Some(Duration::from_secs(KEEP_ALIVE));
        }
        HttpDoor { core, entry, options, began: CancellationToken::new() }
    }

    /// Comes back when the first request's head was read.
    pub fn began(&self) -> WaitForCancellationFutureOwned {
        self.began.clone().cancelled_owned()
    }

    /// A new connection must bring a request soon, an idle one some time. When the gateway stops, idle ones are closed
    /// sooner, yet not so soon that it would cross a request that is on its way.
    async fn idle_for_too_long(&self, mut shutdown: ShutdownWatch) {
        let bound = if self.began.is_cancelled() { Duration::from_secs(KEEP_ALIVE) } else { FIRST_REQUEST };
        let stopping = async { shutdown.wait_for(|stopping| *stopping).await.is_ok() };
        if tokio::time::timeout(bound, stopping).await.is_ok() {
            tokio::time::sleep(LAST_REQUEST).await;
        }
    }
}

#[async_trait]
impl HttpServerApp for HttpDoor {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_read_timeout(Some(READ_TIMEOUT));
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        session.set_pipelining_enabled(true);
        let session_is_http2 = session.is_http2();
        let read = tokio::select! {
            read = session.read_request() => read,
            () = self.idle_for_too_long(shutdown.clone()), if !session_is_http2 => return None,
        };
        match read {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return malformed(&mut session, &error).await,
        }
        self.began.cancel();
        // pingora has turned keep-alive off where the request or its version wants that; it stays off.
        let keeps = session.get_keepalive().is_some() && !*shutdown.borrow();
        session.set_keepalive(keeps.then_some(KEEP_ALIVE));
        let mut exchange = SessionExchange { session, entry: &self.entry, answered: false, closed: false };
        request::serve(&self.core, &mut exchange).await;
        exchange.finish().await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.enable_connect_protocol();
        match self.entry.door {
            Door::Tunnel { .. } => {
                options.max_concurrent_streams(TUNNEL_STREAMS);
                options.initial_window_size(STREAM_WINDOW);
                options.initial_connection_window_size(TUNNEL_WINDOW);
            }
            _ => drop(options.max_concurrent_streams(CLIENT_STREAMS)),
        }
        Some(options)
    }
}

/// A head that pingora cannot parse never becomes an exchange.
async fn malformed(session: &mut ServerSession, error: &pingora_error::Error) -> Option<ReusedHttpStream> {
    tracing::debug!(%error, "a request's head cannot be read");
    session.set_keepalive(None);
    if let Err(error) = session.respond_error(400).await {
        tracing::trace!(%error, "nobody to tell");
    }
    None
}

/// One request on one of pingora's sessions.
struct SessionExchange<'a> {
    session: ServerSession,
    entry: &'a Entry,
    answered: bool,
    closed: bool,
}

impl SessionExchange<'_> {
    /// Gives the connection back for the next request, where there can be one.
    async fn finish(mut self) -> Option<ReusedHttpStream> {
        if self.closed || !self.answered {
            // For HTTP/2 it resets the stream, unless the answer is complete; for HTTP/1 it closes the connection.
            if !self.session.is_http2() || !self.answered {
                self.linger().await;
                self.session.shutdown().await;
            }
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&self.session);
        let reusable = self.session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }

    /// Bytes that nobody read would make the kernel reset the connection, and take the answer from the client (RFC 9112
    /// section 9.6): some of them are read first.
    async fn linger(&mut self) {
        if !self.answered || self.session.is_http2() {
            return;
        }
        let mut rest = LINGER_BYTES;
        let drain = async {
            while let Ok(Some(part)) = self.session.read_request_body().await {
                rest = rest.saturating_sub(part.len());
                if rest == 0 {
                    return;
                }
            }
        };
        _ = tokio::time::timeout(LINGER, drain).await;
    }

    fn is_http10(&self) -> bool {
        self.session.req_header().version == Version::HTTP_10
    }
}

impl Exchange for SessionExchange<'_> {
    fn head(&self) -> &RequestHeader {
        self.session.req_header()
    }

    fn entry(&self) -> &Entry {
        self.entry
    }

    fn framed_twice(&self) -> bool {
        // pingora takes `content-length` away where there is a `transfer-encoding` (RFC 9112 section 6.1 allows that; a
        // gateway in front of other parsers must not).
        let chunked = self.head().headers.contains_key(TRANSFER_ENCODING);
        let raw = self.session.as_http1().filter(|_| chunked).map(|session| session.get_headers_raw_bytes());
        raw.is_some_and(|raw| raw.split(|byte| *byte == b'\n').any(names_content_length))
    }

    fn body_done(&mut self) -> bool {
        self.session.is_body_done()
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>, Gone> {
        let waits = self.session.req_header_mut().remove_header(&EXPECT);
        if waits.is_some_and(|expectation| expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            self.session.write_continue_response().await.map_err(|_| Gone)?;
        }
        self.session.read_request_body().await.map_err(|_| Gone)
    }

    async fn request_trailers(&mut self) -> Result<Option<HeaderMap>, Gone> {
        // The sessions drop them (RFC 9110 section 6.5.1 allows that).
        Ok(None)
    }

    async fn gone(&mut self) -> Gone {
        match self.session.read_body_or_idle(true).await {
            Ok(_) | Err(_) => Gone,
        }
    }

    async fn inform(&mut self, _: Box<ResponseHeader>) -> Result<(), Gone> {
        // An interim head is a hint: whoever cannot write one may leave it out (RFC 9110 section 15.2).
        Ok(())
    }

    async fn respond(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<(), Gone> {
        self.answered = true;
        if self.session.is_http2() {
            head.set_version(Version::HTTP_2);
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                // RFC 8441 section 5; `Upgrade` the session leaves out by itself.
                head.set_status(StatusCode::OK).map_err(|_| Gone)?;
            }
        } else {
            head.set_version(Version::HTTP_11);
            let open = has_body(self.head(), &head) && !head.headers.contains_key(CONTENT_LENGTH);
            if open && self.is_http10() {
                self.session.set_keepalive(None);
            } else if open {
                let chunked = HeaderValue::from_static("chunked");
                head.insert_header(TRANSFER_ENCODING, chunked).map_err(|_| Gone)?;
            }
        }
        if let ServerSession::H2(session) = &mut self.session {
            return session.write_response_header(head, end).map_err(|_| Gone);
        }
        self.session.write_response_header(head).await.map_err(|_| Gone)?;
        if end { self.write(Bytes::new(), true).await } else { Ok(()) }
    }

    async fn write(&mut self, body: Bytes, end: bool) -> Result<(), Gone> {
        self.session.write_response_body(body, end).await.map_err(|_| Gone)
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        if self.session.is_http2() {
            return self.session.write_response_trailers(trailers).await.map_err(|_| Gone);
        }
        // HTTP/1.1 may drop trailers (RFC 9110 section 6.5.1); the session cannot write them.
        self.session.write_response_body(Bytes::new(), true).await.map_err(|_| Gone)
    }

    fn close(&mut self) {
        self.closed = true;
        self.session.set_keepalive(None);
    }
}

fn names_content_length(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes())
}

/// Whether an answer has a body at all (RFC 9110 section 6.4.1).
fn has_body(request: &RequestHeader, answer: &ResponseHeader) -> bool {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&answer.status);
    request.method != Method::HEAD && !bodiless && !answer.status.is_informational()
}
