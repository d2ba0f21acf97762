//! Whom nobody believes any more, whatever certificate they show.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::resource::Name;

/// Revoked by name rather than by certificate: who has stolen a key has it for every certificate of that name, also for
/// those that nobody remembers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Revoked {
    /// A cluster with everything in it: its issuing CAs sign for nobody.
    Cluster(Name),
    /// A gateway of a cluster.
    Gateway {
        /// Its cluster.
        cluster: Name,
        /// Its name.
        name: Name,
    },
    /// The workloads of a service in a cluster.
    Workload {
        /// Where it runs.
        cluster: Name,
        /// In which namespace of that cluster.
        namespace: Name,
        /// The service.
        service: Name,
    },
}

impl Revoked {
    /// Where whoever is revoked stands.
    pub fn cluster(&self) -> &Name {
        match self {
            Revoked::Cluster(cluster) | Revoked::Gateway { cluster, .. } | Revoked::Workload { cluster, .. } => cluster,
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Revoked::Cluster(cluster) => write!(f, "cluster {cluster}"),
            Revoked::Gateway { cluster, name } => write!(f, "gateway {cluster}/{name}"),
            Revoked::Workload { cluster, namespace, service } => write!(f, "workload {cluster}/{namespace}/{service}"),
        }
    }
}
