//! A little HTTP service: answers every request with who it is.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::lifeline;

/// The service's flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
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
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let me = Arc::new(args);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        // An accept that failed concerns one client only.
        let Ok((stream, _)) = accepted else { continue };
        stream.set_nodelay(true)?;
        let me = me.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(&me, request));
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}

async fn answer(me: &Args, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut received = 0;
    while let Some(frame) = request.body_mut().frame().await {
        received += frame?.data_ref().map_or(0, Bytes::len);
    }
    let caller = request.headers().get("x-forwarded-for").and_then(|caller| caller.to_str().ok());
    let body = serde_json::json!({
        "cluster": me.cluster,
        "version": me.version,
        "instance": me.name,
        "host": request.headers().get("host").and_then(|host| host.to_str().ok()),
        "path": request.uri().path(),
        "for": caller,
        "received": received,
    });
    let mut response = Response::new(Full::from(format!("{body}\n")));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
