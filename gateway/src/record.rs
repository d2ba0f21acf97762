//! What is left of a request: one record, which becomes a line of the access log and feeds the metrics.

mod json;
mod line;
mod lines;
mod log;

use std::fmt::Display;
use std::time::{Duration, Instant};

use config::resource::Name;
use decide::trace::REQUEST_ID;
use http::HeaderMap;
use pingora_http::RequestHeader;

use crate::exchange::Entry;
use crate::metrics::ServiceMetrics;
use crate::refusal::Refusal;
use crate::trace::mark;
use line::{Line, shorten};
pub use log::{Log, LogError};

/// One request, from its head to the end of its answer; or one stream.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    /// Whether the line will be written: else it holds no text, and allocates nothing.
    kept: bool,
    line: Line,
}

impl Record {
    /// A request's head has come.
    fn new(head: &RequestHeader, entry: &Entry, kept: bool) -> Self {
        Record { began: Instant::now(), kept, line: Line::new(head, entry, mark(&head.headers), kept) }
    }

    /// A stream begins.
    fn of_stream(entry: &Entry, kept: bool) -> Self {
        Record { began: Instant::now(), kept, line: Line::of_stream(entry, kept) }
    }

    /// Tells the next server what the request is called, and its place in its trace.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if let Some(marks) = &self.line.marks {
            marks.write(headers);
        }
    }

    /// Tells the client what its request was called.
    pub fn mark_answer(&self, headers: &mut HeaderMap) {
        if let Some(marks) = &self.line.marks {
            headers.insert(REQUEST_ID, marks.request_id.clone());
        }
    }

    /// Who called, as a peer gateway says of a stream.
    pub fn source(&mut self, source: &str) {
        if self.kept {
            self.line.source(source);
        }
    }

    /// The service was found.
    pub fn service(&mut self, global_namespace: &Name, service: &Name) {
        self.line.global_namespace = Some(global_namespace.clone());
        self.line.service = Some(service.clone());
    }

    /// An attempt begins.
    pub fn attempt(&mut self) {
        self.line.attempts += 1;
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> u32 {
        self.line.attempts
    }

    /// An attempt failed.
    pub fn failure(&mut self, whom: &dyn Display, why: &dyn Display) {
        if self.kept {
            self.line.failures.push(shorten(format!("{whom}: {why}").as_bytes()).into_owned());
        }
    }

    /// The answer's head is on its way.
    pub fn status(&mut self, status: u16) {
        self.line.status = status;
        self.line.head_us = Some(micros(self.began.elapsed()));
    }

    /// The status that was answered; 0 until then.
    pub fn answered(&self) -> u16 {
        self.line.status
    }

    /// Who served it.
    pub fn served_by(&mut self, who: &str) {
        if self.kept {
            self.line.served_by(who);
        }
    }

    /// The gateway itself ends the request, or what is left of it.
    pub fn refusal(&mut self, refusal: Refusal) {
        self.line.refusal = Some(refusal.code());
        self.line.cut |= self.line.status != 0;
    }

    /// Bytes of the request's body came in.
    pub fn bytes_in(&mut self, bytes: usize) {
        self.line.bytes_in += bytes as u64;
    }

    /// Bytes of the answer's body went out.
    pub fn bytes_out(&mut self, bytes: usize) {
        self.line.bytes_out += bytes as u64;
    }

    /// Feeds the metrics of its service.
    pub fn measure(&self, metrics: &ServiceMetrics) {
        metrics.duration.observe(self.began.elapsed().as_secs_f64());
        metrics.bytes_in.inc_by(self.line.bytes_in);
        metrics.bytes_out.inc_by(self.line.bytes_out);
    }
}

/// In microseconds.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
