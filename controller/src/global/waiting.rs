//! Whether some resources are ready, for who waits for that: told when it is news, so that nobody asks in vain for all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::conditions::Overview;
use config::resource::{Condition, Resource, ResourceId};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use super::blocking;
use super::core::Core;
use super::error::Error;
use super::link::Reports;
use super::readiness;
use super::view::View;
use crate::access::{Inspect, Permit};

/// So many may wait at once.
pub(super) const WAITERS: usize = 64;
/// Nobody is kept waiting for longer than this without an answer.
const LONGEST: Duration = Duration::from_secs(10);
/// What changes at about the same time is looked at once.
const TOGETHER: Duration = Duration::from_millis(50);

/// Asks whether resources are ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Await {
    /// Which.
    pub ids: Vec<ResourceId>,
    /// What the caller knows: while it is so, there is no answer before the time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Vec<Readiness>>,
    /// How long the caller waits for something else, in milliseconds; no longer than 10 s.
    #[serde(default)]
    pub patience_ms: u64,
}

/// Whether a resource is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Which.
    pub id: ResourceId,
    /// Its condition `Ready`; nothing where it is not there, is not the caller's to see, or was seen by an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Condition>,
}

/// What follows of the resources alone, for as long as they stay as they are.
#[derive(Default)]
struct Checks {
    of: View,
    found: BTreeMap<ResourceId, (Arc<Resource>, Vec<Condition>)>,
}

impl Checks {
    fn is_of(&self, view: &View) -> bool {
        let same = |(one, other): (_, _)| Arc::ptr_eq(one, other);
        Arc::ptr_eq(&self.of.desired, &view.desired)
            && self.of.observed.len() == view.observed.len()
            && self.of.observed.values().zip(view.observed.values()).all(same)
    }

    /// Looks again, if anything is not as it was.
    fn take(&mut self, view: View, permit: &Permit<Inspect>, ids: &[ResourceId]) {
        if !self.is_of(&view) {
            let world = view.world();
            let (overview, membership) = (Overview::of(&world), view.membership());
            let find = |id: &ResourceId| {
                let stored = view.desired.resources.get(id)?;
                let seen = permit.sees(&stored.resource, &membership);
                seen.then(|| (id.clone(), (Arc::clone(&stored.resource), overview.conditions(id))))
            };
            self.found = ids.iter().filter_map(find).collect();
        }
        self.of = view;
    }

    fn readiness(&self, reports: &Reports, ids: &[ResourceId]) -> Vec<Readiness> {
        let ready = |id: &ResourceId| {
            let (resource, checks) = self.found.get(id)?;
            let conditions = readiness::status(&self.of, reports, resource, checks.clone()).conditions;
            conditions.into_iter().find(|condition| condition.kind == "Ready")
        };
        ids.iter().map(|id| Readiness { id: id.clone(), ready: ready(id) }).collect()
    }
}

impl Core {
    /// Whether resources are ready, once that is something else than the caller knows.
    ///
    /// # Errors
    /// When too many wait already.
    pub(crate) async fn await_news(
        self: &Arc<Self>,
        permit: Permit<Inspect>,
        asked: Await,
    ) -> Result<Vec<Readiness>, Error> {
        let _place = self.waiters.try_acquire().map_err(|_| {
            Error::Busy(format!("{WAITERS} callers wait for resources already: try again, or ask for single resources"))
        })?;
        let end = Instant::now() + Duration::from_millis(asked.patience_ms).min(LONGEST);
        let (mut news, mut checks) = (self.news.subscribe(), Checks::default());
        let gone = || Error::Internal("the controller is shutting down".to_owned());
        let (permit, ids) = (Arc::new(permit), Arc::new(asked.ids));
        loop {
            news.mark_unchanged();
            let (permit, ids) = (Arc::clone(&permit), Arc::clone(&ids));
            let look = move |core: &Core| {
                checks.take(core.view(), &permit, &ids);
                (checks.readiness(&core.reports(), &ids), checks)
            };
            let (readiness, looked) = blocking(self, look).await.ok_or_else(gone)?;
            checks = looked;
            let is_news = asked.known.as_ref() != Some(&readiness);
            if is_news || timeout_at(end, news.changed()).await.is_err() {
                return Ok(readiness);
            }
            sleep(TOGETHER).await;
        }
    }
}
