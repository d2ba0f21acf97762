//! Whose an address is that DNS answers.

use std::net::IpAddr;

use config::explain::{Hop, Step};
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
    pub(super) fn owner(&self, address: IpAddr, closed: bool) -> Result<Owner, Step> {
        if let Some(owner) = self.find(&self.announced, address) {
            return Ok(owner);
        }
        let stale = |what: String| Step::failed(Hop::Dns, format!("stale DNS: {what}"));
        match self.find(&self.written, address) {
            Some(owner) if !closed => Ok(owner),
            Some(Owner { cluster, gateway, .. }) => {
                Err(stale(format!("{address}, which is written for gateway {gateway}, takes no connections"))
                    .about(format_args!("Cluster/{cluster}"))
                    .remedy(format!(
                        "correct spec.gateways of Cluster/{cluster}, or remove it: what gateways announce then counts"
                    )))
            }
            None => Err(stale(format!("{address} is the address of no gateway")).about(&self.resource).remedy(
                "wait until what resolvers keep has ended (TTL); see whether the DNS servers follow their agents",
            )),
        }
    }
}
