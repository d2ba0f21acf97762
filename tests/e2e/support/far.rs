//! A long way: passes TCP connections on, each part of what is sent after a while.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A way between two addresses. It ends, with all that is on it, when it is dropped.
pub struct Way(#[allow(dead_code)] JoinSet<()>);

impl Way {
    /// What comes in `at` one address goes on `to` the other, and back, after so long each.
    pub async fn open(at: SocketAddr, to: SocketAddr, delay: Duration) -> Way {
        let listener = TcpListener::bind(at).await.unwrap();
        let mut way = JoinSet::new();
        way.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                passing.spawn(pass(near, to, delay));
            }
        });
        Way(way)
    }
}

async fn pass(near: TcpStream, to: SocketAddr, delay: Duration) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::join!(carry(from_near, to_far, delay), carry(from_far, to_near, delay));
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let reading = async move {
        let mut part = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut part).await {
            if sender.send((Instant::now() + delay, part[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, part)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
