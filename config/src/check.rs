//! What a batch of changes may not do to the resources that exist: refused whatever gateways would make of it.
//!
//! What merely refers to something absent is no reason to refuse; that is in [`conditions`](crate::conditions).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::hosts::{Reservations, Reserved};
use crate::resource::{GlobalNamespaceSpec, Host, HostPattern, Name, PublicServiceSpec, Resource, ResourceId, Spec};
use crate::validate::Fault;

/// One reason why a batch is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckError {
    /// The resource of the batch that is at fault.
    pub id: ResourceId,
    /// Where in it, what, and what to do.
    pub fault: Fault,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.fault)
    }
}

impl std::error::Error for CheckError {}

/// Checks what would be after a batch: a host has one holder, patterns and domains are kept, domains do not overlap.
/// Only resources of the batch are blamed. Every reason is listed.
pub fn check(
    existing: &BTreeMap<ResourceId, Arc<Resource>>,
    upserts: &[Arc<Resource>],
    removals: &[ResourceId],
) -> Result<(), Vec<CheckError>> {
    let mut check = Check::of(existing, upserts, removals);
    check.domains();
    check.patterns();
    check.holders();
    check.reservations();
    check.hosts_in_domains();
    if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
}

struct Check<'w> {
    /// What is written in the batch; all else was there before.
    written: BTreeSet<&'w ResourceId>,
    global_namespaces: Vec<(&'w ResourceId, &'w Name, &'w GlobalNamespaceSpec)>,
    public_services: Vec<(&'w ResourceId, &'w Name, &'w PublicServiceSpec)>,
    errors: Vec<CheckError>,
}

/// A host entry: the public service, its GNS, the entry's position, and the host.
type Claim<'w> = (&'w ResourceId, &'w Name, usize, &'w Host);

impl<'w> Check<'w> {
    fn of(
        existing: &'w BTreeMap<ResourceId, Arc<Resource>>,
        upserts: &'w [Arc<Resource>],
        removals: &'w [ResourceId],
    ) -> Self {
        let mut after: BTreeMap<&ResourceId, &Resource> = existing.iter().map(|(id, r)| (id, &**r)).collect();
        let removed: BTreeSet<&ResourceId> = removals.iter().collect();
        after.retain(|id, _| !removed.contains(id));
        after.extend(upserts.iter().map(|resource| (&resource.id, &**resource)));
        let written = upserts.iter().map(|resource| &resource.id).collect();
        let (mut global_namespaces, mut public_services) = (Vec::new(), Vec::new());
        for (id, resource) in after {
            match (id, &resource.spec) {
                (ResourceId::GlobalNamespace(name), Spec::GlobalNamespace(spec)) => {
                    global_namespaces.push((id, name, spec));
                }
                (ResourceId::PublicService { global_namespace, .. }, Spec::PublicService(spec)) => {
                    public_services.push((id, global_namespace, spec));
                }
                _ => {}
            }
        }
        Check { written, global_namespaces, public_services, errors: Vec::new() }
    }

    fn blame(&mut self, id: &ResourceId, path: impl Into<String>, what: impl Into<String>, remedy: &str) {
        let fault = Fault { path: path.into(), what: what.into(), remedy: remedy.to_owned() };
        self.errors.push(CheckError { id: id.clone(), fault });
    }

    /// Whether `one` has to give way to `other`: what was there before stays, and within a batch the first by identity.
    fn yields(&self, one: &ResourceId, other: &ResourceId) -> bool {
        self.written.contains(one) && one != other && (!self.written.contains(other) || other < one)
    }

    fn claims(&self) -> impl Iterator<Item = Claim<'w>> + use<'w> {
        let public_services = self.public_services.clone().into_iter();
        public_services
            .flat_map(|(id, gns, spec)| spec.hosts.iter().enumerate().map(move |(i, entry)| (id, gns, i, &entry.name)))
    }

    fn domains(&mut self) {
        let all = self.global_namespaces.clone();
        for (id, _, spec) in &all {
            let overlaps = |other: &GlobalNamespaceSpec| spec.domain.overlaps(&other.domain);
            let other = all.iter().find(|(other, _, theirs)| self.yields(id, other) && overlaps(theirs));
            if let Some((other, _, theirs)) = other {
                let what = format!("{} overlaps {}, the domain of {other}", spec.domain, theirs.domain);
                self.blame(id, "spec.domain", what, "choose a domain that is not the same, above or below");
            }
        }
    }

    fn patterns(&mut self) {
        let mut holders: BTreeMap<&HostPattern, Vec<&ResourceId>> = BTreeMap::new();
        for (id, _, spec) in &self.global_namespaces {
            spec.public_hosts.iter().for_each(|pattern| holders.entry(pattern).or_default().push(id));
        }
        for (id, _, spec) in self.global_namespaces.clone() {
            for (i, pattern) in spec.public_hosts.iter().enumerate() {
                let other = holders.get(pattern).into_iter().flatten().find(|other| self.yields(id, other));
                if let Some(other) = other {
                    let what = format!("{pattern} is kept for {other}");
                    self.blame(id, format!("spec.publicHosts[{i}]"), what, "remove it from one of the two");
                }
            }
        }
    }

    fn holders(&mut self) {
        let mut holders: BTreeMap<&Host, Vec<&ResourceId>> = BTreeMap::new();
        for (id, _, _, host) in self.claims() {
            holders.entry(host).or_default().push(id);
        }
        for (id, _, i, host) in self.claims() {
            let other = holders.get(host).into_iter().flatten().find(|other| self.yields(id, other));
            if let Some(other) = other {
                let what = format!("{host} is held by {other}");
                self.blame(id, format!("spec.hosts[{i}].name"), what, "remove it from one of the two");
            }
        }
    }

    fn reservations(&mut self) {
        let reservations = Reservations::of(self.global_namespaces.iter().map(|(_, name, spec)| (*name, *spec)));
        for (id, gns, i, host) in self.claims() {
            let Err(reserved) = reservations.allow(gns, host) else { continue };
            let keeper = match &reserved {
                Reserved::Elsewhere { holder, .. } => ResourceId::GlobalNamespace(holder.clone()),
                Reserved::NotOwn { global_namespace, .. } => ResourceId::GlobalNamespace(global_namespace.clone()),
            };
            if self.written.contains(id) {
                let remedy = "choose another host, or change the publicHosts";
                self.blame(id, format!("spec.hosts[{i}].name"), reserved.to_string(), remedy);
            } else if self.written.contains(&keeper) {
                let what = format!("{reserved}, but {id} publishes it");
                self.blame(&keeper, "spec.publicHosts", what, "change these patterns, or remove the host there first");
            }
        }
    }

    /// A host in the domain of a GNS would mean two things.
    fn hosts_in_domains(&mut self) {
        for (id, _, i, host) in self.claims() {
            let Some((gns, _, spec)) = self.global_namespaces.iter().find(|(_, _, spec)| host.within(&spec.domain))
            else {
                continue;
            };
            let (gns, domain) = (*gns, &spec.domain);
            if self.written.contains(id) {
                let what = format!("{host} stands in {domain}, the domain of {gns}, where names mean services");
                self.blame(id, format!("spec.hosts[{i}].name"), what, "choose a host outside that domain");
            } else if self.written.contains(gns) {
                let what = format!("{host}, which {id} publishes, stands in {domain}");
                self.blame(gns, "spec.domain", what, "choose another domain, or remove the host there first");
            }
        }
    }
}
