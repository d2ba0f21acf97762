//! What a gateway knows about the health of things, for its cluster's DNS servers and for people.

mod line;
mod seen;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;

use config::resource::Name;
use serde::{Deserialize, Serialize};

pub use line::{Line, LineError, Lines};
pub use seen::{Changed, Seen, SeenError};
pub use told::Views;
pub(crate) use told::gateways;

/// The view of one gateway at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct View {
    /// This gateway takes no new requests.
    pub draining: bool,
    /// The gateways of other clusters that it knows, by `CLUSTER` and `GATEWAY`: whether they are live.
    pub gateways: Gateways,
    /// How many instances are healthy, by GNS, service and cluster.
    pub services: BTreeMap<Name, BTreeMap<Name, BTreeMap<Name, u32>>>,
}

/// Gateways by cluster and name: whether they are live.
pub type Gateways = BTreeMap<Name, BTreeMap<Name, bool>>;

/// In which clusters a service has a healthy instance, and in which it has none.
pub type Serving = Arc<BTreeMap<Name, bool>>;
