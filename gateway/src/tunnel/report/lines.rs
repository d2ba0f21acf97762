//! Reports as they travel: whole, or as what changed since the last one of the same tunnel.
//!
//! A peer gets changes only if it asked for them ([`super::super::metadata::CHANGES`]): one of an older release reads
//! each line as a whole report.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use config::resource::{GatewayAddresses, Name};
use serde::{Deserialize, Serialize};

use super::{Report, Versions};
use crate::ndjson::{self, BEAT_LINE, Cutter};

/// A line may be so long, in bytes.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// A peer may tell of so many services and versions in one GNS.
const MAX_COUNTS: usize = 200_000;
/// More gateways than an agent has members there cannot be.
pub const MAX_GATEWAYS: usize = 1_000;

/// Why a stream of reports makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A line is too long.
    #[error("the peer's report is longer than {MAX_LINE} bytes")]
    TooLong,
    /// It adds up to too much.
    #[error("the peer reports more than {MAX_COUNTS} services and versions or {MAX_GATEWAYS} gateways")]
    TooMuch,
    /// A line is not a report.
    #[error("the peer's report cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// What it changes was never said.
    #[error("the peer's report changes report {0}, which did not come before it")]
    Gap(u64),
}

/// A line's content.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<Name>,
    #[serde(default)]
    boot: String,
    #[serde(default)]
    sequence: u64,
    /// The report that this one changes; it is whole without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(default)]
    draining: bool,
    #[serde(default)]
    moving: bool,
    /// Nothing of a service that is no more.
    #[serde(default)]
    services: BTreeMap<Name, Option<Versions>>,
    /// Nothing when they are as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateways: Option<Vec<GatewayAddresses>>,
}

/// A report's line: whole, or what changes in the one of the number `since`. Where gateways are is told if it changed.
pub fn line(
    head: &Report,
    (sequence, since): (u64, Option<u64>),
    services: BTreeMap<Name, Option<Versions>>,
    gateways: Option<Vec<GatewayAddresses>>,
) -> Bytes {
    let Report { gateway, boot, draining, moving, .. } = head;
    let (gateway, boot, draining, moving) = (gateway.clone(), boot.clone(), *draining, *moving);
    let line = Line { gateway, boot, sequence, since, draining, moving, services, gateways };
    // Maps of names always have a JSON form; were that ever untrue, a beat is the honest rest.
    ndjson::line(&line).unwrap_or(BEAT_LINE)
}

/// A report as a line of its own.
#[cfg(test)]
pub fn whole(report: &Report) -> Bytes {
    let services = report.services.names().map(|name| (name.clone(), report.services.get(name).cloned()));
    line(report, (report.sequence, None), services.collect(), Some(report.gateways.to_vec()))
}

/// Cuts reports out of a byte stream.
#[derive(Default)]
pub struct Lines {
    cutter: Cutter,
    /// What the lines so far come to.
    last: Option<Report>,
}

impl Lines {
    /// Takes what came, and returns the newest whole report in it, if there is one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Report>, ReportError> {
        self.cutter.push(bytes);
        let mut news = false;
        while let Some(line) = self.cutter.line() {
            self.take(serde_json::from_slice(&line)?)?;
            news = true;
        }
        if self.cutter.waiting() > MAX_LINE {
            return Err(ReportError::TooLong);
        }
        // Most of what comes are beats, and a report of many services is long.
        Ok(if news { self.last.clone() } else { None })
    }

    fn take(&mut self, line: Line) -> Result<(), ReportError> {
        let Line { gateway, boot, sequence, since, draining, moving, services: changes, gateways } = line;
        let before = match since {
            None => Report::default(),
            Some(since) => {
                let known = self.last.take().filter(|last| last.sequence == since && last.boot == boot);
                known.ok_or(ReportError::Gap(since))?
            }
        };
        let mut services = before.services;
        changes.into_iter().for_each(|(name, versions)| services.set(name, versions));
        let gateways = gateways.map_or(before.gateways, Arc::from);
        if services.counts() > MAX_COUNTS || gateways.len() > MAX_GATEWAYS {
            return Err(ReportError::TooMuch);
        }
        self.last = Some(Report { gateway, boot, sequence, draining, moving, services, gateways });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(sequence: u64, since: Option<u64>) -> Bytes {
        let versions = Arc::new(BTreeMap::from([("v1".parse().unwrap(), 2)]));
        let services = BTreeMap::from([("cart".parse().unwrap(), Some(versions))]);
        line(&Report { boot: "b".into(), ..Report::default() }, (sequence, since), services, Some(vec![]))
    }

    #[test]
    fn what_an_older_release_says_is_a_whole_report() {
        let old = br#"{"boot":"b","draining":false,"moving":false,"services":{"cart":{"v1":2}}}"#;
        let said = Lines::default().push(&[&old[..], b"\n"].concat()).unwrap().unwrap();
        assert_eq!((said.healthy(&"cart".parse().unwrap(), None), said.gateways.len()), (2, 0));
    }

    #[test]
    fn what_an_older_release_reads_in_a_whole_report_is_all_there() {
        #[derive(Deserialize)]
        struct Old {
            boot: String,
            services: BTreeMap<Name, BTreeMap<Name, u32>>,
        }
        let old: Old = serde_json::from_slice(&said(3, None)).unwrap();
        assert_eq!((old.boot.as_str(), old.services.len()), ("b", 1));
    }

    #[test]
    fn a_change_of_something_never_said_is_an_error() {
        let mut lines = Lines::default();
        lines.push(&said(1, None)).unwrap();
        assert!(matches!(lines.push(&said(3, Some(2))), Err(ReportError::Gap(2))));
        assert!(Lines::default().push(b"{nonsense\n").is_err());
    }
}
