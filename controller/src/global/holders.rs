//! Who holds certificates or believes them, as far as agents have said: the agents themselves, their gateways, and their
//! workloads.

use config::compile::membership::Membership;
use config::resource::Name;
use config::wire::{MemberReport, MemberRole, TrustReport};

use super::access::Access;
use super::enrolment::Enrolments;
use super::link::{LinkReport, Reports};
use super::view::View;
use crate::ca::{Holder, Party};

/// All holders, as of one moment.
pub(crate) struct Holders<'a> {
    view: &'a View,
    reports: &'a Reports,
    enrolments: &'a Enrolments,
    membership: Membership<'a>,
}

impl<'a> Holders<'a> {
    pub(crate) fn new(view: &'a View, reports: &'a Reports, enrolments: &'a Enrolments) -> Self {
        Holders { view, reports, enrolments, membership: view.membership() }
    }

    /// Those in a GNS, or, without one, in the control plane: the agents.
    pub(crate) fn of(&self, gns: Option<&Name>) -> Vec<Holder> {
        let enrolled = self.view.clusters().filter(|cluster| self.enrolments.get(cluster).is_some());
        let clusters = enrolled.filter(|cluster| !self.view.made.revoked_clusters.contains(*cluster));
        let Some(gns) = gns else { return clusters.map(|cluster| self.agent(cluster, None, None)).collect() };
        let access = Access::of(&self.view.desired, &self.membership);
        clusters
            .filter(|cluster| access.believes(cluster, gns))
            .flat_map(|cluster| self.of_cluster(cluster, gns))
            .collect()
    }

    fn of_cluster(&self, cluster: &Name, gns: &Name) -> Vec<Holder> {
        let visits = (!self.membership.has_member(gns, cluster)).then(|| self.last_end(cluster));
        let agent = self.agent(cluster, Some(gns), visits);
        let workloads = Holder { party: Party::Workloads, ..agent.clone() };
        let has_workloads =
            workloads.trust.as_ref().is_some_and(|trust| !trust.workloads.is_empty() || !trust.visitors.is_empty());
        let report = self.reports.get(cluster);
        let gateways = report.into_iter().flat_map(|report| gateways(cluster, report, gns, visits));
        [agent].into_iter().chain(has_workloads.then_some(workloads)).chain(gateways).collect()
    }

    fn agent(&self, cluster: &Name, gns: Option<&Name>, visits: Option<i64>) -> Holder {
        let report = self.reports.get(cluster);
        let present = report.is_some_and(|report| report.connected);
        Holder {
            cluster: cluster.clone(),
            party: Party::Agent,
            present,
            agent_present: present,
            trust: report.and_then(|report| of(&report.ack.trust, gns)),
            visits,
        }
    }

    /// When the last certificate ends that a cluster got in any GNS, in seconds since 1970.
    fn last_end(&self, cluster: &Name) -> i64 {
        let ends = self.view.made.gns_roots.values().filter_map(|root| root.last_end(cluster));
        ends.max().unwrap_or_default()
    }
}

/// The gateways of a cluster that has `visits`: those that say that they believe the GNS; of a member all.
fn gateways<'r>(
    cluster: &'r Name,
    report: &'r LinkReport,
    gns: &'r Name,
    visits: Option<i64>,
) -> impl Iterator<Item = Holder> + 'r {
    let gateways = report.ack.members.iter().filter(|member| member.role == MemberRole::Gateway);
    let gateway = move |member: &MemberReport| Holder {
        cluster: cluster.clone(),
        party: Party::Gateway(member.name.clone()),
        present: report.connected && member.connected,
        agent_present: report.connected,
        trust: of(&member.trust, Some(gns)),
        // Its agent says what it holds; of one that is away only the end of all that it may hand out is known.
        visits: visits.map(|last| if report.connected { own_end(member) } else { last }),
    };
    gateways.map(gateway).filter(|gateway| gateway.visits.is_none() || gateway.trust.is_some())
}

/// When the last certificate ends that a gateway shows in any GNS.
fn own_end(gateway: &MemberReport) -> i64 {
    let of_namespaces = gateway.trust.iter().filter(|trust| trust.global_namespace.is_some());
    let ends = of_namespaces.filter_map(|trust| Some(trust.certificate.as_ref()?.not_after));
    ends.max().unwrap_or_default()
}

fn of(trust: &[TrustReport], gns: Option<&Name>) -> Option<TrustReport> {
    trust.iter().find(|trust| trust.global_namespace.as_ref() == gns).cloned()
}
