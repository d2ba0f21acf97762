//! Who holds certificates, as far as agents have said: the agents themselves, and their gateways.

use config::resource::Name;
use config::wire::{MemberReport, MemberRole, TrustReport};

use super::enrolment::Enrolments;
use super::link::LinkReport;
use super::readiness::Reports;
use super::view::View;
use crate::ca::Holder;

/// The holders in a GNS, or, without one, in the control plane: the agents.
pub(crate) fn holders(view: &View, reports: &Reports, enrolments: &Enrolments, gns: Option<&Name>) -> Vec<Holder> {
    let clusters: Vec<&Name> = match gns {
        Some(gns) => view.members(gns).into_iter().collect(),
        None => view.clusters().collect(),
    };
    let enrolled = clusters.into_iter().filter(|cluster| enrolments.get(cluster).is_some());
    enrolled.flat_map(|cluster| of_cluster(cluster, reports.get(cluster), gns)).collect()
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
