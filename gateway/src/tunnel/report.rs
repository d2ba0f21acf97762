//! What a gateway says about itself over each tunnel: how many instances of each service it finds healthy, and
//! whether it drains.
//!
//! A report is one line of JSON in the endless answer to a request for [`super::metadata::REPORT_PATH`]. A line
//! without content is a beat: nothing changed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use config::resource::Name;
use serde::{Deserialize, Serialize};

/// From one line to the next, at the most.
pub const BEAT: Duration = Duration::from_millis(500);

/// Silence for so long means that the far end, or the way to it, is dead.
pub const SILENCE: Duration = Duration::from_millis(1_500);

/// A line may be so long, in bytes.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// What a gateway says about itself in one GNS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which life of the gateway this is: a successor's is another.
    #[serde(default)]
    pub boot: String,
    /// It takes no new requests.
    #[serde(default)]
    pub draining: bool,
    /// Its successor serves at the same address: a new tunnel is opened to that one before this one ends.
    #[serde(default)]
    pub moving: bool,
    /// Its services, with their versions' numbers of healthy instances.
    #[serde(default)]
    pub services: BTreeMap<Name, BTreeMap<Name, u32>>,
}

impl Report {
    /// How many instances of the service, or of one version of it, can take requests there.
    pub fn healthy(&self, service: &Name, version: Option<&Name>) -> u32 {
        let Some(versions) = self.services.get(service).filter(|_| !self.draining) else { return 0 };
        match version {
            Some(version) => versions.get(version).copied().unwrap_or(0),
            None => versions.values().sum(),
        }
    }

    /// As a line.
    pub fn line(&self) -> Bytes {
        // A map of names to numbers always has a JSON form; were that ever untrue, a beat is the honest rest.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

/// A beat, as a line.
pub const BEAT_LINE: Bytes = Bytes::from_static(b"\n");

/// Why a stream of reports makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A line is too long.
    #[error("the peer's report is longer than {MAX_LINE} bytes")]
    TooLong,
    /// A line is not a report.
    #[error("the peer's report cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Cuts reports out of a byte stream.
#[derive(Default)]
pub struct Lines {
    buffer: BytesMut,
    /// So many bytes of the buffer hold no line's end.
    scanned: usize,
}

impl Lines {
    /// Takes what came, and returns the newest whole report in it, if there is one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Report>, ReportError> {
        self.buffer.extend_from_slice(bytes);
        let mut newest = None;
        while let Some(end) = self.buffer.iter().skip(self.scanned).position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.scanned + end);
            self.buffer.advance(1);
            self.scanned = 0;
            if !line.is_empty() {
                newest = Some(serde_json::from_slice(&line)?);
            }
        }
        self.scanned = self.buffer.len();
        if self.buffer.len() > MAX_LINE { Err(ReportError::TooLong) } else { Ok(newest) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reports_and_beats_survive_any_cut() {
        let cart: Name = "cart".parse().unwrap();
        let versions = BTreeMap::from([("v1".parse().unwrap(), 2), ("v2".parse().unwrap(), 1)]);
        let services = BTreeMap::from([(cart.clone(), versions)]);
        let report = Report { services, ..Report::default() };
        let stream = [BEAT_LINE, report.line(), BEAT_LINE].concat();
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            let mut lines = Lines::default();
            let seen = [lines.push(head).unwrap(), lines.push(tail).unwrap()];
            assert_eq!(seen.iter().flatten().collect::<Vec<_>>(), [&report]);
        }
        assert_eq!(report.healthy(&cart, None), 3);
        assert_eq!(report.healthy(&cart, Some(&"v2".parse().unwrap())), 1);
        assert_eq!(Report { draining: true, ..report }.healthy(&cart, None), 0);
        assert!(Lines::default().push(b"{nonsense\n").is_err());
    }
}
