//! (World, Place) → Snapshot, purely: every process that compiles the same world for the same place gets the same
//! snapshot, so that the controller can tell people what gateways will do.
//!
//! No world makes this fail. What cannot be served as it is written is left out, named in [`Snapshot::rejected`], and
//! changes nothing for others.

mod access;
mod callers;
mod gateways;
mod known;
pub mod membership;
mod namespaces;
mod public;
mod services;

use std::sync::Arc;

use crate::snapshot::{Place, Snapshot};
use crate::wire::Rejection;
use crate::world::World;

use access::Access;
use known::Known;
use membership::Membership;

/// Compiles the world for a place. Parts that are equal to those of `previous` are shared with it, which spares memory
/// and tells whoever follows what a change left alone; otherwise `previous` has no influence.
pub fn compile(world: &World, place: &Place, previous: Option<&Snapshot>) -> Snapshot {
    let mut rejected = Rejected::default();
    let known = Known::of(world, &mut rejected);
    let membership = Membership::of(known.global_namespaces.iter().map(|(name, spec)| (*name, *spec)));
    let access = Access::of(&known, place, &membership);
    let services = services::compile(&known, place, (&membership, &access), previous, &mut rejected);
    let namespaces = namespaces::compile(&known, &access, services, previous, &mut rejected);
    let public_hosts = public::compile(&known, &namespaces, previous, &mut rejected);
    let (callers, strangers) = callers::compile(&known, place, &membership, &namespaces);
    Snapshot {
        place: place.clone(),
        revision: world.revision,
        gateways: gateways::compile(&known, previous),
        foreign: access::foreign(&known, &namespaces, previous),
        namespaces,
        public_hosts,
        callers,
        strangers,
        rejected: rejected.sorted(),
    }
}

/// Collects what could not be served as it is written.
#[derive(Default)]
struct Rejected(Vec<Rejection>);

impl Rejected {
    fn add(&mut self, key: impl ToString, reason: impl Into<String>) {
        self.0.push(Rejection { key: key.to_string(), reason: reason.into() });
    }

    fn sorted(mut self) -> Vec<Rejection> {
        self.0.sort_by(|a, b| (&a.key, &a.reason).cmp(&(&b.key, &b.reason)));
        self.0
    }
}

/// The old value when the new one is equal to it, so that readers of both hold one.
fn shared<T: PartialEq>(new: T, old: Option<&Arc<T>>) -> Arc<T> {
    old.filter(|old| ***old == new).cloned().unwrap_or_else(|| Arc::new(new))
}
