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
mod services;

pub use crate::ndjson::BEAT_LINE;
#[cfg(test)]
pub use lines::whole;
pub use lines::{Lines, MAX_GATEWAYS, ReportError, line};
pub use services::Services;

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
    pub services: Services,
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

    /// The services of which the two don't say the same; some may come twice.
    pub fn differences<'r>(&'r self, other: &'r Report) -> impl Iterator<Item = &'r Name> {
        let all = (self.draining != other.draining).then(|| self.services.names().chain(other.services.names()));
        let unlike = all.is_none().then(|| self.services.differences(&other.services));
        all.into_iter().flatten().chain(unlike.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn who_drains_has_no_healthy_instance() {
        let (cart, v2): (Name, Name) = ("cart".parse().unwrap(), "v2".parse().unwrap());
        let versions = BTreeMap::from([("v1".parse().unwrap(), 2), (v2.clone(), 1)]);
        let report =
            Report { services: [(cart.clone(), Arc::new(versions))].into_iter().collect(), ..Report::default() };
        assert_eq!((report.healthy(&cart, None), report.healthy(&cart, Some(&v2))), (3, 1));
        assert_eq!(Report { draining: true, ..report }.healthy(&cart, None), 0);
    }

    #[test]
    fn reports_differ_in_services_whose_numbers_do() {
        let report = |counts: &[(&str, u32)], draining| {
            let versions = |count: u32| Arc::new(BTreeMap::from([("v1".parse().unwrap(), count)]));
            let services = counts.iter().map(|(name, count)| (name.parse().unwrap(), versions(*count)));
            Report { services: services.collect(), draining, ..Report::default() }
        };
        let one = report(&[("a", 1), ("b", 1), ("c", 1)], false);
        let differ = |other: &Report| one.differences(other).map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(differ(&report(&[("a", 1), ("b", 2), ("d", 1)], false)), ["b", "c", "d"].map(str::to_owned).into());
        assert_eq!(differ(&report(&[("a", 1), ("b", 1), ("c", 1)], false)), BTreeSet::new());
        let all = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(differ(&report(&[("a", 1)], true)), all, "none of them takes requests any more");
    }
}
