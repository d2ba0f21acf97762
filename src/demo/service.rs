//! A little service to try a gateway with: it answers every request with who it is, and some paths with what else the
//! protocols can do. One port speaks HTTP/1.1 and, by prior knowledge, HTTP/2 (RFC 9113 section 3.3).
//!
//! | path | what comes back |
//! | --- | --- |
//! | `/echo` | the body, as it comes, and its trailers |
//! | `/count` | how many bytes the body had |
//! | `/bytes/N` | N bytes |
//! | `/events?n=N` | N server-sent events (10), one each 100 ms |
//! | `/delay/MS` | who it is, so many milliseconds later |
//! | `/status/CODE` | that status |
//! | `/trailers` | a body with trailers |
//! | `/ws` | a WebSocket (RFC 6455, RFC 8441) that echoes |
//! | `/tombolo.demo.Echo/{Unary,Stream,Fail}` | gRPC: messages back as they come, or the status 9 |
//! | `/grpc.health.v1.Health/Check` | gRPC: `SERVING` |

mod answer;
mod grpc;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use crate::lifeline;
pub use grpc::{ECHO, HEALTH};

/// The service's flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Where it also listens, to echo whatever bytes come.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp_listen: Option<SocketAddr>,
    /// The cluster that it names.
    #[arg(long)]
    cluster: String,
    /// The version that it names.
    #[arg(long)]
    version: String,
    /// The instance that it names.
    #[arg(long)]
    name: String,
}

/// Answers until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = lifeline::stop_token()?;
    let http = bind(args.listen).await?;
    if let Some(at) = args.tcp_listen {
        tokio::spawn(accept(bind(at).await?, echo_bytes));
    }
    let me = Arc::new(args);
    let serving = accept(http, move |stream| serve_http(me.clone(), stream));
    stop.run_until_cancelled(serving).await;
    Ok(())
}

async fn bind(at: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))
}

/// Serves each connection in a task of its own, for ever.
async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // An accept that failed concerns one client only.
        let Ok((stream, _)) = listener.accept().await else { continue };
        if stream.set_nodelay(true).is_ok() {
            tokio::spawn(serve(stream));
        }
    }
}

async fn serve_http(me: Arc<Args>, stream: TcpStream) {
    let answer = service_fn(move |request| answer::answer(me.clone(), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new()).enable_connect_protocol();
    if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(stream), answer).await {
        tracing::debug!(error, "a connection broke");
    }
}

async fn echo_bytes(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    if let Err(error) = tokio::io::copy(&mut reader, &mut writer).await {
        tracing::debug!(%error, "a connection broke");
    }
}
