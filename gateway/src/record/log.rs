//! Where records go: a thread of its own writes them, and no request waits for it.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use decide::window::{Clock, Window};
use tokio::sync::oneshot;

use super::Record;
use super::line::{self, TurnedAway};
use crate::exchange::{Entry, Exchange};
use crate::metrics::Metrics;
use crate::settings::AccessLog;

/// So many lines may wait to be written; more are dropped and counted.
const BACKLOG: usize = 8_192;

/// At shutdown, lines that wait have so long to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// In 10 s no more connections that were refused get a line: whoever floods must not fill the disk.
const TURNED_AWAY: u64 = 1_000;

/// The access log.
#[derive(Clone)]
pub struct Log {
    sender: Option<SyncSender<Message>>,
    metrics: Arc<Metrics>,
    refused: Arc<Refused>,
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
    /// Nothing more will come. Dropped once all that came before is written.
    End(oneshot::Sender<()>),
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
            AccessLog::Stdout => Some(spawn(io::stdout())),
            AccessLog::File(path) => {
                Some(spawn(append(path).map_err(|source| LogError { path: path.clone(), source })?))
            }
        };
        let (clock, lines) = (Clock::new(Instant::now()), Window::default());
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
        record.line.duration_us = record.began.elapsed().as_micros();
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
        if sender.try_send(message()).is_err() {
            self.metrics.log_drops.inc();
        }
    }

    /// Whether lines are written at all.
    pub(super) fn is_kept(&self) -> bool {
        self.sender.is_some()
    }

    /// Writes what waits, and ends the thread; waits at most [`LAST_LINES`] for it.
    pub async fn close(&self) {
        let Some(sender) = &self.sender else { return };
        let (end, ended) = oneshot::channel();
        let closing = async {
            let mut message = Message::End(end);
            while let Err(TrySendError::Full(back)) = sender.try_send(message) {
                message = back;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ended.await
        };
        if tokio::time::timeout(LAST_LINES, closing).await.is_err() {
            tracing::warn!("the access log takes no more lines; the last ones are lost");
        }
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn spawn(to: impl Write + Send + 'static) -> SyncSender<Message> {
    let (sender, receiver) = sync_channel(BACKLOG);
    std::thread::spawn(move || write_all(receiver, BufWriter::new(to)));
    sender
}

/// Writes whatever has come, then flushes, then waits for more, until the end.
fn write_all(messages: Receiver<Message>, mut to: BufWriter<impl Write>) {
    let mut end = None;
    while end.is_none()
        && let Ok(first) = messages.recv()
    {
        let mut waiting = std::iter::once(first).chain(messages.try_iter().take(BACKLOG));
        let written = waiting.try_for_each(|message| match message {
            Message::Write(record) => line::write(&record.line, &mut to),
            Message::TurnedAway(refused) => line::write(&*refused, &mut to),
            Message::End(told) => {
                end = Some(told);
                Ok(())
            }
        });
        if let Err(error) = written.and_then(|()| to.flush()) {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
    // Whoever waits for the end finds the log closed: a later line is a counted drop, never a silent one.
    drop(messages);
    drop(end);
}
