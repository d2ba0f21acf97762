//! What a gateway is fed, by channels, while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::live::Live;
use config::resource::{Name, SecretRef};
use config::snapshot::Snapshot;
use config::wire::Secret;
use identity::Identity;

/// The private keys of host certificates, by reference.
pub type Secrets = BTreeMap<SecretRef, Secret>;

/// This gateway's own identity in each GNS.
pub type Identities = BTreeMap<Name, Arc<Identity>>;

/// What a gateway acts on. Each part may come late or change alone; the gateway serves what it can.
#[derive(Clone)]
pub struct Inputs {
    /// What the world is, as this cluster needs it.
    pub snapshot: Live<Snapshot>,
    /// The keys of the certificates in the snapshot.
    pub secrets: Live<Secrets>,
    /// Who this gateway is.
    pub identities: Live<Identities>,
}
