//! A step of the desired state, and the state that the steps lead to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use config::resource::{Resource, ResourceId};
use serde::{Deserialize, Serialize};

/// Who writes a resource. A resource has one owner, and a write by another is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// People, through the API.
    Api,
    /// A directory of manifests that a process follows.
    File,
    /// The controller itself, when a cluster joins. Whoever writes such a resource takes it over.
    Join,
}

impl Owner {
    /// Whether a resource of this owner may be written by `writer`.
    #[must_use]
    pub fn yields_to(self, writer: Owner) -> bool {
        self == writer || self == Owner::Join
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Owner::Api => "api",
            Owner::File => "file",
            Owner::Join => "join",
        })
    }
}

/// A text names no owner that may write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no owner of resources: write api or file")]
pub struct OwnerError(String);

impl FromStr for Owner {
    type Err = OwnerError;

    /// Reads who may *write*; [`Owner::Join`] writes only from within.
    fn from_str(text: &str) -> Result<Self, OwnerError> {
        match text {
            "api" => Ok(Owner::Api),
            "file" => Ok(Owner::File),
            _ => Err(OwnerError(text.to_owned())),
        }
    }
}

/// One step of the desired state: all of it counts, or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Who.
    pub by: Owner,
    /// What is wanted from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upserts: Vec<Arc<Resource>>,
    /// What is no longer wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<ResourceId>,
}

/// A resource of the desired state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The resource.
    pub resource: Arc<Resource>,
    /// Its owner.
    pub managed_by: Owner,
    /// The revision in which it appeared.
    pub created: u64,
    /// The revision in which it last changed.
    pub revision: u64,
}

/// The desired state at a revision. Cheap to clone: the resources are shared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The last revision; 0 before the first.
    pub head: u64,
    /// The resources.
    pub resources: BTreeMap<ResourceId, Stored>,
}

impl Desired {
    /// Takes the next step.
    pub fn apply(&mut self, revision: &Revision) {
        self.head += 1;
        for id in &revision.removals {
            self.resources.remove(id);
        }
        for resource in &revision.upserts {
            let created = self.resources.get(&resource.id).map_or(self.head, |old| old.created);
            let stored =
                Stored { resource: Arc::clone(resource), managed_by: revision.by, created, revision: self.head };
            self.resources.insert(resource.id.clone(), stored);
        }
    }
}
