//! The one accept loop: TLS, HTTP/1.1 and HTTP/2, bounded in every direction.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use identity::Refusal;
use rustls::ServerConfig;
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ClientCertificate, Peer, Remote};

/// How long a client may take for its TLS handshake, and for each request's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many connections at once; further ones wait in the system's queue.
const CONNECTIONS: usize = 4096;
/// From one HTTP/2 PING to the next, and how long its answer may take: dead clients leave.
const PING: Duration = Duration::from_secs(15);
/// How long running requests may take to end after the shutdown was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// After a failed accept (no descriptors left, as a rule).
const PAUSE: Duration = Duration::from_millis(50);

/// The configuration for the next handshake. Send a new one into it when a certificate was renewed.
pub type Tls = watch::Receiver<Arc<ServerConfig>>;

/// Serves `router` until `shutdown`, and then until the running requests have ended or their grace is over. Each
/// request has its [`Peer`] and its [`Remote`] among its extensions.
pub async fn serve(listener: TcpListener, tls: Tls, router: Router, shutdown: CancellationToken) {
    let (connections, tasks) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    while let Some((stream, remote, permit)) = next(&listener, &connections, &shutdown).await {
        let (config, router, shutdown) = (tls.borrow().clone(), router.clone(), shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = connection(stream, Remote(remote), config, router, shutdown).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
    tasks.close();
    let _ = tokio::time::timeout(GRACE * 2, tasks.wait()).await; // each has its own, shorter grace
}

async fn next(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = connections.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => return Some((stream, remote, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        accepted = accepted => accepted,
    }
}

/// Why a connection ended early. For the log only.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the TLS handshake, or what comes after it, took longer than {PATIENCE:?}")]
    Slow,
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
    #[error("{0}")]
    Peer(#[from] Refusal),
    #[error("{0}")]
    Http(Box<dyn std::error::Error + Send + Sync>),
}

async fn connection(
    stream: TcpStream,
    remote: Remote,
    config: Arc<ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let handshake = TlsAcceptor::from(config).accept(stream);
    let slow = |_| ConnectionError::Slow;
    let mut stream = tokio::time::timeout(PATIENCE, handshake).await.map_err(slow)??;
    // hyper waits for the first byte for ever.
    tokio::time::timeout(PATIENCE, stream.fill_buf()).await.map_err(slow)??;
    let peer = Peer(stream.get_ref().1.peer_certificates().map(ClientCertificate::of).transpose()?);
    requests(stream, (peer, remote), router, shutdown).await.map_err(ConnectionError::Http)
}

async fn requests(
    stream: TlsStream<TcpStream>,
    (peer, remote): (Peer, Remote),
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(remote);
        inner.call(request)
    });
    let builder = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => builder().http2_only(),
        _ => builder().http1_only(),
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
    builder
}
