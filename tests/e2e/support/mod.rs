//! What the tests stand on: processes of the real binary, and clients of their own.

pub mod away;
pub mod capture;
pub mod certs;
pub mod cli;
pub mod clock;
pub mod demo;
pub mod dns;
pub mod events;
pub mod far;
pub mod fickle;
pub mod frames;
pub mod grpc;
pub mod http;
pub mod http2;
pub mod identities;
pub mod leaver;
pub mod load;
pub mod moody;
pub mod process;
pub mod raw;
pub mod router;
pub mod shop;
pub mod streams;
pub mod upstream;
pub mod websocket;
pub mod workload;

use std::time::{Duration, Instant};

/// Whatever shall happen has happened by then, even on a slow machine that runs other tests too.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);

/// Asks until the answer is `Ok`; panics with the last `Err` at the deadline.
pub async fn eventually<T, E: std::fmt::Display>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) if began.elapsed() > DEADLINE => panic!("not after {DEADLINE:?}: {what}: {error}"),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// `Ok` if it holds, else the explanation: the last expression of most conditions waited for.
pub fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}
