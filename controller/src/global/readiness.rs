//! Whether a resource is `Ready`: whether every member that must serve it said that it does.

use std::collections::BTreeSet;
use std::time::Duration;

use config::resource::{Condition, ConditionStatus, Name, Resource, ResourceId, Status};
use config::wire::{MemberReport, MemberRole};

use super::link::{LinkReport, Reports};
use super::projection::global_namespace;
use super::view::{View, is_self_signed};

/// An agent that was not heard for so long has left, with its members: as agents have it with these.
const ABSENCE: Duration = Duration::from_secs(600);
/// So many of the same kind are told of.
const MOST_TOLD: usize = 8;

/// What became of a desired resource, `Ready` first. `checks` is what the look across resources found.
pub(crate) fn status(view: &View, reports: &Reports, resource: &Resource, checks: Vec<Condition>) -> Status {
    let revision = view.desired.resources.get(&resource.id).map_or(0, |stored| stored.revision);
    let checks: Vec<_> = checks.into_iter().chain(connected(view, reports, resource)).collect();
    let misplaced = misplaced(reports, resource);
    let serving = Serving::of(view, reports, resource, revision);
    let (observed_generation, stale) = (serving.observed, serving.stale.clone());
    let ready = unmet(&checks).or_else(|| unmade(view, resource)).unwrap_or_else(|| serving.condition());
    let conditions = [ready].into_iter().chain(checks).chain(misplaced).collect();
    Status { revision, observed_generation, stale, conditions }
}

fn ready(status: ConditionStatus, reason: &str, message: String) -> Condition {
    condition("Ready", status, reason, message)
}

fn condition(kind: &str, status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { kind: kind.to_owned(), status, reason: reason.to_owned(), message }
}

/// What refers to something absent isn't ready, for the reason that the check gave.
fn unmet(checks: &[Condition]) -> Option<Condition> {
    let unmet = checks.iter().find(|condition| condition.status == ConditionStatus::False)?;
    Some(ready(ConditionStatus::False, &unmet.reason, unmet.message.clone()))
}

/// Whether a cluster's agent is there.
fn connected(view: &View, reports: &Reports, resource: &Resource) -> Option<Condition> {
    use ConditionStatus::{False, True, Unknown};
    let ResourceId::Cluster(name) = &resource.id else { return None };
    let told = |status, reason, message| Some(condition("Connected", status, reason, message));
    match reports.get(name) {
        _ if view.made.revoked_clusters.contains(name) => told(
            False,
            "Revoked",
            format!("nobody believes it: `tombolo certs reinstate --cluster {name}`, or delete it"),
        ),
        None => told(
            False,
            "NotJoined",
            format!("it has not joined: `tombolo token create --cluster {name}` lets it, or delete it"),
        ),
        Some(report) if report.connected => told(True, "AgentConnected", "its agent follows".to_owned()),
        Some(report) => told(Unknown, "AgentSilent", unheard(name, report)),
    }
}

/// Whether others find another gateway of the cluster where one of its gateways is said to be. Nothing that is to be served
/// waits for that: requests get through.
fn misplaced(reports: &Reports, resource: &Resource) -> Option<Condition> {
    let ResourceId::Cluster(name) = &resource.id else { return None };
    let seen = reports.iter().flat_map(|(from, report)| report.misplaced.iter().map(move |peer| (from, peer)));
    let found = seen.filter(|(_, peer)| peer.cluster == *name).filter_map(|(from, peer)| {
        let other = peer.answered_by.as_ref()?;
        Some(format!("{other} answers at {}, where {} should be, as {from} sees it", peer.address, peer.gateway))
    });
    let found: BTreeSet<String> = found.collect();
    let told: Vec<_> = found.iter().take(MOST_TOLD).map(String::as_str).collect();
    let message = format!("{}: correct spec.gateways", told.join("; "));
    (!found.is_empty()).then(|| condition("GatewaysFound", ConditionStatus::False, "OtherGateway", message))
}

/// What is to be said of a service or node that an agent saw; nothing of other resources.
pub(crate) fn observed(reports: &Reports, id: &ResourceId) -> Option<Condition> {
    use ConditionStatus::{True, Unknown};
    let (ResourceId::Service { cluster, .. } | ResourceId::Node { cluster, .. }) = id else { return None };
    let seen = |status, reason, message| Some(condition("Observed", status, reason, message));
    match reports.get(cluster) {
        Some(report) if report.connected => seen(True, "AgentSees", format!("the agent of {cluster} sees it")),
        Some(report) => {
            seen(Unknown, "AgentSilent", format!("as it was seen last; not heard: {}", unheard(cluster, report)))
        }
        None => seen(Unknown, "AgentSilent", format!("as it was seen last; {cluster} has left the mesh")),
    }
}

fn unheard(cluster: &Name, report: &LinkReport) -> String {
    match report.heard {
        true => format!("the agent of {cluster}, for {}", age(report.silent_for)),
        false => format!("the agent of {cluster}, since this controller started"),
    }
}

/// A service whose certificate the controller should have made and hasn't isn't ready.
fn unmade(view: &View, resource: &Resource) -> Option<Condition> {
    let config::resource::Spec::PublicService(spec) = &resource.spec else { return None };
    let of = (spec.global_namespace.clone(), resource.id.name().clone());
    let gns = ResourceId::GlobalNamespace(spec.global_namespace.clone());
    let missing = is_self_signed(spec)
        && view.desired.resources.contains_key(&gns)
        && !view.made.host_certificates.contains_key(&of);
    let fault = view.made.fault.as_deref().unwrap_or("the controller tries again within a minute");
    let message = format!("the certificate of its hosts is not made: {fault}");
    missing.then(|| ready(ConditionStatus::False, "CertificateMissing", message))
}

/// The clusters whose workloads an access policy lets call something.
fn callers<'v>(view: &'v View, resource: &'v Resource) -> impl Iterator<Item = &'v Name> {
    let from = match &resource.spec {
        config::resource::Spec::AccessPolicy(spec) => spec.from.as_slice(),
        _ => &[],
    };
    from.iter().flat_map(|source| view.members(&source.global_namespace))
}

/// How far the members are that must serve a resource.
#[derive(Default)]
struct Serving {
    clusters: usize,
    acting: usize,
    rejections: Vec<String>,
    silent: Vec<String>,
    behind: Vec<String>,
    /// Who left without a word and may serve something older for ever.
    stale: Vec<String>,
    /// What all of them act on, as far as it is known, but no more than the resource's own revision.
    observed: Option<u64>,
}

impl Serving {
    fn of(view: &View, reports: &Reports, resource: &Resource, revision: u64) -> Self {
        let clusters = match (&resource.id, global_namespace(resource)) {
            (ResourceId::Cluster(name), _) => [name].into(),
            (_, Some(gns)) => view.members(gns),
            _ => [].into(),
        };
        let clusters: BTreeSet<&Name> = clusters.into_iter().chain(callers(view, resource)).collect();
        let mut serving = Serving { clusters: clusters.len(), ..Serving::default() };
        let believed = clusters.into_iter().filter(|cluster| !view.made.revoked_clusters.contains(*cluster));
        // Who has not joined has no members.
        for (cluster, report) in believed.filter_map(|cluster| Some((cluster, reports.get(cluster)?))) {
            serving.add(cluster, report, resource, revision);
        }
        serving
    }

    fn add(&mut self, cluster: &Name, report: &LinkReport, resource: &Resource, revision: u64) {
        let has_left = !report.connected && report.silent_for >= ABSENCE;
        match report.connected {
            true if report.told => {}
            true => self.silent.push(format!("the members of {cluster}, whose agent has just come")),
            false if has_left => self.stale.push(cluster.to_string()),
            false => self.silent.push(unheard(cluster, report)),
        }
        for member in report.ack.members.iter().filter(|member| member.role != MemberRole::Agent) {
            match has_left || member.absent {
                true => self.stale.push(format!("{cluster}/{}", member.name)),
                false => self.add_member(cluster, member, resource, revision),
            }
        }
    }

    fn add_member(&mut self, cluster: &Name, member: &MemberReport, resource: &Resource, revision: u64) {
        let name = format!("{cluster}/{}", member.name);
        let acts_on = member.at.global.min(revision);
        self.observed = Some(self.observed.map_or(acts_on, |others| others.min(acts_on)));
        let rejection = member.rejected.iter().find(|rejection| is_about(&rejection.key, resource));
        match rejection {
            _ if !member.connected => {
                self.silent.push(format!("{name}, for {}", age(Duration::from_millis(member.silent_for_ms))));
            }
            _ if member.at.global < revision => self.behind.push(format!("{name} at revision {}", member.at.global)),
            Some(rejection) => self.rejections.push(format!("{name}: {}", rejection.reason)),
            None => self.acting += 1,
        }
    }

    fn condition(self) -> Condition {
        use ConditionStatus::{False, True, Unknown};
        let Serving { clusters, acting, rejections, silent, behind, .. } = self;
        match () {
            () if !rejections.is_empty() => ready(False, "Rejected", rejections.join("; ")),
            () if !silent.is_empty() => {
                ready(Unknown, "MembersUnreachable", format!("not heard: {}", silent.join(", ")))
            }
            () if !behind.is_empty() => ready(Unknown, "Progressing", format!("not there yet: {}", behind.join(", "))),
            () if clusters == 0 => {
                ready(False, "NoClusters", "no cluster of the mesh is a member, so nobody serves it".to_owned())
            }
            () if acting == 0 => {
                ready(False, "NoMembers", "no gateway or DNS server is enrolled in its clusters".to_owned())
            }
            () => ready(True, "Serving", format!("{acting} gateways and DNS servers act on it")),
        }
    }
}

/// Whether a rejected entry is the resource, or was made for it.
fn is_about(key: &str, resource: &Resource) -> bool {
    let made_for = match &resource.id {
        ResourceId::GlobalNamespace(name) => format!("trust/{name}"),
        ResourceId::PublicService { global_namespace, name } => format!("hostCertificate/{global_namespace}/{name}"),
        _ => String::new(),
    };
    key == resource.id.to_string() || key == made_for
}

fn age(silence: Duration) -> String {
    match silence.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::sync::Arc;

    use config::wire::{Ack, Rejection, RevisionPair};
    use serde_json::json;

    use super::*;
    use crate::store::{Desired, Owner, Revision};

    fn resource(id: &str, spec: serde_json::Value) -> Arc<Resource> {
        let kind = id.split('/').next().unwrap();
        Arc::new(serde_json::from_value(json!({"id": id, "spec": {kind: spec}})).unwrap())
    }

    fn view() -> View {
        let rows = json!([{"cluster": {"prefix": ""}, "namespace": {"exact": "shop"}}]);
        let upserts = vec![
            resource("Cluster/north", json!({})),
            resource("Cluster/south", json!({})),
            resource("GlobalNamespace/shop", json!({"domain": "shop.internal", "members": rows})),
            resource("GlobalNamespace/none", json!({"domain": "none.internal"})),
        ];
        let mut desired = Desired::default();
        desired.apply(&Revision { upserts, ..Revision::new(0, Owner::Api, "ada", "apply") });
        View { desired: Arc::new(desired), ..View::default() }
    }

    fn report(connected: bool, members: &[(&str, bool, u64, Option<&str>)]) -> LinkReport {
        let member = |(name, connected, global, rejected): &(&str, bool, u64, Option<&str>)| MemberReport {
            name: name.parse().unwrap(),
            role: MemberRole::Gateway,
            connected: *connected,
            silent_for_ms: 5_000,
            at: RevisionPair { global: *global, ..RevisionPair::default() },
            rejected: rejected.iter().map(|key| Rejection { key: (*key).into(), reason: "no".into() }).collect(),
            peers: Arc::default(),
            trust: vec![],
            absent: false,
            draining: false,
        };
        let ack = Ack { members: members.iter().map(member).collect(), ..Ack::default() };
        let silent_for = Duration::from_secs(7);
        LinkReport { connected, heard: true, told: true, silent_for, ack: Arc::new(ack), ..LinkReport::default() }
    }

    fn status_of(id: &str, reports: [(&str, LinkReport); 2], checks: Vec<Condition>) -> Status {
        let view = view();
        let reports = reports.into_iter().map(|(name, report)| (name.parse().unwrap(), report)).collect();
        let resource = view.desired.resources[&id.parse().unwrap()].resource.clone();
        status(&view, &reports, &resource, checks)
    }

    fn ready_of(
        id: &str,
        reports: [(&str, LinkReport); 2],
        checks: Vec<Condition>,
    ) -> (ConditionStatus, String, String) {
        let ready = status_of(id, reports, checks).conditions.remove(0);
        (ready.status, ready.reason, ready.message)
    }

    #[test]
    fn every_member_must_have_said_so() {
        use ConditionStatus::{False, True, Unknown};
        let of = |north, south| ready_of("GlobalNamespace/shop", [("north", north), ("south", south)], vec![]);
        let well = || report(true, &[("g1", true, 1, None)]);
        assert_eq!(of(well(), well()).0, True);
        let (status, reason, message) = of(well(), report(true, &[("g2", true, 0, None)]));
        assert_eq!((status, reason.as_str()), (Unknown, "Progressing"));
        assert!(message.contains("south/g2"), "{message}");
        let (status, reason, message) = of(well(), report(true, &[("g2", false, 1, None)]));
        assert_eq!((status, reason.as_str()), (Unknown, "MembersUnreachable"));
        assert!(message.contains("south/g2, for 5 s"), "{message}");
        let (status, reason, message) = of(well(), report(false, &[]));
        assert_eq!((status, reason.as_str()), (Unknown, "MembersUnreachable"));
        assert!(message.contains("the agent of south, for 7 s"), "{message}");
        let rejecting = report(true, &[("g2", true, 1, Some("trust/shop"))]);
        assert_eq!(of(well(), rejecting), (False, "Rejected".into(), "south/g2: no".into()));
        assert_eq!(of(report(true, &[]), report(true, &[])).1, "NoMembers");
    }

    #[test]
    fn an_agent_that_has_just_come_says_nothing_of_its_members_yet() {
        let come = LinkReport { told: false, ..report(true, &[]) };
        let well = report(true, &[("g1", true, 1, None)]);
        let (status, reason, message) = ready_of("GlobalNamespace/shop", [("north", well), ("south", come)], vec![]);
        assert_eq!((status, reason.as_str()), (ConditionStatus::Unknown, "MembersUnreachable"));
        assert!(message.contains("south"), "{message}");
    }

    #[test]
    fn who_left_holds_nothing_up_and_is_named() {
        let well = || report(true, &[("g1", true, 1, None)]);
        let mut absent = report(true, &[("g2", false, 0, None), ("g3", true, 1, None)]);
        Arc::make_mut(&mut absent.ack).members[0].absent = true;
        let gone = LinkReport { silent_for: ABSENCE, ..report(false, &[("g2", false, 0, None)]) };
        for (south, stale) in [(absent, vec!["south/g2"]), (gone, vec!["south", "south/g2"])] {
            let status = status_of("GlobalNamespace/shop", [("north", well()), ("south", south)], vec![]);
            assert_eq!(
                (status.conditions[0].status, status.stale),
                (ConditionStatus::True, stale.into_iter().map(str::to_owned).collect())
            );
        }
    }

    #[test]
    fn what_all_act_on_is_observed() {
        let observed = |south: u64| {
            let reports = [
                ("north", report(true, &[("g1", true, 9, None)])),
                ("south", report(true, &[("g2", true, south, None)])),
            ];
            status_of("GlobalNamespace/shop", reports, vec![]).observed_generation
        };
        assert_eq!([observed(9), observed(0)], [Some(1), Some(0)]);
        let nobody = [("north", report(true, &[])), ("south", report(true, &[]))];
        assert_eq!(status_of("GlobalNamespace/shop", nobody, vec![]).observed_generation, None);
    }

    #[test]
    fn a_cluster_that_has_not_joined_says_so_and_holds_nothing_up() {
        let well = || report(true, &[("g1", true, 1, None)]);
        let (status, reason, _) = ready_of("Cluster/south", [("north", well()), ("west", well())], vec![]);
        assert_eq!((status, reason.as_str()), (ConditionStatus::False, "NotJoined"));
        assert_eq!(
            ready_of("GlobalNamespace/shop", [("north", well()), ("west", well())], vec![]).0,
            ConditionStatus::True
        );
    }

    #[test]
    fn a_gateway_in_the_place_of_another_is_named_and_holds_nothing_up() {
        let seen = |answered_by: Option<&str>| {
            let peer = json!({"globalNamespace": "shop", "cluster": "south", "gateway": "g2", "tunnels": 2,
                "address": "192.0.2.3:7445", "answeredBy": answered_by});
            let mut north = report(true, &[("g1", true, 1, None)]);
            north.misplaced = answered_by.map(|_| serde_json::from_value(peer).unwrap()).into_iter().collect();
            let south = report(true, &[("g2", true, 1, None), ("g3", true, 1, None)]);
            status_of("Cluster/south", [("north", north), ("south", south)], vec![]).conditions
        };
        let found = |conditions: &[Condition]| conditions.iter().find(|known| known.kind == "GatewaysFound").cloned();
        assert_eq!(found(&seen(None)), None);
        let conditions = seen(Some("g3"));
        let told = found(&conditions).unwrap();
        assert_eq!((told.status, conditions[0].status), (ConditionStatus::False, ConditionStatus::True));
        assert_eq!(
            told.message,
            "g3 answers at 192.0.2.3:7445, where g2 should be, as north sees it: correct spec.gateways"
        );
    }

    #[test]
    fn nobody_is_not_everybody() {
        let reports = || [("north", report(true, &[])), ("south", report(true, &[]))];
        assert_eq!(ready_of("GlobalNamespace/none", reports(), vec![]).1, "NoClusters");
    }

    #[test]
    fn what_refers_to_nothing_is_not_ready_and_says_why() {
        let check = Condition {
            kind: "ResolvedRefs".into(),
            status: ConditionStatus::False,
            reason: "UnknownGlobalNamespace".into(),
            message: "there is no such GNS".into(),
        };
        let reports = [("north", report(true, &[])), ("south", report(true, &[]))];
        let (status, reason, _) = ready_of("GlobalNamespace/shop", reports, vec![check]);
        assert_eq!((status, reason.as_str()), (ConditionStatus::False, "UnknownGlobalNamespace"));
    }
}
