//! A forwarder that listens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes on what comes, both ways, and keeps all of it.
pub async fn spy(at: SocketAddr, to: SocketAddr, heard: Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let Ok(server) = TcpStream::connect(to).await else { continue };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(pass(from_client, to_server, heard.clone()));
            tokio::spawn(pass(from_server, to_client, heard.clone()));
        }
    });
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, heard: Arc<Mutex<Vec<u8>>>) {
    let mut part = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut part).await {
        heard.lock().unwrap().extend(&part[..length]);
        if to.write_all(&part[..length]).await.is_err() {
            return;
        }
    }
    _ = to.shutdown().await;
}
