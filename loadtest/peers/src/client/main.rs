//! Clients for what ready-made load generators cannot do. Each prints its figures as one line of JSON.

mod answer;
mod handshakes;
mod idle;
mod open_loop;
mod pump;
mod tls;

use anyhow::Context;
use bench_peers::flags::Flags;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let what = words.next().context("want open-loop, handshakes, pump or idle")?;
    let flags = Flags::read(words)?;
    match what.as_str() {
        "open-loop" => open_loop::run(&flags),
        "handshakes" => handshakes::run(&flags),
        "pump" => pump::run(&flags),
        "idle" => idle::run(&flags),
        other => anyhow::bail!("{other}: want open-loop, handshakes, pump or idle"),
    }
}
