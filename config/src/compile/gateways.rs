//! Where each cluster's gateways are reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::resource::{GatewayAddresses, Name};
use crate::snapshot::Snapshot;

use super::known::Known;

/// What the gateways themselves say, unless the cluster's resource says something else.
pub(super) fn compile(known: &Known<'_>, previous: Option<&Snapshot>) -> BTreeMap<Name, Arc<[GatewayAddresses]>> {
    let announced = known.gateways.iter().map(|(cluster, gateways)| (*cluster, gateways.gateways.as_slice()));
    let written = known.clusters.iter().map(|(cluster, spec)| (*cluster, spec.gateways.as_slice()));
    let all = announced.chain(written.filter(|(_, gateways)| !gateways.is_empty()));
    let latest: BTreeMap<&Name, &[GatewayAddresses]> = all.collect();
    let share = |cluster: &Name, new: &[GatewayAddresses]| {
        let old = previous.and_then(|previous| previous.gateways.get(cluster)).filter(|old| ***old == *new);
        old.cloned().unwrap_or_else(|| Arc::from(new))
    };
    latest.into_iter().map(|(cluster, gateways)| (cluster.clone(), share(cluster, gateways))).collect()
}
