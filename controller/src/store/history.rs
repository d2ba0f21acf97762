//! The past of the desired state: which steps led to it, and what it was.

use std::collections::BTreeSet;

use config::resource::ResourceId;
use serde::{Deserialize, Serialize};

use super::{Desired, Gap, Owner, Revision, StoreError};

/// The oldest state that is kept, and every step after it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The oldest state.
    pub base: Desired,
    /// The steps, each with the revision to which it leads.
    pub steps: Vec<(u64, Revision)>,
}

/// One revision, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The revision.
    pub revision: u64,
    /// When, in seconds since 1970.
    pub at: i64,
    /// Who; empty for what older versions wrote.
    pub who: String,
    /// What they did; empty for what older versions wrote.
    pub what: String,
    /// Whose resources it wrote.
    pub managed_by: Owner,
    /// What became of which resources.
    pub changes: Vec<Changed>,
}

/// What became of a resource in a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the variants say it
pub enum Changed {
    Created(ResourceId),
    Changed(ResourceId),
    Removed(ResourceId),
}

/// Some revisions, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The revisions, the oldest first.
    pub rows: Vec<Row>,
    /// Whether there are older ones that were asked for, too.
    pub more: bool,
}

impl Row {
    /// Of a step that says what it created; of others the state before it tells that.
    pub(super) fn of(revision: u64, step: &Revision) -> Option<Row> {
        let created = match &step.created {
            None if !step.upserts.is_empty() => return None,
            created => created.as_ref(),
        };
        let is_new = |id: &ResourceId| created.is_some_and(|created| created.contains(id));
        Some(row(revision, step, is_new))
    }
}

impl History {
    /// The oldest revision of which the state is known.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.base.head
    }

    /// The newest.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.steps.last().map_or(self.base.head, |(number, _)| *number)
    }

    /// The newest state.
    ///
    /// # Errors
    /// When a step doesn't follow on the one before.
    pub fn newest(&self) -> Result<Desired, Gap> {
        self.until(u64::MAX)
    }

    /// The state at a revision.
    ///
    /// # Errors
    /// When there is no such revision, or none any more.
    pub fn at(&self, revision: u64) -> Result<Desired, StoreError> {
        let none = || StoreError::NoRevision { asked: revision, oldest: self.oldest(), head: self.head() };
        let state = self.until(revision).map_err(|_| none())?;
        if state.head == revision { Ok(state) } else { Err(none()) }
    }

    fn until(&self, revision: u64) -> Result<Desired, Gap> {
        let mut state = self.base.clone();
        let steps = self.steps.iter().take_while(|(number, _)| *number <= revision);
        steps.into_iter().try_for_each(|(number, step)| state.step(*number, step))?;
        Ok(state)
    }

    /// The revisions from one to another, as the steps themselves don't tell it. The oldest is the first.
    #[must_use]
    pub(super) fn rows(&self, revisions: std::ops::RangeInclusive<u64>) -> Vec<Row> {
        let mut present: BTreeSet<&ResourceId> = self.base.resources.keys().collect();
        let steps = self.steps.iter().map(|(number, step)| {
            for id in &step.removals {
                present.remove(id);
            }
            row(*number, step, |id| present.insert(id))
        });
        steps.filter(|row| revisions.contains(&row.revision)).collect()
    }
}

/// `is_new` says whether a resource was not there before.
fn row<'h>(revision: u64, step: &'h Revision, mut is_new: impl FnMut(&'h ResourceId) -> bool) -> Row {
    let Revision { at, by, who, what, upserts, removals, .. } = step;
    let removed = removals.iter().cloned().map(Changed::Removed);
    let written = upserts.iter().map(|resource| match is_new(&resource.id) {
        true => Changed::Created(resource.id.clone()),
        false => Changed::Changed(resource.id.clone()),
    });
    let changes = removed.chain(written).collect();
    Row { revision, at: *at, who: who.clone(), what: what.clone(), managed_by: *by, changes }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use config::resource::{ClusterSpec, Resource, Spec};
    use proptest::prelude::*;

    use super::*;

    fn step(upserts: &[u8], removals: &[u8]) -> Revision {
        let id = |n: &u8| -> ResourceId { format!("Cluster/c{n}").parse().unwrap() };
        let cluster = |n: &u8| Resource { id: id(n), labels: [].into(), spec: Spec::Cluster(ClusterSpec::default()) };
        let mut revision = Revision::new(0, Owner::Api, "ada", "apply");
        revision.upserts = upserts.iter().map(|n| Arc::new(cluster(n))).collect();
        revision.removals = removals.iter().map(id).collect();
        revision
    }

    proptest! {
        #[test]
        fn every_state_that_is_kept_is_the_one_that_was(
            steps in proptest::collection::vec((proptest::collection::btree_set(0..5u8, 0..3), 0..5u8), 1..12),
            folded in 0..12usize,
        ) {
            let all = |upserts: &BTreeSet<u8>| upserts.iter().copied().collect::<Vec<_>>();
            let steps: Vec<_> = steps.iter().map(|(upserts, removal)| step(&all(upserts), &[*removal])).collect();
            let mut states = vec![Desired::default()];
            for step in &steps {
                let mut next = states.last().unwrap().clone();
                next.apply(step);
                states.push(next);
            }
            let folded = folded.min(steps.len());
            let kept = steps.iter().enumerate().skip(folded).map(|(i, step)| (i as u64 + 1, step.clone()));
            let history = History { base: states.get(folded).unwrap().clone(), steps: kept.collect() };
            for (revision, state) in states.iter().enumerate() {
                let told = history.at(revision as u64).ok();
                prop_assert_eq!(told.as_ref(), Some(state).filter(|_| revision >= folded));
            }
            prop_assert!(history.at(steps.len() as u64 + 1).is_err());
            let rows = history.rows(0..=u64::MAX);
            prop_assert_eq!(rows.len(), steps.len() - folded);
            for (row, (before, step)) in rows.into_iter().zip(states.iter().zip(&steps).skip(folded)) {
                prop_assert_eq!(Row::of(row.revision, step).is_none(), !step.upserts.is_empty());
                prop_assert_eq!(Row::of(row.revision, &step.on(before)), Some(row));
            }
        }
    }

    #[test]
    fn a_revision_after_a_restore_may_leave_numbers_out_but_not_the_one_before_it() {
        let mut restored = step(&[2], &[]);
        restored.after = Some(1);
        let history = History { base: Desired::default(), steps: vec![(1, step(&[1], &[])), (100, restored.clone())] };
        assert_eq!(history.newest().unwrap().head, 100);
        assert_eq!(history.at(100).unwrap().resources.len(), 2);
        let error = history.at(50).unwrap_err().to_string();
        assert!(error.contains("no revision 50") && error.contains("0 to 100"), "{error}");
        let broken = History { base: Desired::default(), steps: vec![(100, restored)] };
        assert_eq!(broken.newest(), Err(Gap { number: 100, from: 0 }));
        let rows = history.rows(0..=u64::MAX);
        let created = |n: u8| vec![Changed::Created(format!("Cluster/c{n}").parse().unwrap())];
        assert_eq!(rows.iter().map(|row| row.changes.clone()).collect::<Vec<_>>(), [created(1), created(2)]);
    }
}
