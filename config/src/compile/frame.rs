//! What all services and hosts are compiled by.

use crate::hosts::Reservations;
use crate::resource::Name;
use crate::snapshot::Place;
use crate::world::Fact;

use super::access::Access;
use super::known::Known;
use super::membership::Membership;
use super::rejected::Rejected;

/// What is known, and what follows from it for everything else.
pub(super) struct Frame<'w> {
    pub(super) known: Known<'w>,
    pub(super) place: &'w Place,
    pub(super) membership: Membership<'w>,
    pub(super) access: Access<'w>,
}

impl<'w> Frame<'w> {
    /// Of facts that were judged.
    pub(super) fn of(
        facts: impl IntoIterator<Item = (&'w str, &'w Fact)>,
        place: &'w Place,
        rejected: &Rejected,
    ) -> Self {
        let mut known = Known::default();
        known.take(facts, rejected);
        let membership = Membership::of(known.global_namespaces.iter().map(|(name, spec)| (*name, *spec)));
        let access = Access::of(&known, place, &membership);
        Frame { known, place, membership, access }
    }

    /// The GNS to which the namespace belongs, if anybody here reaches it: one without this cluster has no services here,
    /// but for those that are called.
    pub(super) fn reached(&self, cluster: &Name, namespace: &Name) -> Option<&'w Name> {
        let owner = self.membership.owner(cluster, namespace);
        owner.filter(|gns| self.access.is_here(gns) || self.access.is_visited(gns))
    }

    /// Which GNS may publish which host.
    pub(super) fn reservations(&self) -> Reservations<'w> {
        Reservations::of(self.known.global_namespaces.iter().map(|(name, spec)| (*name, *spec)))
    }
}
