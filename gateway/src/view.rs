//! What a gateway knows about the health of things, for its cluster's DNS servers and for people.

use std::collections::BTreeMap;

use config::resource::Name;
use serde::{Deserialize, Serialize};

/// The view of one gateway at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct View {
    /// This gateway takes no new requests.
    pub draining: bool,
    /// The gateways of other clusters that it knows, by `CLUSTER` and `GATEWAY`: whether they are live.
    pub gateways: BTreeMap<Name, BTreeMap<Name, bool>>,
    /// How many instances are healthy, by GNS, service and cluster.
    pub services: BTreeMap<Name, BTreeMap<Name, BTreeMap<Name, u32>>>,
}
