//! A step of the desired state, and the state that the steps lead to.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Whose resources it writes.
    pub by: Owner,
    /// Who: the name of an API token, or what else asked for it. Empty in what older versions wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// What they did: `apply`, `rollback to 5`. Empty in what older versions wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// The revision before it, where that is not the number before: after a restore the numbers go on far beyond those
    /// that were, so that nobody takes a new revision for an old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// What is wanted from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upserts: Vec<Arc<Resource>>,
    /// Which of these were not wanted before; `None` in what older versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<BTreeSet<ResourceId>>,
    /// What is no longer wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<ResourceId>,
}

impl Revision {
    /// A step of this moment that changes nothing yet.
    #[must_use]
    pub fn new(at: i64, by: Owner, who: &str, what: &str) -> Self {
        let (who, what) = (who.to_owned(), what.to_owned());
        Revision { at, by, who, what, after: None, upserts: Vec::new(), created: None, removals: Vec::new() }
    }

    /// The same as a step from `desired`: says what it creates, so that it can be told of by itself.
    #[must_use]
    pub fn on(&self, desired: &Desired) -> Self {
        let removed: BTreeSet<&ResourceId> = self.removals.iter().collect();
        let ids = self.upserts.iter().map(|resource| &resource.id);
        let is_new = |id: &&ResourceId| removed.contains(id) || !desired.resources.contains_key(*id);
        let created = ids.filter(is_new).cloned().collect();
        Revision { created: Some(created), ..self.clone() }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }

    /// The revision on which it follows, where it leads to `number`.
    #[must_use]
    pub fn follows(&self, number: u64) -> u64 {
        self.after.unwrap_or(number.saturating_sub(1))
    }
}

/// A step that doesn't follow on the state that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {number} does not follow on revision {from}")]
pub struct Gap {
    /// The step.
    pub number: u64,
    /// What is there.
    pub from: u64,
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
    /// Takes the step that leads to the next revision.
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

    /// Takes the step that leads to revision `number`.
    ///
    /// # Errors
    /// When it doesn't follow on this state, which is then as it was.
    pub fn step(&mut self, number: u64, revision: &Revision) -> Result<(), Gap> {
        if revision.follows(number) != self.head || number <= self.head {
            return Err(Gap { number, from: self.head });
        }
        self.head = number - 1;
        self.apply(revision);
        Ok(())
    }
}
