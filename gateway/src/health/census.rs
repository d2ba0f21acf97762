//! How the instances of each service are, all together: taken whenever health or the plan changed, and off the request's
//! path.

use std::sync::atomic::Ordering;

use config::resource::Name;
use decide::health::{State, Why, panics};

use crate::plan::{Plan, PlannedService, UNCOUNTED};
use crate::tunnel::pool::{Peer, PeerTable};

/// Counts, shows the counts in the metrics, and decides for each service whether it is in panic mode. A service whose
/// instances are as they were is not counted again.
pub fn take(plan: &Plan, peers: &PeerTable) {
    for service in plan.all_services() {
        let change = service.changes.number();
        if service.counted.load(Ordering::Relaxed) == change {
            continue;
        }
        let Tally { well, ejected, ailing } = tally(service);
        // Whom the others have matters only where some ail.
        let panic = ailing > 0 && panics(well + elsewhere(service, peers), ailing);
        if service.panic.swap(panic, Ordering::Relaxed) != panic {
            let name = &service.service.name;
            tracing::warn!(service = %name, panic, well, ailing, "panic mode: the ailing take requests too, or no longer");
        }
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        service.metrics.healthy.set(gauge(well));
        service.metrics.ejected.set(gauge(ejected));
        service.counted.store(if ailing == 0 { change } else { UNCOUNTED }, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Tally {
    well: usize,
    ejected: usize,
    ailing: usize,
}

fn tally(service: &PlannedService) -> Tally {
    let mut tally = Tally::default();
    for target in service.instances() {
        let state = target.health.state();
        let ejected = state == State::Sick(Why::Responses);
        tally.well += usize::from(state == State::Well);
        tally.ejected += usize::from(ejected);
        tally.ailing += usize::from(ejected || state == State::Sick(Why::Checks));
    }
    tally
}

/// How many instances are well in other clusters, as far as they are within reach.
fn elsewhere(service: &PlannedService, peers: &PeerTable) -> usize {
    let service = &service.service;
    let clusters = peers.of(&service.global_namespace, None).into_iter().flat_map(|clusters| clusters.values());
    let well = clusters.map(|peers| most(peers, &service.name));
    usize::try_from(well.map(u64::from).sum::<u64>()).unwrap_or(usize::MAX)
}

fn most(peers: &[std::sync::Arc<Peer>], service: &Name) -> u32 {
    peers.iter().filter(|peer| peer.is_live()).map(|peer| peer.healthy(service, None)).max().unwrap_or(0)
}
