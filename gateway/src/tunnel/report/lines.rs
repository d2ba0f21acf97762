//! Reports as they travel: whole, or as what changed since the last one of the same tunnel.
//!
//! A peer gets changes only if it asked for them ([`super::super::metadata::CHANGES`]): one of an older release reads
//! each line as a whole report.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use config::resource::{GatewayAddresses, Name};
use serde::{Deserialize, Serialize};

use super::{Report, Versions};

/// A beat, as a line.
pub const BEAT_LINE: Bytes = Bytes::from_static(b"\n");

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

/// A report as a line of its own.
pub fn whole(report: &Report) -> Bytes {
    let services = report.services.iter().map(|(name, versions)| (name.clone(), Some(versions.clone())));
    line(report, None, services.collect(), Some(report.gateways.to_vec()))
}

/// What a report changes in the one that the tunnel carried before, as a line.
pub fn change(before: &Report, report: &Report) -> Bytes {
    let said = |name: &Name, versions: &Versions| before.services.get(name) == Some(versions);
    let news = report.services.iter().filter(|(name, versions)| !said(name, versions));
    let news = news.map(|(name, versions)| (name.clone(), Some(versions.clone())));
    let gone = before.services.keys().filter(|name| !report.services.contains_key(*name));
    let services = news.chain(gone.map(|name| (name.clone(), None))).collect();
    let gateways = (before.gateways != report.gateways).then(|| report.gateways.to_vec());
    line(report, Some(before.sequence), services, gateways)
}

fn line(
    report: &Report,
    since: Option<u64>,
    services: BTreeMap<Name, Option<Versions>>,
    gateways: Option<Vec<GatewayAddresses>>,
) -> Bytes {
    let Report { gateway, boot, sequence, draining, moving, .. } = report.clone();
    // Maps of names always have a JSON form; were that ever untrue, a beat is the honest rest.
    let line = Line { gateway, boot, sequence, since, draining, moving, services, gateways };
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// Cuts reports out of a byte stream.
#[derive(Default)]
pub struct Lines {
    buffer: BytesMut,
    /// So many bytes of the buffer hold no line's end.
    scanned: usize,
    /// What the lines so far come to.
    last: Option<Report>,
}

impl Lines {
    /// Takes what came, and returns the newest whole report in it, if there is one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Report>, ReportError> {
        self.buffer.extend_from_slice(bytes);
        let mut news = false;
        while let Some(end) = self.buffer.iter().skip(self.scanned).position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.scanned + end);
            self.buffer.advance(1);
            self.scanned = 0;
            if !line.is_empty() {
                self.take(serde_json::from_slice(&line)?)?;
                news = true;
            }
        }
        self.scanned = self.buffer.len();
        if self.buffer.len() > MAX_LINE {
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
        for (name, versions) in changes {
            match versions {
                Some(versions) => drop(services.insert(name, versions)),
                None => drop(services.remove(&name)),
            }
        }
        let gateways = gateways.map_or(before.gateways, Arc::from);
        let counts: usize = services.values().map(|versions| 1 + versions.len()).sum();
        if counts > MAX_COUNTS || gateways.len() > MAX_GATEWAYS {
            return Err(ReportError::TooMuch);
        }
        self.last = Some(Report { gateway, boot, sequence, draining, moving, services, gateways });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn report(sequence: u64, services: &BTreeMap<u8, u32>, gateways: &[u8]) -> Report {
        let name = |number: &u8| -> Name { format!("n{number}").parse().unwrap() };
        let versions = |healthy: &u32| Arc::new(BTreeMap::from([("v1".parse().unwrap(), *healthy)]));
        let address = |number: &u8| GatewayAddresses {
            name: name(number),
            east_west: format!("10.0.0.{number}:7445").parse().ok(),
            public: None,
            mesh: None,
        };
        Report {
            gateway: "gw".parse().ok(),
            boot: "b".into(),
            sequence,
            services: services.iter().map(|(number, healthy)| (name(number), versions(healthy))).collect(),
            gateways: gateways.iter().map(address).collect(),
            ..Report::default()
        }
    }

    proptest! {
        #[test]
        fn changes_add_up_to_what_is_so_however_the_stream_is_cut(
            states in vec((btree_map(0..6u8, 0..4u32, 0..6), vec(0..4u8, 0..3)), 1..6),
            cut in 1..40usize,
        ) {
            let reports: Vec<_> = (1..).zip(&states).map(|(n, (services, gateways))| report(n, services, gateways)).collect();
            let mut stream = whole(&reports[0]).to_vec();
            for pair in reports.windows(2) {
                stream.extend(BEAT_LINE);
                stream.extend(change(&pair[0], &pair[1]));
            }
            let mut lines = Lines::default();
            let said: Vec<_> = stream.chunks(cut).filter_map(|part| lines.push(part).unwrap()).collect();
            prop_assert_eq!(said.last(), reports.last());
            prop_assert!(said.iter().all(|report| reports.contains(report)));
        }
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
        let old: Old = serde_json::from_slice(&whole(&report(3, &[(1, 2)].into(), &[1]))).unwrap();
        assert_eq!((old.boot.as_str(), old.services.len()), ("b", 1));
    }

    #[test]
    fn a_change_of_something_never_said_is_an_error() {
        let [one, two, three] = [1, 2, 3].map(|sequence| report(sequence, &BTreeMap::new(), &[]));
        let mut lines = Lines::default();
        lines.push(&whole(&one)).unwrap();
        assert!(matches!(lines.push(&change(&two, &three)), Err(ReportError::Gap(2))));
        assert!(Lines::default().push(b"{nonsense\n").is_err());
    }
}
