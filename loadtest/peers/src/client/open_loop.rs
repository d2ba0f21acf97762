//! Requests at a fixed rate, however slow the answers are. A request's time counts from when it was due, so that one that
//! had to wait for those before it is not taken for a fast one. One thread, which must cost so little that it never is
//! what limits, and sleeps by the kernel's own clock: a runtime's timers are a millisecond apart.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use bench_peers::flags::Flags;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::answer::body_length;

/// No answer for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

struct Connection {
    stream: TcpStream,
    /// When the request was due that waits for its answer.
    due: Instant,
    answer: Vec<u8>,
}

impl Connection {
    /// Reads what is there; whether the answer is complete now.
    fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => anyhow::bail!("the connection was closed"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.answer.extend_from_slice(&buffer[..count]);
        let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let (head, body) = self.answer.split_at(end + 4);
        Ok(body.len() as u64 >= body_length(str::from_utf8(head)?)?)
    }
}

struct Loop {
    connections: Vec<Connection>,
    /// Those that wait for no answer; all take their turn.
    idle: VecDeque<usize>,
    request: Vec<u8>,
    /// Requests a second.
    rate: u32,
    /// Of all requests.
    count: u32,
    /// The number of the next.
    next: u32,
    start: Instant,
    /// Of answered requests, in microseconds.
    took: Vec<u128>,
}

impl Loop {
    /// When the next request is due; none when all were sent.
    fn due(&self) -> Option<Instant> {
        (self.next < self.count).then(|| self.start + Duration::from_secs(1) * self.next / self.rate)
    }

    /// Sends what is due and has a connection to go by; how long until there is more to send.
    fn send(&mut self) -> anyhow::Result<Duration> {
        while let (Some(due), Some(&number)) = (self.due(), self.idle.front()) {
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                return Ok(early);
            }
            self.idle.pop_front();
            self.next += 1;
            let connection = &mut self.connections[number];
            connection.due = due;
            connection.answer.clear();
            connection.stream.write_all(&self.request)?;
        }
        Ok(PATIENCE)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, connection) in self.connections.iter().enumerate() {
            epoll::add(&poll, &connection.stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        }
        let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 64 << 10]);
        while self.took.len() < self.count as usize {
            let wait = self.send()?;
            events.clear();
            epoll::wait(&poll, spare_capacity(&mut events), Some(&Timespec::try_from(wait)?))?;
            anyhow::ensure!(wait < PATIENCE || !events.is_empty(), "no answer for {PATIENCE:?}");
            for event in &events {
                let number = event.data.u64() as usize;
                let connection = &mut self.connections[number];
                if connection.read(&mut buffer)? {
                    self.took.push(connection.due.elapsed().as_micros());
                    self.idle.push_back(number);
                }
            }
        }
        Ok(())
    }
}

/// `--at --host --path --rate --seconds --connections`: the number of requests and their percentiles, in microseconds.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let (at, host, path): (SocketAddr, String, String) = (flags.need("at")?, flags.need("host")?, flags.need("path")?);
    let (rate, seconds): (u32, u32) = (flags.need("rate")?, flags.need("seconds")?);
    let connect = |_| -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(at).with_context(|| at.to_string())?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection { stream, due: Instant::now(), answer: Vec::new() })
    };
    let connections = (0..flags.need::<usize>("connections")?).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    let mut work = Loop {
        idle: (0..connections.len()).collect(),
        connections,
        request: format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes(),
        rate,
        count: rate * seconds,
        next: 0,
        start: Instant::now(),
        took: Vec::new(),
    };
    work.run()?;
    work.took.sort_unstable();
    let took = &work.took;
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).or(took.last()).copied().unwrap_or_default();
    let (count, median, p99, max) = (took.len(), at(0.5), at(0.99), at(1.0));
    println!(r#"{{"requests": {count}, "p50": {median}, "p99": {p99}, "max": {max}}}"#);
    Ok(())
}
