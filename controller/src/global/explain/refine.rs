//! What the desired state knows of the steps: which resource is behind one, and what is said of that.

use std::collections::HashMap;

use config::compile::membership::Membership;
use config::conditions::Overview;
use config::explain::{Hop, Step, Verdict};
use config::resource::{ConditionStatus, Name, ResourceId};
use config::world::World;

use super::scope::Scope;
use crate::global::view::View;

/// What steps are refined by.
pub(super) struct Refinery<'w> {
    view: &'w View,
    scope: &'w Scope,
    membership: Membership<'w>,
    overview: Overview<'w>,
}

impl<'w> Refinery<'w> {
    pub(super) fn new(view: &'w View, world: &'w World, scope: &'w Scope) -> Self {
        Refinery { view, scope, membership: view.membership(), overview: Overview::of(world) }
    }

    /// Names the resources, adds what is said of them where something is wrong, and joins what several say alike.
    pub(super) fn refine(&self, steps: Vec<Step>) -> Vec<Step> {
        let mut refined: Vec<Step> = Vec::with_capacity(steps.len());
        let mut known: HashMap<String, usize> = HashMap::new();
        for mut step in steps.into_iter().map(|step| self.refined(step)) {
            let by = step.by.take();
            let at = *known.entry(format!("{step:?}")).or_insert(refined.len());
            match refined.get_mut(at) {
                Some(other) => join(&mut other.by, by),
                None => refined.push(Step { by, ..step }),
            }
        }
        refined
    }

    fn refined(&self, step: Step) -> Step {
        let resource = step.resource.as_deref().map(|resource| self.named(resource, step.by.as_deref()));
        let step = Step { resource, ..step };
        if matches!(step.verdict, Verdict::Ok | Verdict::Unknown) {
            return step;
        }
        let said = self.said(&step);
        match said.is_empty() {
            true => step,
            false => Step { what: format!("{}. {}", step.what, said.join(" ")), ..step },
        }
    }

    /// A service of a GNS is a resource in each cluster: the one is meant that is in the cluster of whoever says so, or else
    /// wherever there is one.
    fn named(&self, resource: &str, by: Option<&str>) -> String {
        let Some((gns, name)) = resource.strip_prefix("service ").and_then(|service| service.split_once('/')) else {
            return resource.to_owned();
        };
        let cluster = by.and_then(|by| by.split_once('/')).map(|(cluster, _)| cluster);
        let parts = self.view.observations().flat_map(|(_, seen)| seen.resources()).map(|resource| &resource.id);
        let mut parts: Vec<_> = parts.filter(|id| self.is_part(id, gns, name)).collect();
        parts.sort_by_key(|id| !matches!(id, ResourceId::Service { cluster: of, .. } if Some(of.as_str()) == cluster));
        parts.first().map_or_else(|| format!("GlobalNamespace/{gns}"), ToString::to_string)
    }

    fn is_part(&self, id: &ResourceId, gns: &str, service: &str) -> bool {
        let ResourceId::Service { cluster, namespace, name } = id else { return false };
        name.as_str() == service && self.membership.owner(cluster, namespace).is_some_and(|owner| owner.as_str() == gns)
    }

    /// What the conditions of the resource say, and which policies there are.
    fn said(&self, step: &Step) -> Vec<String> {
        let id: Option<ResourceId> = step.resource.as_deref().and_then(|resource| resource.parse().ok());
        let conditions = id.as_ref().map(|id| self.overview.conditions(id)).unwrap_or_default();
        let wrong = conditions.into_iter().filter(|condition| condition.status == ConditionStatus::False);
        let mut said: Vec<String> = wrong.map(|condition| condition.message).collect();
        if matches!(step.hop, Hop::Dns | Hop::Route) {
            said.extend(self.revoked());
        }
        if let (Hop::Access, Some(ResourceId::GlobalNamespace(gns))) = (step.hop, &id) {
            said.extend(self.policies(gns));
        }
        said
    }

    /// The parts of the service of which nobody is told, because their cluster is revoked.
    fn revoked(&self) -> Vec<String> {
        let Some((gns, service)) = &self.scope.service else { return Vec::new() };
        let revoked = |cluster: &&Name| self.view.made.revoked_clusters.contains(*cluster);
        let seen = self.view.observations().filter(|(cluster, _)| revoked(cluster));
        let parts = seen.flat_map(|(_, seen)| seen.resources()).map(|resource| &resource.id);
        let parts = parts.filter(|id| self.is_part(id, gns.as_str(), service));
        parts.map(|id| format!("{id} is in a cluster that is revoked: see `tombolo certs reinstate`.")).collect()
    }

    /// The policies of a GNS that let in somebody else, or nobody.
    fn policies(&self, gns: &Name) -> Vec<String> {
        let of_gns = |id: &&ResourceId| matches!(id, ResourceId::AccessPolicy { global_namespace, .. } if global_namespace == gns);
        let policies = self.view.desired.resources.keys().filter(of_gns).take(4);
        policies
            .map(|id| {
                let conditions = self.overview.conditions(id);
                let wrong = conditions.iter().find(|condition| condition.status == ConditionStatus::False);
                match wrong {
                    Some(wrong) => format!("{id} does not count: {}", wrong.message),
                    None => format!("{id} lets in others."),
                }
            })
            .collect()
    }
}

fn join(by: &mut Option<String>, more: Option<String>) {
    match (by.as_mut(), more) {
        (Some(by), Some(more)) if !by.split(", ").any(|known| known == more) => *by = format!("{by}, {more}"),
        (None, more) => *by = more,
        _ => {}
    }
}
