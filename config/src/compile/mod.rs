//! (World, Place) → Snapshot, purely: every process that compiles the same world for the same place gets the same
//! snapshot, so that the controller can tell people what gateways will do.
//!
//! No world makes this fail. What cannot be served as it is written is left out, named in [`Snapshot::rejected`], and
//! changes nothing for others.

mod access;
mod callers;
mod checks;
mod frame;
mod gateways;
mod known;
pub mod membership;
mod namespaces;
mod public;
mod rejected;
mod services;
mod steps;
mod touched;

use std::sync::Arc;

use crate::resource::Name;
use crate::snapshot::{Place, Snapshot};
use crate::world::World;

use checks::Checks;
use frame::Frame;
use public::Claims;
use rejected::Rejected;
pub use steps::Compiler;

/// A GNS, and a service or a public service of it.
type Of = (Name, Name);

/// Compiles the world for a place. Parts that are equal to those of `previous` are shared with it, which spares memory
/// and tells whoever follows what a change left alone; otherwise `previous` has no influence.
pub fn compile(world: &World, place: &Place, previous: Option<&Snapshot>) -> Snapshot {
    whole(world, place, previous).0
}

/// What a step needs to know of those before it, beside the world and the snapshot.
#[derive(Default)]
struct Kept {
    rejected: Rejected,
    checks: Checks,
    claims: Claims,
}

fn whole(world: &World, place: &Place, previous: Option<&Snapshot>) -> (Snapshot, Kept) {
    let mut rejected = Rejected::default();
    world.facts.iter().for_each(|(key, fact)| rejected.judge(key, Some(fact)));
    let frame = Frame::of(world.facts.iter(), place, &rejected);
    let checks = Checks::of_all(&frame.known);
    let services = services::compile(&frame, &checks, previous, &mut rejected);
    let namespaces = namespaces::compile(&frame, services, previous, &mut rejected);
    let (mut claims, reservations) = (Claims::default(), frame.reservations());
    frame.known.public_services.iter().for_each(|(of, public)| claims.add(&reservations, *of, public.spec));
    let hosts = public::compile(&frame, (&claims, &reservations), &namespaces, previous, &mut rejected);
    let (callers, strangers) = callers::compile(&frame, &namespaces);
    let snapshot = Snapshot {
        place: place.clone(),
        revision: world.revision,
        gateways: gateways::compile(&frame.known, previous),
        foreign: access::foreign(&frame.known, &namespaces, previous),
        namespaces,
        public_hosts: shared(hosts.into_iter().collect(), previous.map(|previous| &previous.public_hosts)),
        callers,
        strangers,
        rejected: rejected.sorted(),
    };
    (snapshot, Kept { rejected, checks, claims })
}

/// The old value when the new one is equal to it, so that readers of both hold one.
fn shared<T: PartialEq>(new: T, old: Option<&Arc<T>>) -> Arc<T> {
    old.filter(|old| ***old == new).cloned().unwrap_or_else(|| Arc::new(new))
}
