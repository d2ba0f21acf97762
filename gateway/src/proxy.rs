//! The adapter to pingora's HTTP/2 sessions: the only place that knows them. HTTP/1 is in [`http1`](crate::http1).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, StatusCode, Version};
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use pingora_error::ErrorType;
use pingora_http::{RequestHeader, ResponseHeader};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::exchange::{Door, Entry, Exchange, Gone};
use crate::listener::metered::{Metered, Offences};
use crate::listener::stream::Connection;
use crate::request;
use crate::runtime::Core;
use crate::tunnel::dial::{STREAM_WINDOW, TUNNEL_WINDOW};

/// A client that takes nothing of its answer for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Streams that a peer gateway may have open at once in one tunnel.
const TUNNEL_STREAMS: u32 = 4096;
/// Streams that broke the protocol, for which a client is told so, before it is told to calm down.
const BROKEN_STREAMS: usize = 100;
/// A client may send so much of one body before it is taken (HTTP/2's initial window).
const ONE_WINDOW: u32 = 65_535;
/// And so much of all bodies on a connection: one that isn't taken must not hold up the others.
const MOST_WINDOW: u32 = 8 * 1024 * 1024;
/// Of an answer, so much waits in memory for a client that makes no room.
const SEND_BUFFER: usize = 32 * 1024;

/// One connection's view of the gateway: what pingora calls for each of its requests.
pub struct HttpDoor {
    core: Arc<Core>,
    entry: Entry,
    options: HttpServerOptions,
    offences: Arc<Offences>,
    /// Cancelled once the client has begun to speak HTTP/2, or a peer gateway's first request is here.
    began: CancellationToken,
}

impl HttpDoor {
    /// For one connection.
    pub fn new(core: Arc<Core>, entry: Entry) -> Self {
        // An idle HTTP/2 connection is asked to end by its lifetime: the library's own bound would drop its socket.
        let options = HttpServerOptions::default();
        HttpDoor { core, entry, options, offences: Arc::default(), began: CancellationToken::new() }
    }

    /// The connection as HTTP/2 is spoken on it: a client's frames are metered. A peer gateway is one of us.
    pub fn metered(&self, connection: Connection) -> Stream {
        match self.entry.door {
            Door::Tunnel { .. } => Box::new(connection),
            _ => {
                let (core, entry, offences) = (self.core.clone(), self.entry.clone(), self.offences.clone());
                Box::new(Metered::new(connection, core, entry, offences, self.began.clone()))
            }
        }
    }

    /// Comes back when the client has begun to speak HTTP/2, or when a peer gateway's first request is here.
    pub fn began(&self) -> WaitForCancellationFutureOwned {
        self.began.clone().cancelled_owned()
    }
}

#[async_trait]
impl HttpServerApp for HttpDoor {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        if !matches!(session.read_request().await, Ok(true)) {
            return None;
        }
        self.began.cancel();
        let mut exchange = SessionExchange { session, door: self, answered: false, closed: false };
        request::serve(&self.core, &mut exchange).await;
        exchange.finish().await;
        None
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
                options.max_send_buffer_size(SEND_BUFFER);
            }
            _ => {
                let limits = &self.core.settings.limits;
                options.max_concurrent_streams(limits.streams);
                options.initial_connection_window_size(limits.streams.saturating_mul(ONE_WINDOW).min(MOST_WINDOW));
                options.max_header_list_size(u32::try_from(limits.head.header_bytes).unwrap_or(u32::MAX));
                options.max_local_error_reset_streams(Some(BROKEN_STREAMS));
                options.max_send_buffer_size(SEND_BUFFER);
            }
        }
        Some(options)
    }
}

/// One request on a stream.
struct SessionExchange<'a> {
    session: ServerSession,
    door: &'a HttpDoor,
    answered: bool,
    closed: bool,
}

impl SessionExchange<'_> {
    /// Ends the stream: it is reset, unless the answer is complete.
    async fn finish(mut self) {
        if !self.answered {
            self.session.shutdown().await;
        } else if !self.closed
            && let Err(error) = self.session.finish().await
        {
            tracing::trace!(%error, "a stream broke at its end");
        }
    }
}

impl Exchange for SessionExchange<'_> {
    fn head(&self) -> &RequestHeader {
        self.session.req_header()
    }

    fn entry(&self) -> &Entry {
        &self.door.entry
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
        head.set_version(Version::HTTP_2);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 8441 section 5; `Upgrade` the session leaves out by itself.
            head.set_status(StatusCode::OK).map_err(|_| Gone)?;
        }
        let ServerSession::H2(session) = &mut self.session else { return Err(Gone) };
        session.write_response_header(head, end).map_err(|_| Gone)
    }

    async fn write(&mut self, body: Bytes, end: bool) -> Result<(), Gone> {
        self.session.write_response_body(body, end).await.map_err(|error| {
            if *error.etype() == ErrorType::WriteTimedout {
                // Other streams end as they will; but whoever makes no room is not waited for again.
                self.door.entry.lifetime.end();
            }
            Gone
        })
    }

    async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.session.write_response_trailers(trailers).await.map_err(|_| Gone)
    }

    fn offend(&mut self) {
        self.door.offences.add();
    }

    fn close(&mut self) {
        self.closed = true;
    }
}
