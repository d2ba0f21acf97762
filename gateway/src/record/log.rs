//! Where records go: whoever has one puts its line together, where it is still at hand; a thread of its own writes them,
//! and no request waits for it.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use decide::window::{Clock, Window};
use tokio::sync::watch;

use super::line::{self, Fields, TurnedAway};
use super::lines::{Lines, TOGETHER};
use super::{Record, micros};
use crate::exchange::{Entry, Exchange};
use crate::metrics::Metrics;
use crate::settings::AccessLog;

/// So many bytes may wait to be written, 8 MiB; more lines are dropped and counted.
const BACKLOG: usize = 8 << 20;

/// Memory for more than so many bytes is given back once it was needed: 1 MiB.
const KEPT: usize = 1 << 20;

/// It is told that lines can't be written no more often than this.
const TELL: Duration = Duration::from_secs(1);

/// At shutdown, lines that wait have so long to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// In 10 s no more connections that were refused get a line: whoever floods must not fill the disk.
const TURNED_AWAY: u64 = 1_000;

/// The access log.
#[derive(Clone)]
pub struct Log {
    sender: Option<Arc<Sender>>,
    metrics: Arc<Metrics>,
    refused: Arc<Refused>,
}

/// Where what is to be written goes in. The thread ends when this is gone.
struct Sender {
    lines: Arc<Lines>,
    /// Comes back once the thread has ended.
    ended: watch::Receiver<()>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.lines.close();
    }
}

/// How many connections were refused lately, and how many of them have got no line since the last that has.
struct Refused {
    clock: Clock,
    lines: Window,
    unsaid: AtomicU64,
}

impl Refused {
    /// Whether one more gets a line; then, how many before it got none.
    fn next(&self, now: Instant) -> Option<u64> {
        let second = self.clock.second(now);
        if self.lines.sum(second) >= TURNED_AWAY {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.lines.add(second);
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

thread_local! {
    /// Where a line is put together.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The access log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {path}: {source}")]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

impl Log {
    /// Opens the log and starts its thread, which ends with the last clone of the log.
    pub fn open(to: &AccessLog, metrics: Arc<Metrics>) -> Result<Self, LogError> {
        let sender = match to {
            AccessLog::Off => None,
            AccessLog::Stdout => Some(spawn(io::stdout(), metrics.clone())),
            AccessLog::File(path) => {
                let file = append(path).map_err(|source| LogError { path: path.clone(), source })?;
                Some(spawn(file, metrics.clone()))
            }
        };
        let (clock, lines) = (Clock::new(Instant::now()), Window::default());
        let sender = sender.map(Arc::new);
        Ok(Log { sender, metrics, refused: Arc::new(Refused { clock, lines, unsaid: AtomicU64::new(0) }) })
    }

    /// A request's head has come.
    pub fn begin(&self, exchange: &impl Exchange) -> Record {
        Record::new(exchange.head(), exchange.entry(), self.is_kept())
    }

    /// A stream begins.
    pub fn begin_stream(&self, entry: &Entry) -> Record {
        Record::of_stream(entry, self.is_kept())
    }

    /// The request, or the stream, is over.
    pub fn write(&self, mut record: Record) {
        record.line.duration_us = micros(record.began.elapsed());
        self.put(&record.line);
    }

    /// A connection was refused, or closed for what it did, rather than a request: counts it by the code of its refusal,
    /// and writes a line unless there are too many. `cause` is for people, and may hold whatever the client sent.
    pub fn turned_away(&self, door: &'static str, client: IpAddr, code: &'static str, cause: &dyn Display) {
        self.metrics.turned_away(code);
        tracing::debug!(%client, door, code, %cause, "a connection is refused");
        if self.sender.is_some()
            && let Some(unsaid) = self.refused.next(Instant::now())
        {
            self.put(&TurnedAway::new(door, client, code, cause, unsaid));
        }
    }

    fn put(&self, fields: &impl Fields) {
        let Some(sender) = &self.sender else { return };
        ROOM.with_borrow_mut(|room| {
            line::write(fields, room);
            if !sender.lines.put(room) {
                self.metrics.log_drops.inc();
            }
        });
    }

    /// Whether lines are written at all.
    pub(super) fn is_kept(&self) -> bool {
        self.sender.is_some()
    }

    /// Writes what waits, and ends the thread; waits at most [`LAST_LINES`] for it. A later line is a counted drop.
    pub async fn close(&self) {
        let Some(sender) = &self.sender else { return };
        sender.lines.close();
        let mut ended = sender.ended.clone();
        let closed = async { while ended.changed().await.is_ok() {} };
        if tokio::time::timeout(LAST_LINES, closed).await.is_err() {
            tracing::warn!("the access log takes no more lines; the last ones are lost");
        }
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn spawn(to: impl Write + Send + 'static, metrics: Arc<Metrics>) -> Sender {
    let lines = Arc::new(Lines::new(BACKLOG));
    let (ending, ended) = watch::channel(());
    let mut writer = Writer { to, metrics, told: None };
    let waiting = lines.clone();
    std::thread::spawn(move || {
        writer.write_all(&waiting);
        drop(ending);
    });
    Sender { lines, ended }
}

/// What the thread has.
struct Writer<W: Write> {
    to: W,
    metrics: Arc<Metrics>,
    /// When it was last told that lines can't be written.
    told: Option<Instant>,
}

impl<W: Write> Writer<W> {
    /// Writes whatever has come, then waits for more, until the end.
    fn write_all(&mut self, lines: &Lines) {
        let mut taken = Vec::new();
        while let Some(all) = lines.take(taken) {
            parts(&all).for_each(|part| self.write(part));
            taken = if all.capacity() > KEPT { Vec::new() } else { all };
        }
    }

    fn write(&mut self, lines: &[u8]) {
        // Flushed, as standard output keeps what comes after the last line's end.
        if let Err(error) = self.to.write_all(lines).and_then(|()| self.to.flush()) {
            self.metrics.log_drops.inc_by(lines.iter().filter(|byte| **byte == b'\n').count() as u64);
            self.tell(&error);
        }
    }

    fn tell(&mut self, error: &io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
}

/// Lines in parts of about [`TOGETHER`], none of which ends within a line: a successor appends to the same file.
fn parts(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let ends = |from: usize| rest.get(from..)?.iter().position(|byte| *byte == b'\n').map(|end| from + end + 1);
        let (part, after) = rest.split_at_checked(ends(TOGETHER).unwrap_or(rest.len()))?;
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A disk that is full.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_that_cannot_be_written_are_counted_and_make_room() {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let mut sender = spawn(Full, metrics.clone());
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let mut written = 0;
        while written < 20 * BACKLOG {
            match sender.lines.put(&line) {
                true => written += line.len(),
                false => std::thread::yield_now(),
            }
        }
        sender.lines.close();
        assert!(sender.ended.changed().await.is_err(), "it is dropped at the end");
        assert_eq!(metrics.log_drops.get(), (written / line.len()) as u64);
    }

    #[test]
    fn parts_end_where_lines_end_and_are_together_the_whole() {
        for (length, number) in [(1, 3), (100, 5_000), (TOGETHER - 1, 3), (TOGETHER, 3), (3 * TOGETHER, 2)] {
            let line = [b"x".repeat(length - 1), b"\n".to_vec()].concat();
            let lines = line.repeat(number);
            let parts: Vec<_> = parts(&lines).collect();
            assert_eq!(parts.concat(), lines);
            assert!(parts.iter().all(|part| part.ends_with(b"\n") && part.len() <= TOGETHER + length), "{length}");
        }
        assert_eq!(parts(b"").count(), 0);
    }
}
