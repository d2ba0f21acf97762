//! What is known of the health of gateways and services. Told from outside; what nobody told is taken for well.

use std::collections::BTreeMap;

use config::resource::Name;
use serde::{Deserialize, Serialize};

/// The health of every gateway and service that somebody reported on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    /// The gateways, by cluster and name.
    pub gateways: BTreeMap<Name, BTreeMap<Name, GatewayState>>,
    /// How many healthy instances services have: by GNS, service and cluster.
    pub services: BTreeMap<Name, BTreeMap<Name, BTreeMap<Name, u32>>>,
}

/// How a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayState {
    /// It was heard of lately.
    pub live: bool,
    /// It wants no new clients.
    pub draining: bool,
}

/// How much a gateway is wanted in answers: the later, the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Down,
    Draining,
    Serving,
}

impl Standing {
    /// The best first.
    pub(crate) const ALL: [Standing; 3] = [Standing::Serving, Standing::Draining, Standing::Down];
}

impl Health {
    /// How much this gateway is wanted in answers.
    pub(crate) fn standing(&self, cluster: &Name, gateway: &Name) -> Standing {
        match self.gateways.get(cluster).and_then(|gateways| gateways.get(gateway)) {
            Some(GatewayState { live: false, .. }) => Standing::Down,
            Some(GatewayState { draining: true, .. }) => Standing::Draining,
            Some(_) | None => Standing::Serving,
        }
    }

    /// Whether the service may have a healthy instance in the cluster.
    pub(crate) fn may_serve(&self, gns: &Name, service: &Name, cluster: &Name) -> bool {
        let counts = self.services.get(gns).and_then(|services| services.get(service));
        counts.and_then(|counts| counts.get(cluster)).is_none_or(|healthy| *healthy > 0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_unknown_is_well_and_json_round_trips() {
        let text = r#"{"gateways":{"north":{
            "gw-1":{"live":false,"draining":false},"gw-2":{"live":true,"draining":true}}},
            "services":{"shop":{"cart":{"north":0,"south":2}}}}"#;
        let health: Health = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&serde_json::to_string(&health).unwrap()).unwrap(), health);
        let name = |text: &str| text.parse::<Name>().unwrap();
        let standing = |cluster, gateway| health.standing(&name(cluster), &name(gateway));
        assert_eq!(standing("north", "gw-1"), Standing::Down);
        assert_eq!(standing("north", "gw-2"), Standing::Draining);
        assert_eq!(standing("north", "gw-3"), Standing::Serving);
        let may_serve = |service, cluster| health.may_serve(&name("shop"), &name(service), &name(cluster));
        assert!(!may_serve("cart", "north"));
        assert!(may_serve("cart", "south") && may_serve("cart", "west") && may_serve("pay", "north"));
    }
}
