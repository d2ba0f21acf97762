//! The beginning of TLS: what the client asks for is read first; then it is decided who speaks TLS with it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use identity::Refusal;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::{StartHandshake, TlsStream};

use super::opening::Inbound;

/// From the first byte to the end of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// A fatal `unrecognized_name` alert in a record of its own (RFC 8446 sections 5.1 and 6.2, RFC 6066 section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A fatal `no_application_protocol` alert, likewise (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client asked for a name that nobody here has, or for none.
    #[error("the client asked for {0:?}, which is not served here")]
    UnknownName(Option<String>),
    /// The client speaks TLS of its application's, where only a caller that proves who it is gets in.
    #[error("the caller must prove who it is (mtls: strict): its TLS does not offer the protocol of the mesh")]
    NotOfMesh,
    /// The client speaks TLS, where that is turned off.
    #[error("the client asked for {0:?}, whose global namespace speaks plain text only (mtls: off)")]
    Off(String),
    /// This gateway has no identity yet.
    #[error("the client asked for {0:?}, in whose global namespace this gateway has no identity yet")]
    NoIdentity(String),
    /// It took too long.
    #[error("the handshake was not done after {HANDSHAKE_DEADLINE:?}")]
    Deadline,
    /// It failed.
    #[error("the handshake failed: {}", Refusal::or_error(.0))]
    Failed(#[from] io::Error),
}

impl HandshakeError {
    /// One word for log and metric. Stable.
    pub fn code(&self) -> &'static str {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self {
            HandshakeError::UnknownName(_) => "unknown_name",
            HandshakeError::NotOfMesh => "identity_required",
            HandshakeError::Off(_) => "plain_text_only",
            HandshakeError::NoIdentity(_) => "no_identity",
            HandshakeError::Deadline => "handshake_timeout",
            // As port scans, and balancers that only look whether somebody listens.
            HandshakeError::Failed(error) if [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind()) => {
                "handshake_abandoned"
            }
            HandshakeError::Failed(_) => "handshake_failed",
        }
    }
}

/// A ClientHello that was read, and not answered yet. In a box, as all of a handshake is: the task of a connection is as
/// large as the largest thing that it ever held.
pub struct Hello {
    start: Box<StartHandshake<Inbound>>,
    deadline: Instant,
}

impl Hello {
    /// Reads it, in however many records and segments it comes.
    pub async fn read(mut io: Inbound) -> Result<Hello, HandshakeError> {
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        io.keep();
        let read = Box::pin(LazyConfigAcceptor::new(Acceptor::default(), io));
        let start = timeout_at(deadline, read).await.map_err(|_| HandshakeError::Deadline)??;
        Ok(Hello { start: Box::new(start), deadline })
    }

    /// The name that the client asks for, in lower case (RFC 6066 section 3). Of an encrypted ClientHello it is the outer
    /// one.
    pub fn name(&self) -> Option<String> {
        self.start.client_hello().server_name().map(str::to_ascii_lowercase)
    }

    /// Whether the client offers this protocol (RFC 7301).
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.start.client_hello().alpn().is_some_and(|mut offered| offered.any(|offer| offer == protocol))
    }

    /// Finishes the handshake.
    pub async fn terminate(mut self, config: Arc<ServerConfig>) -> Result<Box<TlsStream<Inbound>>, HandshakeError> {
        self.start.io.let_go();
        let handshake = Box::pin(self.start.into_stream(config));
        let stream = timeout_at(self.deadline, handshake).await.map_err(|_| HandshakeError::Deadline)??;
        Ok(Box::new(stream))
    }

    /// The connection as it came, the ClientHello at its beginning.
    pub fn pass(self) -> Inbound {
        let mut io = self.start.io;
        io.rewind();
        io
    }

    /// Tells the client that nobody here has the name.
    pub async fn refuse(self) -> HandshakeError {
        let error = HandshakeError::UnknownName(self.name());
        self.refuse_for(error).await
    }

    /// Tells the client that it gets no connection, by the alert that fits.
    pub async fn refuse_for(self, why: HandshakeError) -> HandshakeError {
        let alert = match why {
            HandshakeError::NotOfMesh => NO_APPLICATION_PROTOCOL,
            _ => UNRECOGNIZED_NAME,
        };
        let mut io = self.start.io;
        let tell = async {
            io.write_all(&alert).await?;
            io.shutdown().await
        };
        match timeout_at(self.deadline, tell).await {
            Ok(Ok(())) => why,
            Ok(Err(error)) => error.into(),
            Err(_) => HandshakeError::Deadline,
        }
    }
}
