//! Who holds certificates, as far as agents have said: the agents themselves, and their gateways.

use config::compile::membership::Membership;
use config::resource::Name;
use config::wire::{MemberReport, MemberRole, TrustReport};

use super::enrolment::Enrolments;
use super::link::LinkReport;
use super::readiness::Reports;
use super::view::View;
use crate::ca::Holder;

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
        let is_member = |cluster: &&Name| gns.is_none_or(|gns| self.membership.has_member(gns, cluster));
        let clusters = self.view.clusters().filter(is_member);
        let enrolled = clusters.filter(|cluster| self.enrolments.get(cluster).is_some());
        enrolled.flat_map(|cluster| of_cluster(cluster, self.reports.get(cluster), gns)).collect()
    }
}

fn of_cluster(cluster: &Name, report: Option<&LinkReport>, gns: Option<&Name>) -> Vec<Holder> {
    let agent_present = report.is_some_and(|report| report.connected);
    let agent = Holder {
        cluster: cluster.clone(),
        gateway: None,
        present: agent_present,
        agent_present,
        trust: report.and_then(|report| of(&report.ack.trust, gns)),
    };
    let gateways = report.into_iter().flat_map(|report| &report.ack.members);
    let gateways = gateways.filter(|member| member.role == MemberRole::Gateway && gns.is_some());
    let gateway = |member: &MemberReport| Holder {
        cluster: cluster.clone(),
        gateway: Some(member.name.clone()),
        present: agent_present && member.connected,
        agent_present,
        trust: of(&member.trust, gns),
    };
    [agent].into_iter().chain(gateways.map(gateway)).collect()
}

fn of(trust: &[TrustReport], gns: Option<&Name>) -> Option<TrustReport> {
    trust.iter().find(|trust| trust.global_namespace.as_ref() == gns).cloned()
}
