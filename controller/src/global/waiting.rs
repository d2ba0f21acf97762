//! Whether some resources are ready, for who waits for that: told when it is news, so that nobody asks in vain for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config::conditions::Overview;
use config::resource::{Condition, Resource, ResourceId};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use super::blocking;
use super::core::Core;
use super::error::Error;
use super::link::Reports;
use super::readiness;
use super::view::View;
use crate::access::{Inspect, Permit};
use crate::sync::secrets::hex;

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
    /// The `seen` of the caller's last answer: while that is so, there is no other before the time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
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

/// What is known of the resources that were asked about, in the order of their identities.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Awaited {
    /// Each once.
    pub items: Vec<Readiness>,
    /// The SHA-256 of them, in hexadecimal: what the caller knows then.
    pub seen: String,
}

impl Awaited {
    fn of(items: Vec<Readiness>) -> Result<Self, Error> {
        let text = serde_json::to_vec(&items).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Awaited { seen: hex(digest(&SHA256, &text).as_ref()), items })
    }
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
    fn take(&mut self, view: View, permit: &Permit<Inspect>, ids: &BTreeSet<ResourceId>) {
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

    fn readiness(&self, reports: &Reports, ids: &BTreeSet<ResourceId>) -> Vec<Readiness> {
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
    pub(crate) async fn await_news(self: &Arc<Self>, permit: Permit<Inspect>, asked: Await) -> Result<Awaited, Error> {
        let _place = self.waiters.try_acquire().map_err(|_| {
            Error::Busy(format!("{WAITERS} callers wait for resources already: try again, or ask for single resources"))
        })?;
        let end = Instant::now() + Duration::from_millis(asked.patience_ms).min(LONGEST);
        let (mut news, mut checks) = (self.news.subscribe(), Checks::default());
        let gone = || Error::Internal("the controller is shutting down".to_owned());
        // Each once: what one asks for costs no more than what there is.
        let (permit, ids) = (Arc::new(permit), Arc::new(BTreeSet::from_iter(asked.ids)));
        loop {
            let begun = Instant::now();
            news.mark_unchanged();
            let (permit, ids) = (Arc::clone(&permit), Arc::clone(&ids));
            let look = move |core: &Core| {
                checks.take(core.view(), &permit, &ids);
                (Awaited::of(checks.readiness(&core.reports(), &ids)), checks)
            };
            let (awaited, looked) = blocking(self, look).await.ok_or_else(gone)?;
            let awaited = awaited?;
            checks = looked;
            let is_news = asked.known.as_ref() != Some(&awaited.seen);
            // Where there always are news, the time is over all the same.
            if is_news || Instant::now() >= end || timeout_at(end, news.changed()).await.is_err() {
                return Ok(awaited);
            }
            sleep(TOGETHER.max(begun.elapsed().min(LONGEST / 10))).await;
        }
    }
}
