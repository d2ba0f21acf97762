//! HTTP/1.1 with keep-alive, for clients that behave: `/64k` and `/1m` answer so many bytes, everything else 1 KiB.

use anyhow::Context;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whole answers, head and body.
pub struct Answers {
    small: Vec<u8>,
    medium: Vec<u8>,
    large: Vec<u8>,
}

impl Answers {
    /// All of them.
    pub fn new() -> Self {
        Answers { small: answer(1 << 10), medium: answer(64 << 10), large: answer(1 << 20) }
    }

    fn of(&self, head: &[u8]) -> &[u8] {
        let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match target {
            b"/64k" => &self.medium,
            b"/1m" => &self.large,
            _ => &self.small,
        }
    }
}

fn answer(length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; length]].concat()
}

/// Answers one request after another until the client ends.
pub async fn serve(mut client: TcpStream, answers: &'static Answers) -> anyhow::Result<()> {
    let mut buffer = BytesMut::with_capacity(8 << 10);
    loop {
        let Some(end) = head_end(&buffer) else {
            if client.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = buffer.split_to(end);
        skip(&mut client, &mut buffer, body_length(&head)?).await?;
        client.write_all(answers.of(&head)).await?;
    }
}

fn head_end(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn body_length(head: &[u8]) -> anyhow::Result<usize> {
    let name = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
    let Some(line) = line else { return Ok(0) };
    let value = str::from_utf8(&line[name.len()..])?;
    value.trim().parse().with_context(|| value.to_owned())
}

async fn skip(client: &mut TcpStream, buffer: &mut BytesMut, mut length: usize) -> anyhow::Result<()> {
    loop {
        let here = length.min(buffer.len());
        buffer.advance(here);
        length -= here;
        if length == 0 {
            return Ok(());
        }
        anyhow::ensure!(client.read_buf(buffer).await? > 0, "the body was cut");
    }
}
