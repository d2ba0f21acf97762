//! What a gateway says about itself over each tunnel: how many instances of each service it finds healthy, whether it
//! drains, and where its cluster's gateways are dialled.
//!
//! A report is one line of JSON in the endless answer to a request for [`super::metadata::REPORT_PATH`]; [`lines`] has
//! its forms. A line without content is a beat: nothing changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::resource::{GatewayAddresses, Name};

pub mod lines;

pub use lines::{BEAT_LINE, Lines, MAX_GATEWAYS, ReportError, change, whole};

/// From one line to the next, at the most.
pub const BEAT: Duration = Duration::from_millis(500);

/// Silence for so long means that the far end, or the way to it, is dead.
pub const SILENCE: Duration = Duration::from_millis(1_500);

/// The numbers of healthy instances of a service's versions.
pub type Versions = Arc<BTreeMap<Name, u32>>;

/// What a gateway says about itself in one GNS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Which gateway says it: as it has proved, or else as it says; nothing from one of an older release.
    pub gateway: Option<Name>,
    /// Which life of the gateway this is: a successor's is another.
    pub boot: String,
    /// Grows with each report of that life, by whichever tunnel it comes.
    pub sequence: u64,
    /// It takes no new requests.
    pub draining: bool,
    /// Its successor serves at the same address: a new tunnel is opened to that one before this one ends.
    pub moving: bool,
    /// Its services, with their versions' numbers of healthy instances.
    pub services: BTreeMap<Name, Versions>,
    /// Where the gateways of its cluster are dialled, as it knows from its agent: also what the controller, if that is
    /// away, could not tell.
    pub gateways: Arc<[GatewayAddresses]>,
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

    /// Whether this one was said before the other, in the same life of the gateway.
    pub fn is_before(&self, other: &Report) -> bool {
        self.boot == other.boot && self.sequence < other.sequence
    }

    /// Whether both say the same, whenever they were made.
    pub fn says_the_same(&self, other: &Report) -> bool {
        let Report { gateway, boot, sequence: _, draining, moving, services, gateways } = self;
        (gateway, boot, draining, moving, services, gateways)
            == (&other.gateway, &other.boot, &other.draining, &other.moving, &other.services, &other.gateways)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_drains_has_no_healthy_instance() {
        let (cart, v2): (Name, Name) = ("cart".parse().unwrap(), "v2".parse().unwrap());
        let versions = BTreeMap::from([("v1".parse().unwrap(), 2), (v2.clone(), 1)]);
        let report = Report { services: BTreeMap::from([(cart.clone(), Arc::new(versions))]), ..Report::default() };
        assert_eq!((report.healthy(&cart, None), report.healthy(&cart, Some(&v2))), (3, 1));
        assert_eq!(Report { draining: true, ..report }.healthy(&cart, None), 0);
    }
}
