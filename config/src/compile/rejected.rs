//! What could not be served as it is written, by what it is about.

use std::collections::BTreeMap;

use crate::resource::{Name, Resource, ResourceId, Spec};
use crate::validate;
use crate::wire::Rejection;
use crate::world::Fact;

use super::Of;

/// Each kind by itself, so that a step takes back what it looks at anew, and leaves the rest.
#[derive(Default)]
pub(super) struct Rejected {
    /// What is wrong with a fact by itself, by its key.
    facts: BTreeMap<String, String>,
    services: BTreeMap<Of, Vec<Rejection>>,
    public_services: BTreeMap<Of, Vec<Rejection>>,
    /// Of GNSs, whose domains are those of others.
    domains: Vec<Rejection>,
}

impl Rejected {
    /// Looks at a fact by itself; nothing where there is none any more.
    pub(super) fn judge(&mut self, key: &str, fact: Option<&Fact>) {
        let fault = match fact {
            Some(Fact::Resource(resource)) => fault(resource),
            _ => None,
        };
        match fault {
            Some(fault) => drop(self.facts.insert(key.to_owned(), fault)),
            None => drop(self.facts.remove(key)),
        }
    }

    /// Whether the fact of that key is well by itself.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        !self.facts.contains_key(key)
    }

    /// Says all that there is to say of a service.
    pub(super) fn of_service(&mut self, service: (&Name, &Name), reasons: Vec<Rejection>) {
        put(&mut self.services, service, reasons);
    }

    /// Says all that there is to say of a public service.
    pub(super) fn of_public_service(&mut self, public: (&Name, &Name), reasons: Vec<Rejection>) {
        put(&mut self.public_services, public, reasons);
    }

    /// Says that a GNS has no domain.
    pub(super) fn of_domain(&mut self, gns: &Name, reason: String) {
        self.domains.push(rejection(ResourceId::GlobalNamespace(gns.clone()), reason));
    }

    /// All of it, by key.
    pub(super) fn sorted(&self) -> Vec<Rejection> {
        let facts = self.facts.iter().map(|(key, reason)| rejection(key, reason));
        let scoped = self.services.values().chain(self.public_services.values()).flatten();
        let mut all: Vec<_> = facts.chain(scoped.chain(&self.domains).cloned()).collect();
        all.sort_by(|a, b| (&a.key, &a.reason).cmp(&(&b.key, &b.reason)));
        all
    }
}

fn put(all: &mut BTreeMap<Of, Vec<Rejection>>, (gns, name): (&Name, &Name), reasons: Vec<Rejection>) {
    let of = (gns.clone(), name.clone());
    match reasons.is_empty() {
        true => drop(all.remove(&of)),
        false => drop(all.insert(of, reasons)),
    }
}

pub(super) fn rejection(key: impl ToString, reason: impl Into<String>) -> Rejection {
    Rejection { key: key.to_string(), reason: reason.into() }
}

/// What is wrong with a resource by itself.
fn fault(resource: &Resource) -> Option<String> {
    if let Some(fault) = validate::faults(resource).first() {
        return Some(fault.to_string());
    }
    let agrees = matches!(
        (&resource.id, &resource.spec),
        (ResourceId::Cluster(_), Spec::Cluster(_))
            | (ResourceId::Node { .. }, Spec::Node(_))
            | (ResourceId::Service { .. }, Spec::Service(_))
            | (ResourceId::GlobalNamespace(_), Spec::GlobalNamespace(_))
            | (ResourceId::PublicService { .. }, Spec::PublicService(_))
            | (ResourceId::Certificate { .. }, Spec::Certificate(_))
            | (ResourceId::AccessPolicy { .. }, Spec::AccessPolicy(_))
    );
    (!agrees).then(|| "its spec is of another kind than its identity".to_owned())
}
