//! What was: the history of the desired state, the way back to an earlier revision, and a copy of all that is kept.

use config::compile::membership::Membership;
use config::manifest::to_manifest;
use config::resource::{Resource, ResourceId, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::apply::{Applied, Apply};
use super::core::Core;
use super::error::Error;
use super::view::global_namespaces;
use crate::access::{Administer, Edit, Inspect, Oversee, Permit};
use crate::http::message::ErrorItem;
use crate::store::{Desired, Owner, Page, Stored};

/// So many look at the past at once: each may need all that is kept of it in memory.
pub(super) const HISTORIANS: usize = 2;
/// So many go back to it at once, or copy it: a place that nobody takes from them who only looks.
pub(super) const KEEPERS: usize = 1;
/// So many revisions are told at once.
const ROWS: usize = 1000;

/// Asks for an earlier revision of the whole set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollback {
    /// Which one.
    pub revision: u64,
    /// Check and tell, but change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Tell what each resource was and becomes. For a dry run only.
    #[serde(default)]
    pub diff: bool,
}

impl Core {
    /// A place among those who look at the past.
    fn historian(&self) -> Result<SemaphorePermit<'_>, Error> {
        let busy = || format!("{HISTORIANS} callers are looking at the past already, which takes time: try again");
        self.historians.try_acquire().map_err(|_| Error::Busy(busy()))
    }

    /// The place of who goes back to it, or copies it.
    fn keeper(&self) -> Result<SemaphorePermit<'_>, Error> {
        let busy = || "a rollback or a backup is reading the past already, which takes time: try again".to_owned();
        self.keepers.try_acquire().map_err(|_| Error::Busy(busy()))
    }

    /// The newest revisions before one, or of all. Blocks.
    pub(crate) fn history(&self, _: &Permit<Oversee>, before: Option<u64>, limit: usize) -> Result<Page, Error> {
        let _place = self.historian()?;
        Ok(self.store.page(before, limit.min(ROWS))?)
    }

    /// The resources that `wanted` picks among those of a revision that the caller may see, as manifests. Blocks.
    pub(crate) fn manifests_at(
        &self,
        permit: &Permit<Inspect>,
        revision: u64,
        wanted: impl Fn(&Resource) -> bool,
    ) -> Result<Vec<Value>, Error> {
        let _place = self.historian()?;
        let desired = self.store.at(revision)?;
        let membership = Membership::of(global_namespaces(&desired));
        let seen = desired.resources.values().filter(|stored| permit.sees(&stored.resource, &membership));
        Ok(seen.filter(|stored| wanted(&stored.resource)).map(manifest).collect())
    }

    /// Makes one new revision in which the set is as it was in an earlier one. Blocks.
    pub(crate) fn rollback(&self, permit: &Permit<Edit>, rollback: &Rollback) -> Result<Applied, Error> {
        let Rollback { revision, dry_run, diff } = *rollback;
        if !permit.is_unlimited() {
            let message = "a rollback concerns the whole set, so whoever is limited to global namespaces may not do it: \
                           apply what those were (`tombolo get --revision`)";
            let item = ErrorItem { id: None, path: String::new(), message: message.to_owned() };
            return Err(Error::NotAllowed(vec![item]));
        }
        let target = {
            let _place = self.keeper()?;
            self.store.at(revision)?
        };
        let mut authorities = self.authorities();
        self.catch_up(&mut authorities, dry_run)?;
        let way = Way { now: &self.view().desired, target: &target };
        way.check().map_err(Error::Invalid)?;
        let enrolled = |id: &ResourceId| matches!(id, ResourceId::Cluster(name) if self.enrolments.get(name).is_some());
        let apply = Apply { dry_run, diff, ..way.batch(enrolled) };
        self.change(&mut authorities, permit, apply, &format!("rollback to {revision}"))
    }

    /// All that the database holds, as a backup. Secrets in it are sealed. Blocks.
    pub(crate) fn backup(&self, permit: &Permit<Administer>) -> Result<Vec<u8>, Error> {
        let _place = self.keeper()?;
        let contents = self.store.contents()?;
        self.audit.record(&permit.entry("backup").detail("revision", contents.history.head()))?;
        contents.to_backup().map_err(|error| Error::Internal(error.to_string()))
    }
}

fn manifest(stored: &Stored) -> Value {
    let status = Status { revision: stored.revision, ..Status::default() };
    let mut manifest = to_manifest(&stored.resource, Some(&status));
    if let Some(status) = manifest.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("managedBy".to_owned(), stored.managed_by.to_string().into());
    }
    manifest
}

/// From what is to what was.
struct Way<'w> {
    now: &'w Desired,
    target: &'w Desired,
}

impl Way<'_> {
    /// What was there then, and is not so now.
    fn lost(&self) -> impl Iterator<Item = (&ResourceId, &Stored)> {
        let differs = |id: &ResourceId, then: &Stored| {
            self.now.resources.get(id).is_none_or(|now| *now.resource != *then.resource)
        };
        self.target.resources.iter().filter(move |(id, then)| differs(id, then))
    }

    /// A resource that was a file's, and is gone, is not to be made again by others.
    fn check(&self) -> Result<(), Vec<ErrorItem>> {
        let gone = self.lost().filter(|(id, _)| !self.now.resources.contains_key(id));
        let foreign = gone.filter(|(_, then)| then.managed_by == Owner::File);
        let refuse = |(id, then): (&ResourceId, &Stored)| ErrorItem {
            id: Some(id.to_string()),
            path: String::new(),
            message: format!("it was managed by {}: write it again where it was managed", then.managed_by),
        };
        let errors: Vec<ErrorItem> = foreign.map(refuse).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The batch that leads there. What the controller itself wrote when clusters joined is not part of it: no cluster
    /// joins or leaves by a rollback.
    fn batch(&self, enrolled: impl Fn(&ResourceId) -> bool) -> Apply {
        let joined = |stored: &Stored| stored.managed_by == Owner::Join;
        let restored = self.lost().filter(|(id, then)| match self.now.resources.get(id) {
            Some(now) => !joined(now),
            None => !joined(then),
        });
        let manifests = restored.map(|(_, then)| to_manifest(&then.resource, None)).collect();
        let added = self.now.resources.iter().filter(|(id, _)| !self.target.resources.contains_key(id));
        let removed = added.filter(|(id, now)| !joined(now) && !enrolled(id));
        Apply { manifests, removals: removed.map(|(id, _)| id.clone()).collect(), ..Apply::default() }
    }
}
