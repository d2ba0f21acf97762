//! Who plain-text callers are, by their addresses.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resource::Name;
use crate::resource::cluster::{Cidr, ClusterSpec};
use crate::snapshot::{Caller, Namespace};

use super::frame::Frame;

/// The callers of the place's own cluster, the longest prefix first, and the ranges of those who are nobody here. The
/// latter must be known: a range of another application inside a wider one is no part of that one's GNS.
pub(super) fn compile(
    Frame { known, place, membership, .. }: &Frame<'_>,
    namespaces: &BTreeMap<Name, Arc<Namespace>>,
) -> (Vec<Caller>, Vec<Cidr>) {
    let (mut callers, mut strangers, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for row in known.clusters.get(&place.cluster).map(workloads).unwrap_or_default() {
        if !seen.insert(row.cidr) {
            continue;
        }
        match membership
            .owner(&place.cluster, &row.namespace)
            .filter(|gns| namespaces.get(*gns).is_some_and(|gns| !gns.visited))
        {
            Some(gns) => {
                callers.push(Caller { cidr: row.cidr, namespace: row.namespace.clone(), global_namespace: gns.clone() })
            }
            None => strangers.push(row.cidr),
        }
    }
    callers.sort_by_key(|caller| (Reverse(caller.cidr.prefix()), caller.cidr));
    strangers.sort_by_key(|cidr| (Reverse(cidr.prefix()), *cidr));
    (callers, strangers)
}

fn workloads<'w>(cluster: &&'w ClusterSpec) -> &'w [crate::resource::Workloads] {
    &cluster.workloads
}
