#![allow(clippy::unwrap_used)]
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Descriptors of a process in which both directions get pipes.
const ENOUGH: usize = 64;

/// Two ends of one connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// Bytes of which no two stretches are alike.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Sends all of it and ends, while all that comes is read until it ends.
async fn talk(io: TcpStream, said: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = io.into_split();
    let mut heard = Vec::new();
    let saying = async {
        to.write_all(said).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let (_, read) = tokio::join!(saying, from.read_to_end(&mut heard));
    read.unwrap();
    heard
}

#[tokio::test]
async fn all_bytes_arrive_in_order_and_each_end_ends_by_itself() {
    for descriptors in [0, ENOUGH] {
        let pipes = Pipes::new(descriptors);
        for [up, down] in [[0, 0], [1, 0], [BUFFER, BUFFER - 1], [BULK, BULK + 1], [20 * BULK + 7, 3], [0, 45 * BULK]] {
            let ((caller, client), (upstream, callee)) = (pair().await, pair().await);
            let (asked, answered) = (bytes(up, 1), bytes(down, 2));
            let (ahead, rest) = asked.split_at(up / 3);
            let sides = [Side::default(), Side::default()];
            let [here, there] = [(&client, &sides[0]), (&upstream, &sides[1])].map(|(tcp, side)| Plain { tcp, side });
            let moving = between(here, there, Bytes::copy_from_slice(ahead), &pipes);
            let (moved, heard, arrived) = tokio::join!(moving, talk(caller, rest), talk(callee, &answered));
            moved.unwrap();
            assert!(heard == answered && arrived == asked, "{up} and {down} bytes, {descriptors} descriptors");
            assert_eq!(sides.map(|side| side.bytes()), [rest.len(), down]);
        }
        assert_eq!(pipes.left(), Pipes::new(descriptors).left());
    }
}

/// Moves bytes in one direction until they go through a pipe, and returns the callee, which has read none of them.
async fn in_bulk(mut caller: TcpStream, callee: TcpStream, pipes: &Pipes) -> (TcpStream, TcpStream) {
    let all = pipes.left();
    while pipes.left() == all {
        let part = vec![7; BUFFER];
        let read = async {
            // A reader that keeps up: what stands still is no bulk.
            let mut sink = vec![0; 4 * BUFFER];
            while callee.try_read(&mut sink).is_ok() {}
            tokio::task::yield_now().await;
        };
        let (sent, ()) = tokio::join!(caller.write_all(&part), read);
        sent.unwrap();
    }
    (caller, callee)
}

#[tokio::test]
async fn an_end_that_breaks_is_told_from_the_other() {
    let ((caller, client), (upstream, callee)) = (pair().await, pair().await);
    let (pipes, up, down) = (Pipes::new(ENOUGH), Side::default(), Side::default());
    let breaking = async {
        let (caller, callee) = in_bulk(caller, callee, &pipes).await;
        callee.set_zero_linger().unwrap();
        drop(callee);
        caller
    };
    let [here, there] = [(&client, &up), (&upstream, &down)].map(|(tcp, side)| Plain { tcp, side });
    let (moved, _caller) = tokio::join!(between(here, there, Bytes::new(), &pipes), breaking);
    assert!(moved.is_err() && down.has_broken() && !up.has_broken());
}

#[tokio::test]
async fn a_stream_gives_its_pipe_back_when_it_rests_and_goes_on() {
    let ((caller, client), (upstream, callee)) = (pair().await, pair().await);
    let (pipes, up, down) = (Pipes::new(ENOUGH), Side::default(), Side::default());
    let resting = async {
        let all = pipes.left();
        let (mut caller, mut callee) = in_bulk(caller, callee, &pipes).await;
        while pipes.left() < all {
            let mut sink = vec![0; 4 * BUFFER];
            while callee.try_read(&mut sink).is_ok() {}
            tokio::task::yield_now().await;
        }
        caller.shutdown().await.unwrap();
        callee.write_all(b"still here").await.unwrap();
        callee.shutdown().await.unwrap();
        let mut heard = Vec::new();
        caller.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let [here, there] = [(&client, &up), (&upstream, &down)].map(|(tcp, side)| Plain { tcp, side });
    let (moved, heard) = tokio::join!(between(here, there, Bytes::new(), &pipes), resting);
    moved.unwrap();
    assert_eq!(heard, b"still here");
}

#[tokio::test]
async fn what_comes_behind_an_urgent_byte_arrives_and_so_does_the_end() {
    for ends in [false, true] {
        let (pipes, sides) = (Pipes::new(ENOUGH), [Side::default(), Side::default()]);
        let ((mut caller, client), (upstream, mut callee)) = (pair().await, pair().await);
        let [here, there] = [(&client, &sides[0]), (&upstream, &sides[1])].map(|(tcp, side)| Plain { tcp, side });
        let talking = async {
            let (bulk, rest) = (bytes(20 * BULK, 1), bytes(100, 2));
            let mut heard = vec![0; bulk.len()];
            let (said, read) = tokio::join!(caller.write_all(&bulk), callee.read_exact(&mut heard));
            assert!(said.is_ok() && read.is_ok() && heard == bulk);
            assert!(pipes.left() < Pipes::new(ENOUGH).left(), "it goes through a pipe");
            caller.write_all(&rest).await.unwrap();
            SockRef::from(&caller).send_out_of_band(b"!").unwrap();
            caller.write_all(&rest).await.unwrap();
            if ends {
                caller.shutdown().await.unwrap();
            }
            let mut heard = vec![0; 2 * rest.len()];
            callee.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, [rest.clone(), rest].concat());
            if ends {
                assert_eq!(callee.read(&mut heard).await.unwrap(), 0);
            }
        };
        tokio::select! {
            moved = between(here, there, Bytes::new(), &pipes) => panic!("{moved:?}"),
            () = talking => {}
        }
    }
}

#[tokio::test]
async fn who_is_gone_need_not_hear_of_the_end() {
    let (pipes, sides) = (Pipes::new(0), [Side::default(), Side::default()]);
    let ((mut caller, client), (upstream, callee)) = (pair().await, pair().await);
    let [here, there] = [(&client, &sides[0]), (&upstream, &sides[1])].map(|(tcp, side)| Plain { tcp, side });
    let talking = async {
        drop(callee);
        assert_eq!(caller.read(&mut [0; 1]).await.unwrap(), 0);
        caller.write_all(b"QUIT").await.unwrap();
        // The answer to that is a reset.
        while SockRef::from(&upstream).peer_addr().is_ok() {
            tokio::task::yield_now().await;
        }
        caller.shutdown().await.unwrap();
    };
    let (moved, ()) = tokio::join!(between(here, there, Bytes::new(), &pipes), talking);
    moved.unwrap();
}
