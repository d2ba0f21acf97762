//! Connections that have made one request and then do nothing, until standard input ends.

use std::io::{Read, Write};

use bench_peers::flags::Flags;

use crate::answer::Connection;
use crate::tls::Target;

/// `--connections`, and the target's. Says `ready` when all are there.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let target = Target::read(flags)?;
    let host: String = flags.need("host")?;
    let request = format!("GET /1k HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
    let config = target.config(false)?;
    let connect = |_| {
        let mut connection = Connection::new(target.connect(&config)?);
        connection.ask(&request)?;
        Ok(connection)
    };
    let mut open = (0..flags.need::<u32>("connections")?).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // All must still be good for something: the first, as the one that was idle longest, stands for them.
    open.first_mut().map_or(Ok(()), |first| first.ask(&request))
}
