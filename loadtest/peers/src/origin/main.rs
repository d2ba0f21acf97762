//! The server behind all proxies: HTTP/1.1, HTTP/2 without TLS (gRPC calls come back as they went), and bytes. So cheap
//! that it never is what limits them: answers are made once, and one thread serves everything.

mod http1;
mod http2;
mod stream;

use std::future::Future;
use std::net::SocketAddr;

use anyhow::Context;
use bench_peers::flags::Flags;
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::read(std::env::args().skip(1))?;
    let answers: &'static http1::Answers = Box::leak(Box::new(http1::Answers::new()));
    tokio::try_join!(
        serve(flags.get("http1")?, move |client| http1::serve(client, answers)),
        serve(flags.get("http2")?, http2::serve),
        serve(flags.get("stream")?, stream::serve),
    )?;
    Ok(())
}

/// Serves every connection in a task of its own, if an address is given. How one ends is its client's affair.
async fn serve<F>(at: Option<SocketAddr>, handle: impl Fn(TcpStream) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let Some(at) = at else { return Ok(()) };
    let listener = TcpListener::bind(at).await.with_context(|| at.to_string())?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::spawn(handle(client));
    }
}
