//! The health checks that public services bring for services that have none.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::keyed::beside;
use crate::resource::{HealthCheck, Name, Resource, Spec};

use super::Of;
use super::known::Known;

/// Service → the public service that brings its check: the first one, by identity.
#[derive(Default)]
pub(super) struct Checks(BTreeMap<Of, Arc<Resource>>);

impl Checks {
    /// Those of the public services that are known.
    pub(super) fn of_all(known: &Known<'_>) -> Self {
        let mut checks = BTreeMap::new();
        let checking = known.public_services.iter().filter(|(_, public)| public.spec.health_check.is_some());
        for ((gns, _), public) in checking {
            let spec = public.spec;
            for service in spec.routes.iter().map(|route| &route.service).chain([&spec.service]) {
                checks.entry(((*gns).clone(), service.clone())).or_insert_with(|| public.resource.clone());
            }
        }
        Checks(checks)
    }

    /// That of a service.
    pub(super) fn of(&self, (gns, name): (&Name, &Name)) -> Option<&HealthCheck> {
        if self.0.is_empty() {
            return None;
        }
        check(self.0.get(&(gns.clone(), name.clone()))?)
    }

    /// The services whose check is another one in these.
    pub(super) fn differing<'c>(&'c self, other: &'c Checks) -> impl Iterator<Item = (&'c Name, &'c Name)> {
        let both = beside(self.0.iter(), other.0.iter());
        let differing =
            both.filter(|(_, one, other)| one.and_then(|one| check(one)) != other.and_then(|one| check(one)));
        differing.map(|((gns, name), _, _)| (gns, name))
    }
}

/// The check that a public service brings, if it does.
pub(super) fn check(resource: &Resource) -> Option<&HealthCheck> {
    match &resource.spec {
        Spec::PublicService(spec) => spec.health_check.as_ref(),
        _ => None,
    }
}
