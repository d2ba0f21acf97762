//! The beginning of TLS: what the client asks for is read first; then it is decided who speaks TLS with it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

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

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client asked for a name that nobody here has, or for none.
    #[error("the client asked for {0:?}, which is not served here")]
    UnknownName(Option<String>),
    /// It took too long.
    #[error("the handshake was not done after {HANDSHAKE_DEADLINE:?}")]
    Deadline,
    /// It failed.
    #[error("the handshake failed: {0}")]
    Failed(#[from] io::Error),
}

/// A ClientHello that was read, and not answered yet.
pub struct Hello {
    start: StartHandshake<Inbound>,
    deadline: Instant,
}

impl Hello {
    /// Reads it, in however many records and segments it comes.
    pub async fn read(mut io: Inbound) -> Result<Hello, HandshakeError> {
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        io.keep();
        let start = timeout_at(deadline, LazyConfigAcceptor::new(Acceptor::default(), io)).await;
        Ok(Hello { start: start.map_err(|_| HandshakeError::Deadline)??, deadline })
    }

    /// The name that the client asks for, in lower case (RFC 6066 section 3). Of an encrypted ClientHello it is the outer
    /// one.
    pub fn name(&self) -> Option<String> {
        self.start.client_hello().server_name().map(str::to_ascii_lowercase)
    }

    /// Finishes the handshake.
    pub async fn terminate(mut self, config: Arc<ServerConfig>) -> Result<TlsStream<Inbound>, HandshakeError> {
        self.start.io.let_go();
        let done = timeout_at(self.deadline, self.start.into_stream(config)).await;
        Ok(done.map_err(|_| HandshakeError::Deadline)??)
    }

    /// The connection as it came, the ClientHello at its beginning.
    pub fn pass(self) -> Inbound {
        let mut io = self.start.io;
        io.rewind();
        io
    }

    /// Tells the client that nobody here has the name.
    pub async fn refuse(self) -> HandshakeError {
        let name = self.name();
        let mut io = self.start.io;
        let tell = async {
            io.write_all(&UNRECOGNIZED_NAME).await?;
            io.shutdown().await
        };
        match timeout_at(self.deadline, tell).await {
            Ok(Ok(())) => HandshakeError::UnknownName(name),
            Ok(Err(error)) => error.into(),
            Err(_) => HandshakeError::Deadline,
        }
    }
}
