//! Where records go: a thread of its own writes them, and no request waits for it.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use decide::window::{Clock, Window};
use tokio::sync::watch;

use super::line::{self, TurnedAway};
use super::queue::{Bounds, Queue};
use super::{Record, micros};
use crate::exchange::{Entry, Exchange};
use crate::metrics::Metrics;
use crate::settings::AccessLog;

/// So many lines may wait to be written; more are dropped and counted.
const BACKLOG: usize = 8_192;
/// And so many bytes of them: 8 MiB.
const BACKLOG_BYTES: usize = 8 << 20;

/// So many bytes are written at once, if so many wait.
const TOGETHER: usize = 64 << 10;

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
    queue: Arc<Queue<Message>>,
    /// Comes back once the thread has ended.
    ended: watch::Receiver<()>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.queue.close();
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

/// What the writing thread is told.
enum Message {
    Write(Box<Record>),
    TurnedAway(Box<TurnedAway>),
}

impl Message {
    /// The bytes that it holds, about.
    fn size(&self) -> usize {
        match self {
            Message::Write(record) => record.line.size(),
            Message::TurnedAway(refused) => refused.size(),
        }
    }
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
        self.send(|| Message::Write(Box::new(record)));
    }

    /// A connection was refused, or closed for what it did, rather than a request: counts it by the code of its refusal,
    /// and writes a line unless there are too many. `cause` is for people, and may hold whatever the client sent.
    pub fn turned_away(&self, door: &'static str, client: IpAddr, code: &'static str, cause: &dyn Display) {
        self.metrics.turned_away(code);
        tracing::debug!(%client, door, code, %cause, "a connection is refused");
        if self.sender.is_some()
            && let Some(unsaid) = self.refused.next(Instant::now())
        {
            self.send(|| Message::TurnedAway(Box::new(TurnedAway::new(door, client, code, cause, unsaid))));
        }
    }

    fn send(&self, message: impl FnOnce() -> Message) {
        let Some(sender) = &self.sender else { return };
        let message = message();
        let size = message.size();
        if !sender.queue.put(message, size) {
            self.metrics.log_drops.inc();
        }
    }

    /// Whether lines are written at all.
    pub(super) fn is_kept(&self) -> bool {
        self.sender.is_some()
    }

    /// Writes what waits, and ends the thread; waits at most [`LAST_LINES`] for it. A later line is a counted drop.
    pub async fn close(&self) {
        let Some(sender) = &self.sender else { return };
        sender.queue.close();
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
    let queue = Arc::new(Queue::new(Bounds { number: BACKLOG, bytes: BACKLOG_BYTES }));
    let (ending, ended) = watch::channel(());
    let mut writer = Writer { line: Vec::new(), to: BufWriter::with_capacity(TOGETHER, to), metrics, told: None };
    let taken = queue.clone();
    std::thread::spawn(move || {
        writer.write_all(&taken);
        drop(ending);
    });
    Sender { queue, ended }
}

/// What the thread has.
struct Writer<W: Write> {
    /// The line that is put together.
    line: Vec<u8>,
    to: BufWriter<W>,
    metrics: Arc<Metrics>,
    /// When it was last told that lines can't be written.
    told: Option<Instant>,
}

impl<W: Write> Writer<W> {
    /// Writes whatever has come, then flushes, then waits for more, until the end.
    fn write_all(&mut self, queue: &Queue<Message>) {
        while let Some(messages) = queue.take() {
            messages.into_iter().for_each(|message| self.write(message));
            if let Err(error) = self.to.flush() {
                self.tell(&error);
            }
        }
    }

    fn write(&mut self, message: Message) {
        let written = match message {
            Message::Write(record) => line::write(&record.line, &mut self.line, &mut self.to),
            Message::TurnedAway(refused) => line::write(&*refused, &mut self.line, &mut self.to),
        };
        if let Err(error) = written {
            self.metrics.log_drops.inc();
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

    fn refused() -> Message {
        let client = IpAddr::from([127, 0, 0, 1]);
        Message::TurnedAway(Box::new(TurnedAway::new("https", client, "no_request", &"x".repeat(1_000), 0)))
    }

    #[tokio::test]
    async fn lines_that_cannot_be_written_are_counted_and_make_room() {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let mut sender = spawn(Full, metrics.clone());
        for _ in 0..1_000 {
            let message = refused();
            let size = message.size();
            assert!(sender.queue.put(message, size));
        }
        sender.queue.close();
        assert!(sender.ended.changed().await.is_err(), "it is dropped at the end");
        // What the last buffer holds may yet be written.
        assert!((900..=1_000).contains(&metrics.log_drops.get()), "{}", metrics.log_drops.get());
    }
}
