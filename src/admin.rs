//! The admin port that every process has: `/healthz`, `/readyz`, `/metrics`, and what a role adds.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether the process can do its work now.
pub type Ready = Arc<dyn Fn() -> bool + Send + Sync>;

/// An open admin port.
pub struct Admin<L> {
    listener: L,
    router: Router,
}

impl Admin<TcpListener> {
    /// Binds the port.
    pub async fn bind(at: SocketAddr, registry: Registry, ready: Ready) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at} for admin requests"))?;
        Ok(Admin::on(listener, registry, ready))
    }
}

impl<L: Listener<Addr = SocketAddr>> Admin<L> {
    /// Takes an open port.
    pub fn on(listener: L, registry: Registry, ready: Ready) -> Self {
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(move || readiness(ready.clone())))
            .route("/metrics", get(move || metrics(registry.clone())));
        Admin { listener, router }
    }

    /// Adds what only one role has.
    pub fn with(mut self, routes: Router) -> Self {
        self.router = self.router.merge(routes);
        self
    }

    /// Answers until told to stop.
    pub fn spawn(self, stop: CancellationToken) {
        tokio::spawn(async move {
            let Admin { listener, router } = self;
            let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::warn!(%error, "the admin port is closed");
            }
        });
    }
}

async fn readiness(ready: Ready) -> impl IntoResponse {
    if ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn metrics(registry: Registry) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
