//! Whose an address is that DNS answers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use config::explain::{Answer, Hop, Step, Verdict};
use config::resource::{GatewayAddresses, Name, ResourceId, Spec};
use config::world::Fact;

use super::scope::Scope;
use crate::global::view::View;

/// A gateway, and the address by which it was found.
pub(super) struct Owner {
    pub(super) cluster: Name,
    pub(super) gateway: Name,
    pub(super) address: IpAddr,
}

/// How an address takes no connections, as DNS servers found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closed {
    /// It says nothing in time, which proves nothing.
    Silent,
    /// It refuses them.
    Refused,
}

impl Closed {
    /// What each address is that some server found closed; that one heard a refusal outweighs that another heard nothing.
    pub(super) fn of<'a>(answers: impl Iterator<Item = &'a Answer>) -> BTreeMap<IpAddr, Closed> {
        let mut closed = BTreeMap::new();
        for answer in answers {
            for address in &answer.closed {
                let how = if answer.silent.contains(address) { Closed::Silent } else { Closed::Refused };
                closed.entry(*address).and_modify(|known: &mut Closed| *known = how.max(*known)).or_insert(how);
            }
        }
        closed
    }

    pub(super) fn verdict(self) -> Verdict {
        match self {
            Closed::Silent => Verdict::Unknown,
            Closed::Refused => Verdict::Failed,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::Silent => "did not answer in time, tried twice",
            Closed::Refused => "takes no connections",
        })
    }
}

/// Where the gateways of some clusters are reached.
pub(super) struct Addresses {
    /// As they say themselves.
    announced: Vec<(Name, GatewayAddresses)>,
    /// As the clusters' resources say, which counts where something is written.
    written: Vec<(Name, GatewayAddresses)>,
    public: bool,
    /// What the name is of, for a cluster that nobody knows.
    resource: String,
}

impl Addresses {
    pub(super) fn of(view: &View, scope: &Scope) -> Self {
        let (mut announced, mut written) = (Vec::new(), Vec::new());
        for cluster in &scope.clusters {
            let seen = view.observed.get(cluster).and_then(|seen| seen.gateways());
            if let Some(Fact::Gateways(known)) = seen.and_then(|fact| fact.read().ok()) {
                announced.extend(known.gateways.iter().map(|gateway| (cluster.clone(), gateway.clone())));
            }
            let stored = view.desired.resources.get(&ResourceId::Cluster(cluster.clone()));
            if let Some(Spec::Cluster(spec)) = stored.map(|stored| &stored.resource.spec) {
                written.extend(spec.gateways.iter().map(|gateway| (cluster.clone(), gateway.clone())));
            }
        }
        Addresses { announced, written, public: scope.public, resource: scope.resource.clone() }
    }

    fn find(&self, known: &[(Name, GatewayAddresses)], address: IpAddr) -> Option<Owner> {
        let of = |gateway: &GatewayAddresses| if self.public { gateway.public } else { gateway.mesh };
        let (cluster, gateway) = known.iter().find(|(_, gateway)| of(gateway) == Some(address))?;
        Some(Owner { cluster: cluster.clone(), gateway: gateway.name.clone(), address })
    }

    /// The gateway to which the address leads. Behind an address that is only written there may be anything that passes
    /// connections on, but not if it is `closed`.
    pub(super) fn owner(&self, address: IpAddr, closed: Option<Closed>) -> Result<Owner, Step> {
        if let Some(owner) = self.find(&self.announced, address) {
            return Ok(owner);
        }
        let stale = |verdict, what: String| Step::new(Hop::Dns, verdict, format!("stale DNS: {what}"));
        match (self.find(&self.written, address), closed) {
            (Some(owner), None) => Ok(owner),
            (Some(Owner { cluster, gateway, .. }), Some(closed)) => {
                let what = format!("{address}, which is written for gateway {gateway}, {closed}");
                Err(stale(closed.verdict(), what).about(format_args!("Cluster/{cluster}")).remedy(format!(
                    "correct spec.gateways of Cluster/{cluster}, or remove it: what gateways announce then counts"
                )))
            }
            (None, _) => {
                let what = format!("{address} is the address of no gateway");
                Err(stale(Verdict::Failed, what).about(&self.resource).remedy(
                    "wait until what resolvers keep has ended (TTL); see whether the DNS servers follow their agents",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn silence_is_no_refusal_and_one_refusal_is_enough() {
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse::<IpAddr>().unwrap());
        let answer = |closed: &[IpAddr], silent: &[IpAddr]| Answer {
            closed: closed.to_vec(),
            silent: silent.to_vec(),
            ..Answer::default()
        };
        // An earlier release tells of no silence.
        let answers = [answer(&[a, b], &[a, b]), answer(&[b], &[]), answer(&[], &[])];
        assert_eq!(Closed::of(answers.iter()), BTreeMap::from([(a, Closed::Silent), (b, Closed::Refused)]));
        assert_eq!([Closed::Silent, Closed::Refused].map(Closed::verdict), [Verdict::Unknown, Verdict::Failed]);
    }
}
