//! How the mesh is doing, for people and their tools.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use config::conditions::Overview;
use config::manifest::to_manifest;
use config::resource::{Condition, Kind, Name, Resource, ResourceId, Spec, Status};
use config::wire::{AgentSequence, MemberReport, MemberRole, PeerReport, Rejection, RevisionPair};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::core::Core;
use super::freshness;
use super::link::{LinkReport, Reports};
use super::phases::Rotation;
use super::projection::global_namespace;
use super::readiness;
use super::view::View;
use crate::access::{Inspect, Oversee, Permit};
use crate::ca::RootStatus;

/// The state of a mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshStatus {
    /// The mesh's name.
    pub mesh: String,
    /// The revision of the desired state.
    pub revision: u64,
    /// Its clusters.
    pub clusters: Vec<ClusterStatus>,
    /// How many resources of each kind there are.
    pub counts: BTreeMap<Kind, usize>,
    /// The CAs of the global namespaces.
    pub authorities: Vec<AuthorityStatus>,
    /// What is being replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<Rotation>,
    /// What the controller could not make, as the last attempt had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A cluster, its agent and its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The cluster.
    pub name: Name,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has joined, rather than only being declared.
    pub enrolled: bool,
    /// Whether its agent's stream is up.
    pub connected: bool,
    /// How long ago its agent was last heard, in milliseconds; nothing when not since the controller started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_for_ms: Option<u64>,
    /// The agent's release.
    pub version: String,
    /// What the agent acts on.
    pub at: RevisionPair,
    /// How many revisions the agent is behind.
    pub lag: u64,
    /// For how long it has been so, at least, in milliseconds; nothing when it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Its gateways and DNS servers.
    pub members: Vec<MemberStatus>,
    /// What its agent reports and the controller cannot act on, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Rejection>,
    /// Why the agent cannot go on with the replacement of the cluster's control CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_fault: Option<String>,
    /// How many services its agent sees.
    pub services: usize,
    /// How many instances they have.
    pub instances: usize,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// As its agent knows it.
    #[serde(flatten)]
    pub report: MemberReport,
    /// How many revisions it is behind.
    pub lag: u64,
    /// For how long it has been so, at least, in milliseconds; nothing when it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// How many changes of its own cluster it is behind its agent.
    #[serde(default)]
    pub local_lag: u64,
}

/// The CA of a GNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    /// The GNS.
    pub global_namespace: Name,
    /// When its certificate expires, in seconds since 1970.
    pub expires: i64,
    /// How many roots members trust now: two while one takes the other's place.
    pub roots: usize,
}

/// How one gateway sees another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRow {
    /// The cluster of who sees.
    pub from_cluster: Name,
    /// Who sees.
    pub from_gateway: Name,
    /// What it sees.
    #[serde(flatten)]
    pub report: PeerReport,
}

impl Core {
    /// How the mesh is doing.
    pub(crate) fn status(&self, _: &Permit<Oversee>) -> MeshStatus {
        let (view, reports) = (self.view(), self.reports());
        let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
        resources(&view).for_each(|resource| *counts.entry(resource.id.kind()).or_default() += 1);
        let authority = |(gns, root): (&Name, &RootStatus)| {
            let signing = root.roots.iter().find(|facts| facts.fingerprint == root.signing());
            let expires = signing.map(|facts| facts.not_after.unix_timestamp()).unwrap_or_default();
            AuthorityStatus { global_namespace: gns.clone(), expires, roots: root.roots.len() }
        };
        MeshStatus {
            mesh: self.mesh.clone(),
            revision: view.desired.head,
            clusters: view.clusters().map(|cluster| self.cluster_status(&view, &reports, cluster)).collect(),
            counts,
            authorities: view.made.gns_roots.iter().map(authority).collect(),
            fault: view.made.fault.clone(),
            rotations: self.rotations(),
        }
    }

    fn cluster_status(&self, view: &View, reports: &Reports, name: &Name) -> ClusterStatus {
        let desired = view.desired.resources.get(&ResourceId::Cluster(name.clone()));
        let known = reports.get(name);
        let LinkReport { connected, version, ack, .. } = known.cloned().unwrap_or_default();
        let lag = |at: RevisionPair| view.desired.head.saturating_sub(at.global);
        let lag_ms = |at: RevisionPair| self.behind_for(at.global).map(millis);
        let seen = view.observed.get(name);
        let (services, instances) = seen.map_or((0, 0), |seen| count(seen.resources()));
        let members = ack.members.iter().filter(|member| member.role != MemberRole::Agent).cloned();
        ClusterStatus {
            name: name.clone(),
            labels: desired.map(|stored| stored.resource.labels.clone()).unwrap_or_default(),
            enrolled: self.enrolments.get(name).is_some(),
            connected,
            silent_for_ms: known.filter(|report| report.heard).map(|report| millis(report.silent_for)),
            version,
            at: ack.at,
            lag: lag(ack.at),
            lag_ms: lag_ms(ack.at),
            members: members
                .map(|report| MemberStatus {
                    lag: lag(report.at),
                    lag_ms: lag_ms(report.at),
                    local_lag: local_lag(ack.at.agent, report.at.agent),
                    report,
                })
                .collect(),
            refused: seen.into_iter().flat_map(|seen| seen.rejected()).collect(),
            control_fault: ack.control.as_ref().and_then(|control| control.fault.clone()),
            services,
            instances,
        }
    }

    /// For how long, at least, who acts on this revision has been behind.
    fn behind_for(&self, revision: u64) -> Option<Duration> {
        self.state().commits.behind_for(revision, Instant::now())
    }

    /// How the gateways see one another.
    pub(crate) fn peers(&self, _: &Permit<Oversee>) -> Vec<PeerRow> {
        let mut rows = Vec::new();
        for (cluster, report) in self.reports() {
            for member in &report.ack.members {
                rows.extend(member.peers.iter().cloned().map(|report| PeerRow {
                    from_cluster: cluster.clone(),
                    from_gateway: member.name.clone(),
                    report,
                }));
            }
        }
        rows
    }

    /// The resources that `wanted` picks among those that the caller may see, as manifests with their status.
    pub(crate) fn manifests(&self, permit: &Permit<Inspect>, wanted: impl Fn(&Resource) -> bool) -> Vec<Value> {
        let (view, reports) = (self.view(), self.reports());
        let world = view.world();
        let (overview, membership) = (Overview::of(&world), view.membership());
        let certificates = self.certificates().certificates;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let picked = resources(&view).filter(|resource| permit.sees(resource, &membership) && wanted(resource));
        picked
            .map(|resource| {
                let fresh = freshness::condition(&resource.id, &certificates, now);
                manifest(&view, &reports, resource, overview.conditions(&resource.id), fresh)
            })
            .collect()
    }
}

fn manifest(
    view: &View,
    reports: &Reports,
    resource: &Resource,
    checks: Vec<Condition>,
    fresh: Option<Condition>,
) -> Value {
    let Some(stored) = view.desired.resources.get(&resource.id) else {
        // Observed: what an agent sees is so, and waits for nobody.
        let conditions = readiness::observed(reports, &resource.id).into_iter().chain(checks).collect();
        return to_manifest(resource, Some(&Status { conditions, ..Status::default() }));
    };
    let mut status = readiness::status(view, reports, resource, checks);
    status.conditions.extend(fresh);
    let mut manifest = to_manifest(resource, Some(&status));
    if let Some(status) = manifest.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("managedBy".to_owned(), stored.managed_by.to_string().into());
    }
    manifest
}

/// Every resource, desired ones first.
fn resources(view: &View) -> impl Iterator<Item = &Resource> {
    let desired = view.desired.resources.values().map(|stored| &*stored.resource);
    desired.chain(view.observations().flat_map(|(_, seen)| seen.resources()).map(|resource| &**resource))
}

/// Whether a resource belongs to a GNS, or is it.
pub(crate) fn is_in(resource: &Resource, gns: &Name) -> bool {
    global_namespace(resource) == Some(gns)
}

fn count<'r>(resources: impl Iterator<Item = &'r std::sync::Arc<Resource>>) -> (usize, usize) {
    resources.fold((0, 0), |(services, instances), resource| match &resource.spec {
        Spec::Service(spec) => {
            (services + 1, instances + spec.versions.iter().map(|version| version.instances.len()).sum::<usize>())
        }
        _ => (services, instances),
    })
}

/// How many changes of its cluster a member is behind its agent; of another life of that one nothing is known.
fn local_lag(agent: AgentSequence, member: AgentSequence) -> u64 {
    match agent.incarnation == member.incarnation {
        true => agent.sequence.saturating_sub(member.sequence),
        false => agent.sequence,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
