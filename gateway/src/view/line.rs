//! Views as they travel: whole, or what changed in them.
//!
//! A DNS server gets changes only if it asks for them: one of an older release reads each line as a whole [`View`], and a
//! gateway of an older release tells nothing else. Of those who ask, nobody needs to know how many instances are healthy,
//! only whether any is; so a service that has another number of them is no change.
//!
//! [`View`]: super::View

use std::collections::BTreeMap;

use bytes::Bytes;
use config::resource::Name;
use serde::{Deserialize, Serialize};

use super::{Gateways, Serving};
use crate::ndjson::{self, Cutter};
use crate::news::ServiceKey;

/// A line may be so long, in bytes.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// What one line says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Line {
    /// Grows with each line that isn't a beat; 0 in what an older release says.
    pub(super) sequence: u64,
    /// The line that this one changes; it is whole without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<u64>,
    pub(super) draining: bool,
    /// Nothing when they are as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateways: Option<Gateways>,
    /// By GNS, service and cluster the number of healthy instances, or at least whether there is one; nothing of a service
    /// that is no more.
    pub(super) services: BTreeMap<Name, BTreeMap<Name, Option<BTreeMap<Name, u32>>>>,
}

impl Line {
    pub(super) fn tell(&mut self, (gns, service): &ServiceKey, serving: Option<&Serving>) {
        let counts =
            serving.map(|serving| serving.iter().map(|(cluster, any)| (cluster.clone(), u32::from(*any))).collect());
        self.services.entry(gns.clone()).or_default().insert(service.clone(), counts);
    }

    /// The services that it tells of.
    pub(super) fn told(&self) -> impl Iterator<Item = (ServiceKey, Option<Serving>)> {
        self.services.iter().flat_map(|(gns, services)| {
            services.iter().map(|(service, counts)| ((gns.clone(), service.clone()), counts.as_ref().map(serving)))
        })
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        // Maps of names always have a JSON form; were that ever untrue, a beat is the honest rest.
        ndjson::line(self).unwrap_or(ndjson::BEAT_LINE)
    }
}

fn serving(counts: &BTreeMap<Name, u32>) -> Serving {
    counts.iter().map(|(cluster, healthy)| (cluster.clone(), *healthy > 0)).collect::<BTreeMap<_, _>>().into()
}

/// Why a stream of views makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// A line is too long.
    #[error("its view is longer than {MAX_LINE} bytes")]
    TooLong,
    /// A line is no view.
    #[error("its view cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Cuts views out of a byte stream.
#[derive(Default)]
pub struct Lines(Cutter);

impl Lines {
    /// Takes what came, and returns the lines that are whole now, without beats.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Line>, LineError> {
        self.0.push(bytes);
        let mut lines = Vec::new();
        while let Some(line) = self.0.line() {
            lines.push(serde_json::from_slice(&line)?);
        }
        if self.0.waiting() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        Ok(lines)
    }
}
