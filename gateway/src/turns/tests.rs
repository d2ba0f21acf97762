#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local};

use super::*;

/// What went to the kernel, call by call.
#[derive(Clone, Default)]
struct Calls(Rc<RefCell<Vec<Vec<u8>>>>);

impl AsyncWrite for Calls {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().push(bytes.to_vec());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What requests give to the connection; it flushes after each, as the library does.
#[derive(Default)]
struct Frames {
    waiting: VecDeque<&'static [u8]>,
    driver: Option<Waker>,
}

const LAST: &[u8] = b"last";

fn drive<IO: AsyncWrite + Unpin>(
    frames: &RefCell<Frames>,
    io: &mut Gathering<IO>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    frames.borrow_mut().driver = Some(cx.waker().clone());
    while let Some(frame) = frames.borrow_mut().waiting.pop_front() {
        assert_eq!(ready!(Pin::new(&mut *io).poll_write(cx, frame))?, frame.len());
        ready!(Pin::new(&mut *io).poll_flush(cx))?;
        if frame == LAST {
            return Pin::new(io).poll_shutdown(cx);
        }
    }
    Poll::Pending
}

#[tokio::test]
async fn what_several_tasks_send_in_one_go_is_written_together() {
    let (calls, frames) = (Calls::default(), Rc::new(RefCell::new(Frames::default())));
    let (mut io, mut turns) = in_turns(calls.clone());
    io.write_all(b"preface").await.unwrap();
    LocalSet::new()
        .run_until(async {
            let driving = spawn_local({
                let frames = frames.clone();
                async move { poll_fn(|cx| turns.poll(cx, |cx| drive(&frames, &mut io, cx))).await }
            });
            while frames.borrow().driver.is_none() {
                yield_now().await;
            }
            for group in [&[b"a" as &[u8], b"b", b"c"] as &[_], &[b"d", LAST]] {
                for frame in group {
                    let frames = frames.clone();
                    spawn_local(async move {
                        frames.borrow_mut().waiting.push_back(frame);
                        frames.borrow().driver.iter().for_each(Waker::wake_by_ref);
                    });
                }
                // Until all of the group is on its way.
                while !frames.borrow().waiting.is_empty() || calls.0.borrow().len() < 2 {
                    yield_now().await;
                }
            }
            driving.await.unwrap().unwrap();
        })
        .await;
    assert_eq!(*calls.0.borrow(), [b"preface" as &[u8], b"abc", b"dlast"]);
}

/// Writes all of it in turns, in frames of that size.
async fn write(io: DuplexStream, all: &[u8], frame: usize) -> io::Result<()> {
    let (mut io, mut turns) = in_turns(io);
    let mut writing = pin!(async {
        for frame in all.chunks(frame) {
            io.write_all(frame).await?;
            io.flush().await?;
            // A connection rests now and then.
            yield_now().await;
        }
        io.shutdown().await
    });
    poll_fn(|cx| turns.poll(cx, |cx| writing.as_mut().poll(cx))).await
}

#[tokio::test]
async fn every_byte_arrives_in_order_however_little_room_there_is() {
    let all: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect();
    for (room, frame) in [(1, 3), (7, 1_000), (5_000, 40_000), (100_000, 20_000), (1 << 20, MOST)] {
        let (near, mut far) = duplex(room);
        let part = &all[..if room < 10 { 20_000 } else { all.len() }];
        let mut came = Vec::new();
        let (written, read) = tokio::join!(write(near, part, frame), far.read_to_end(&mut came));
        written.unwrap();
        read.unwrap();
        assert!(came == part, "{room} {frame}");
    }
}

#[tokio::test]
async fn what_fails_after_a_turn_is_told_in_the_next() {
    let (near, far) = duplex(1_000);
    drop(far);
    let (mut io, mut turns) = in_turns(near);
    let mut first = true;
    let polled = poll_fn(|cx| {
        turns.poll(cx, |cx| {
            if std::mem::take(&mut first) {
                assert!(matches!(Pin::new(&mut io).poll_write(cx, b"frame"), Poll::Ready(Ok(5))));
                return Poll::Pending;
            }
            Pin::new(&mut io).poll_write(cx, b"another")
        })
    });
    assert_eq!(polled.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
