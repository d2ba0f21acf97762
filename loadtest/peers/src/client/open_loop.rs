//! Requests at a fixed rate, however slow the answers are. A request's time counts from when it was due, so that one that
//! had to wait for those before it is not taken for a fast one.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench_peers::flags::Flags;

use crate::answer::Connection;

struct Plan {
    at: SocketAddr,
    request: Vec<u8>,
    /// Requests a second.
    rate: u32,
    /// Of all requests.
    count: u32,
    /// The number of the next.
    next: AtomicU32,
    start: Instant,
}

impl Plan {
    /// The next request's time; none when all were sent.
    fn due(&self) -> Option<Instant> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.count).then(|| self.start + Duration::from_secs(1) * number / self.rate)
    }

    /// One connection's part: what each of its requests took, in microseconds.
    fn work(&self) -> anyhow::Result<Vec<u128>> {
        let stream = TcpStream::connect(self.at)?;
        stream.set_nodelay(true)?;
        let mut connection = Connection::new(stream);
        connection.ask(&self.request)?;
        let mut took = Vec::new();
        while let Some(due) = self.due() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            connection.ask(&self.request)?;
            took.push(due.elapsed().as_micros());
        }
        Ok(took)
    }
}

/// `--at --host --path --rate --seconds --connections`: the number of requests and their percentiles, in microseconds.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let (host, path): (String, String) = (flags.need("host")?, flags.need("path")?);
    let rate = flags.need("rate")?;
    let plan = Plan {
        at: flags.need("at")?,
        request: format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes(),
        rate,
        count: rate * flags.need::<u32>("seconds")?,
        next: AtomicU32::new(0),
        // Until then all are connected.
        start: Instant::now() + Duration::from_millis(300),
    };
    let mut took = thread::scope(|scope| {
        let workers: Vec<_> = (0..flags.need("connections")?).map(|_| scope.spawn(|| plan.work())).collect();
        let parts = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a thread died")));
        parts.collect::<anyhow::Result<Vec<_>>>().map(|parts| parts.concat())
    })?;
    took.sort_unstable();
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).or(took.last()).copied().unwrap_or_default();
    println!(r#"{{"requests": {}, "p50": {}, "p99": {}, "max": {}}}"#, took.len(), at(0.5), at(0.99), at(1.0));
    Ok(())
}
