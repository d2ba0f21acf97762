//! Bytes without a protocol: the client's first says what it wants. `s`: bytes without end; `e`: its own back.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CHUNK: usize = 256 << 10;

/// Does what the client wants until it leaves.
pub async fn serve(mut client: TcpStream) -> anyhow::Result<()> {
    match client.read_u8().await? {
        b's' => source(client).await,
        b'e' => echo(client).await,
        other => anyhow::bail!("nobody knows what {other} means"),
    }
}

async fn source(mut client: TcpStream) -> anyhow::Result<()> {
    let chunk = vec![b'x'; CHUNK];
    loop {
        client.write_all(&chunk).await?;
    }
}

async fn echo(mut client: TcpStream) -> anyhow::Result<()> {
    let (mut from, mut to) = client.split();
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}
