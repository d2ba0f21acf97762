//! What is left of a request: one record, which becomes a line of the access log and feeds the metrics.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config::resource::Name;
use http::HeaderValue;
use pingora_http::RequestHeader;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::exchange::{Door, Entry, Exchange};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::settings::AccessLog;

/// So many lines may wait to be written; more are dropped and counted.
const BACKLOG: usize = 8_192;

/// What a client or a peer says is cut off after so many bytes.
const LONGEST_TEXT: usize = 2_048;

/// At shutdown, lines that wait have so long to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// One request, from its head to the end of its answer.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    /// Whether the line will be written: else it holds no text, and allocates nothing.
    kept: bool,
    line: Line,
}

/// The fields of a line, in their order. Stable; `docs/guides/observability.md` explains them.
#[derive(Debug, Serialize)]
struct Line {
    time_ms: u128,
    door: &'static str,
    client: IpAddr,
    method: String,
    host: String,
    path: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    global_namespace: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    served_by: Option<String>,
    attempts: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<String>,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u128,
}

impl Line {
    /// What the connection alone tells.
    fn of(entry: &Entry) -> Self {
        Line {
            time_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()),
            door: entry.door.as_str(),
            client: entry.client,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            status: 0,
            refusal: None,
            global_namespace: None,
            service: None,
            served_by: None,
            attempts: 0,
            failures: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            duration_us: 0,
        }
    }
}

impl Record {
    /// A request's head has come.
    fn new(head: &RequestHeader, entry: &Entry, kept: bool) -> Self {
        let text = |text: &[u8]| if kept { shorten(text) } else { String::new() };
        let host = head.uri.host().map(str::as_bytes);
        let host = host.or_else(|| head.headers.get(http::header::HOST).map(HeaderValue::as_bytes));
        let line = Line {
            method: text(head.method.as_str().as_bytes()),
            host: text(host.unwrap_or_default()),
            path: text(head.raw_path()),
            ..Line::of(entry)
        };
        Record { began: Instant::now(), kept, line }
    }

    /// A stream begins. It has no head; of TLS that is passed through, the host is known.
    fn of_stream(entry: &Entry, kept: bool) -> Self {
        let host = match &entry.door {
            Door::PublicHttps { sni } if kept => sni.to_string(),
            _ => String::new(),
        };
        Record { began: Instant::now(), kept, line: Line { host, ..Line::of(entry) } }
    }

    /// The service was found.
    pub fn service(&mut self, global_namespace: &Name, service: &Name) {
        self.line.global_namespace = Some(global_namespace.clone());
        self.line.service = Some(service.clone());
    }

    /// An attempt begins; returns which it is, from 1.
    pub fn attempt(&mut self) -> u32 {
        self.line.attempts += 1;
        self.line.attempts
    }

    /// An attempt failed.
    pub fn failure(&mut self, whom: &str, why: &str) {
        if self.kept {
            self.line.failures.push(shorten(format!("{whom}: {why}").as_bytes()));
        }
    }

    /// The answer's head is on its way.
    pub fn status(&mut self, status: u16) {
        self.line.status = status;
    }

    /// The status that was answered; 0 until then.
    pub fn answered(&self) -> u16 {
        self.line.status
    }

    /// Who served it.
    pub fn served_by(&mut self, who: &str) {
        self.line.served_by = self.kept.then(|| shorten(who.as_bytes()));
    }

    /// The gateway itself ends the request, or what is left of it.
    pub fn refusal(&mut self, refusal: Refusal) {
        self.line.refusal = Some(refusal.code());
    }

    /// Bytes of the request's body came in.
    pub fn bytes_in(&mut self, bytes: usize) {
        self.line.bytes_in += bytes as u64;
    }

    /// Bytes of the answer's body went out.
    pub fn bytes_out(&mut self, bytes: usize) {
        self.line.bytes_out += bytes as u64;
    }

    fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        // Whole, so that a buffer never ends within a line: a successor appends to the same file.
        let mut text = serde_json::to_vec(&self.line)?;
        text.push(b'\n');
        to.write_all(&text)
    }

    /// How long it has taken, in seconds.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

/// The beginning of a text, with whatever isn't UTF-8 replaced.
fn shorten(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..LONGEST_TEXT).unwrap_or(text)).into_owned()
}

/// Where records go. Writing happens on a thread of its own; a request never waits for it.
#[derive(Clone)]
pub struct Log {
    sender: Option<SyncSender<Message>>,
    metrics: Arc<Metrics>,
}

/// What the writing thread is told.
enum Message {
    Write(Box<Record>),
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
        Ok(Log { sender, metrics })
    }

    /// A request's head has come.
    pub fn begin(&self, exchange: &impl Exchange) -> Record {
        Record::new(exchange.head(), exchange.entry(), self.sender.is_some())
    }

    /// A stream begins.
    pub fn begin_stream(&self, entry: &Entry) -> Record {
        Record::of_stream(entry, self.sender.is_some())
    }

    /// The request, or the stream, is over.
    pub fn write(&self, mut record: Record) {
        record.line.duration_us = record.began.elapsed().as_micros();
        let Some(sender) = &self.sender else { return };
        if sender.try_send(Message::Write(Box::new(record))).is_err() {
            self.metrics.log_drops.inc();
        }
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
        let mut records =
            std::iter::once(first).chain(messages.try_iter().take(BACKLOG)).map_while(|message| match message {
                Message::Write(record) => Some(record),
                Message::End(told) => {
                    end = Some(told);
                    None
                }
            });
        let written = records.try_for_each(|record| record.write_to(&mut to));
        if let Err(error) = written.and_then(|()| to.flush()) {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
    // Whoever waits for the end finds the log closed: a later line is a counted drop, never a silent one.
    drop(messages);
    drop(end);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::net::Ipv4Addr;

    use super::*;

    fn record(log: &Log) -> Record {
        let path = format!("/{}", "x".repeat(2 * LONGEST_TEXT));
        let head = RequestHeader::build("GET", path.as_bytes(), None).unwrap();
        let entry = Entry::new(Door::Mesh, Ipv4Addr::LOCALHOST.into(), 8080);
        let mut record = Record::new(&head, &entry, log.sender.is_some());
        record.failure("north/v1", "refused");
        record
    }

    #[tokio::test]
    async fn closing_writes_what_waits() {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Log::open(&AccessLog::File(file.path().into()), metrics.clone()).unwrap();
        (0..100).for_each(|_| log.write(record(&log)));
        log.close().await;
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.lines().count(), 100);
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["path"].as_str().unwrap().len(), LONGEST_TEXT);
        log.write(record(&log));
        assert_eq!(metrics.log_drops.get(), 1);
    }

    #[test]
    fn what_is_not_kept_holds_no_text() {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let record = record(&Log::open(&AccessLog::Off, metrics).unwrap());
        assert_eq!((record.line.path.capacity(), record.line.failures.capacity()), (0, 0));
    }
}
