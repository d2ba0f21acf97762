//! A new TLS connection for each request, with and without resumption.

use std::thread;
use std::time::{Duration, Instant};

use bench_peers::flags::Flags;
use rustls::HandshakeKind;

use crate::answer::Connection;
use crate::tls::Target;

/// Requests, and on how many of their connections a session went on.
type Count = (u64, u64);

/// `--seconds --connections --resume`, and the target's.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let (target, resume) = (Target::read(flags)?, flags.need("resume")?);
    let host: String = flags.need("host")?;
    let request = format!("GET /1k HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").into_bytes();
    let began = Instant::now();
    let until = began + Duration::from_secs(flags.need("seconds")?);
    let counts = thread::scope(|scope| {
        let work = || work(&target, resume, &request, until);
        let workers: Vec<_> = (0..flags.need("connections")?).map(|_| scope.spawn(work)).collect();
        let counts = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a thread died")));
        counts.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let (requests, resumed) = counts.iter().fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
    let seconds = began.elapsed().as_secs_f64();
    println!(r#"{{"requests": {requests}, "resumed": {resumed}, "seconds": {seconds}}}"#);
    Ok(())
}

fn work(target: &Target, resume: bool, request: &[u8], until: Instant) -> anyhow::Result<Count> {
    let (config, mut count) = (target.config(resume)?, (0, 0));
    while Instant::now() < until {
        let mut connection = Connection::new(target.connect(&config)?);
        connection.ask(request)?;
        count.0 += 1;
        count.1 += u64::from(connection.get().conn.handshake_kind() == Some(HandshakeKind::Resumed));
    }
    Ok(count)
}
