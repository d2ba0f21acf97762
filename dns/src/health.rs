//! What is known of the health of gateways and services. Told from outside; what nobody told is taken for well.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::resource::Name;
use serde::{Deserialize, Serialize};

/// The health of every gateway and service that somebody reported on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    /// The gateways, by cluster and name.
    pub gateways: BTreeMap<Name, BTreeMap<Name, GatewayState>>,
    /// Whether services have a healthy instance: by GNS, service and cluster. A copy shares what doesn't change.
    pub services: BTreeMap<Name, Arc<BTreeMap<Name, Serving>>>,
}

/// In which clusters a service has a healthy instance, and in which it has none.
pub type Serving = Arc<BTreeMap<Name, bool>>;

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
    /// What is known of a service is now this, or nothing any more. Returns whether that is new.
    pub fn set_service(&mut self, gns: &Name, service: &Name, serving: Option<Serving>) -> bool {
        let known = self.services.get(gns).and_then(|services| services.get(service));
        if known == serving.as_ref() {
            return false;
        }
        let services = Arc::make_mut(self.services.entry(gns.clone()).or_default());
        match serving {
            Some(serving) => drop(services.insert(service.clone(), serving)),
            None => drop(services.remove(service)),
        }
        if services.is_empty() {
            self.services.remove(gns);
        }
        true
    }

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
        let serving = self.services.get(gns).and_then(|services| services.get(service));
        serving.and_then(|serving| serving.get(cluster)).is_none_or(|any| *any)
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
            "services":{"shop":{"cart":{"north":false,"south":true}}}}"#;
        let health: Health = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&serde_json::to_string(&health).unwrap()).unwrap(), health);
        let name = |text: &str| text.parse::<Name>().unwrap();
        let standing = |cluster, gateway| health.standing(&name(cluster), &name(gateway));
        assert_eq!(standing("north", "gw-1"), Standing::Down);
        assert_eq!(standing("north", "gw-2"), Standing::Draining);
        assert_eq!(standing("north", "gw-3"), Standing::Serving);
        let may_serve = |service, cluster| health.may_serve(&name("shop"), &name(service), &name(cluster));
        assert!(!may_serve("cart", "north"));
        let mut changed = health.clone();
        let none = Arc::new(BTreeMap::from([(name("north"), false), (name("south"), true)]));
        assert!(!changed.set_service(&name("shop"), &name("cart"), Some(none)), "it is so already");
        assert!(changed.set_service(&name("shop"), &name("cart"), None) && changed.services.is_empty());
        assert!(may_serve("cart", "south") && may_serve("cart", "west") && may_serve("pay", "north"));
    }
}
