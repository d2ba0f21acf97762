//! Bytes as fast as they come.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bench_peers::flags::Flags;
use socket2::{Domain, Socket, Type};

/// `--at --from --seconds --connections`: the bytes that came.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let (at, from): (SocketAddr, IpAddr) = (flags.need("at")?, flags.need("from")?);
    let began = Instant::now();
    let until = began + Duration::from_secs(flags.need("seconds")?);
    let counts = thread::scope(|scope| {
        let workers: Vec<_> = (0..flags.need("connections")?).map(|_| scope.spawn(|| read(at, from, until))).collect();
        let counts = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a thread died")));
        counts.collect::<anyhow::Result<Vec<_>>>()
    })?;
    println!(r#"{{"bytes": {}, "seconds": {}}}"#, counts.iter().sum::<u64>(), began.elapsed().as_secs_f64());
    Ok(())
}

fn read(at: SocketAddr, from: IpAddr, until: Instant) -> anyhow::Result<u64> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&at.into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"s")?;
    let (mut buffer, mut count) = (vec![0; 256 << 10], 0);
    while Instant::now() < until {
        let read = stream.read(&mut buffer)?;
        anyhow::ensure!(read > 0, "the stream ended");
        count += read as u64;
    }
    Ok(count)
}
