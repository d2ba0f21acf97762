//! When a process shall stop: at SIGTERM or SIGINT; and, where it was started by another that asks for it, when that
//! one is gone, however it died.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// With this set to `stdin`, the end of standard input stops the process.
pub const LIFELINE: &str = "TOMBOLO_LIFELINE";

/// Cancelled when the process shall stop.
pub fn stop_token() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("asked to stop (SIGTERM)"),
            _ = int.recv() => tracing::info!("asked to stop (SIGINT)"),
            () = abandoned() => tracing::info!("whoever started this process is gone"),
        }
        stop.cancel();
    });
    Ok(token)
}

/// Reads on a thread of its own: tokio's standard input would keep the runtime from ending.
async fn abandoned() {
    if std::env::var_os(LIFELINE).is_none_or(|lifeline| lifeline != "stdin") {
        return std::future::pending().await;
    }
    let (gone, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        gone.send(ended)
    });
    _ = told.await;
}
