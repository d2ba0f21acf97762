//! Which certificate a connection gets: chosen from the live plan by the name that the client asks for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

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

/// Reads the ClientHello, lets `choose` pick the configuration (and what else it knows), and finishes the handshake.
pub async fn accept<T>(
    io: TcpStream,
    choose: impl FnOnce(&ClientHello<'_>) -> Option<(Arc<ServerConfig>, T)>,
) -> Result<(TlsStream<TcpStream>, T), HandshakeError> {
    match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake(io, choose)).await {
        Ok(done) => done,
        Err(_) => Err(HandshakeError::Deadline),
    }
}

async fn handshake<T>(
    io: TcpStream,
    choose: impl FnOnce(&ClientHello<'_>) -> Option<(Arc<ServerConfig>, T)>,
) -> Result<(TlsStream<TcpStream>, T), HandshakeError> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
    let chosen = choose(&start.client_hello());
    match chosen {
        Some((config, known)) => Ok((start.into_stream(config).await?, known)),
        None => {
            let name = start.client_hello().server_name().map(str::to_owned);
            let mut io = start.io;
            io.write_all(&UNRECOGNIZED_NAME).await?;
            io.shutdown().await?;
            Err(HandshakeError::UnknownName(name))
        }
    }
}
