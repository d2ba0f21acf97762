//! The certificates of the mesh, for people and their tools: who holds what, until when, and who believes which root.

use std::fmt;

use config::resource::Name;
use config::wire::{CertificateReport, ControlReport, MemberRole};
use identity::Facts;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::core::Core;
use super::holders::Holders;
use super::link::LinkReport;
use super::phases::{Rotation, own, rotations};
use crate::ca::{Holder, Party, Revocation, RootStatus};

/// The levels of the chain, from its end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// What gateways, agents and members show.
    Leaf,
    /// The authorities of clusters in a GNS.
    Issuing,
    /// The authorities of global namespaces.
    Gns,
    /// The authority of the mesh.
    Top,
    /// The authorities by which clusters' members enrol with their agents.
    Control,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Leaf => "leaf",
            Level::Issuing => "issuing",
            Level::Gns => "gns",
            Level::Top => "top",
            Level::Control => "control",
        })
    }
}

/// All certificates of a mesh, and what is being replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificatesStatus {
    /// From the top down.
    pub certificates: Vec<CertificateRow>,
    /// What is being replaced now.
    pub rotations: Vec<Rotation>,
    /// Who believes which root.
    pub trust: Vec<TrustRow>,
    /// Who is believed no longer.
    #[serde(default)]
    pub revoked: Vec<Revocation>,
}

/// One certificate. Moments are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRow {
    /// Its level.
    pub level: Level,
    /// In which GNS; nothing in the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_namespace: Option<Name>,
    /// Who has its key, for people.
    pub holder: String,
    /// The holder's cluster; nothing for the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// The gateway or DNS server; nothing for an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Name>,
    /// Whether the holder is heard now; otherwise this is what it said last.
    #[serde(default)]
    pub heard: bool,
    /// Its serial number.
    pub serial: String,
    /// Its SPIFFE ID, or an authority's subject.
    pub subject: String,
    /// Serial number of the certificate that it is below; its own, if it is a root.
    pub issuer: String,
    /// From when it is good.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// When its successor is asked for.
    pub renews: i64,
}

/// A root, and who believes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustRow {
    /// In which GNS; nothing in the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_namespace: Option<Name>,
    /// SHA-256 of the root.
    pub root: String,
    /// Whether it signs now.
    pub signing: bool,
    /// Who believes it, as he said last.
    pub believed_by: Vec<String>,
    /// Who holds a certificate below it.
    pub held_by: Vec<String>,
}

impl Core {
    /// The certificates of the mesh.
    pub(crate) fn certificates(&self) -> CertificatesStatus {
        let (view, reports) = (self.view(), self.reports());
        let all = Holders::new(&view, &reports, &self.enrolments);
        let mut status = CertificatesStatus {
            certificates: vec![],
            rotations: rotations(&view, &reports, &all),
            trust: vec![],
            revoked: view.made.revocations.clone(),
        };
        for (gns, root) in view.made.roots() {
            let holders = all.of(gns);
            status.certificates.extend(root.roots.iter().map(|facts| root_row(gns, root, facts)));
            status.certificates.extend(holders.iter().filter_map(|holder| holder_row(gns, root, holder)));
            status.trust.extend(trust_rows(gns, root, &holders));
        }
        let controls = reports.iter().flat_map(|(cluster, report)| control_rows(cluster, report));
        status.certificates.extend(controls);
        let members = reports.iter().flat_map(|(cluster, report)| member_rows(cluster, report));
        status.certificates.extend(members);
        status
    }
}

fn root_row(gns: Option<&Name>, root: &RootStatus, facts: &Facts) -> CertificateRow {
    let serial = facts.serial.to_string();
    let signing = facts.fingerprint == root.signing();
    CertificateRow {
        level: if gns.is_some() { Level::Gns } else { Level::Top },
        global_namespace: gns.cloned(),
        holder: if signing { "controller" } else { "controller (does not sign)" }.to_owned(),
        cluster: None,
        member: None,
        heard: true,
        issuer: serial.clone(),
        serial,
        subject: facts.name(),
        not_before: facts.not_before.unix_timestamp(),
        not_after: facts.not_after.unix_timestamp(),
        renews: if signing { root.renews } else { facts.not_after }.unix_timestamp(),
    }
}

fn holder_row(gns: Option<&Name>, root: &RootStatus, holder: &Holder) -> Option<CertificateRow> {
    let held = holder.certificate()?;
    let level = if gns.is_some() && holder.is_agent() { Level::Issuing } else { Level::Leaf };
    let above = root.roots.iter().find(|facts| facts.fingerprint == held.order.root);
    let above = above.map(|facts| facts.serial.to_string()).unwrap_or_default();
    Some(row(level, gns, holder, held, above))
}

/// The control CA of a cluster.
fn control_rows<'r>(cluster: &'r Name, report: &'r LinkReport) -> impl Iterator<Item = CertificateRow> + 'r {
    let row = move |control: &ControlReport, root: &CertificateReport| CertificateRow {
        level: Level::Control,
        global_namespace: None,
        holder: match root.order.root == control.signing {
            true => format!("the agent of {cluster}"),
            false => format!("the agent of {cluster} (does not sign)"),
        },
        cluster: Some(cluster.clone()),
        member: None,
        heard: report.connected,
        serial: root.serial.clone(),
        subject: root.subject.clone(),
        issuer: root.serial.clone(),
        not_before: root.not_before,
        not_after: root.not_after,
        renews: root.renews,
    };
    let controls = report.ack.control.iter();
    controls.flat_map(move |control| control.roots.iter().map(move |root| row(control, root)))
}

/// Gateways and DNS servers, towards their agents.
fn member_rows<'r>(cluster: &'r Name, report: &'r LinkReport) -> impl Iterator<Item = CertificateRow> + 'r {
    let members = report.ack.members.iter().filter(|member| member.role != MemberRole::Agent);
    members.filter_map(move |member| {
        let held = own(member)?.certificate.as_ref()?;
        let holder = Holder {
            cluster: cluster.clone(),
            party: Party::Gateway(member.name.clone()),
            present: report.connected && member.connected,
            agent_present: report.connected,
            trust: None,
            visits: None,
        };
        let roots = report.ack.control.iter().flat_map(|control| &control.roots);
        let above = roots.filter(|root| root.order.root == held.order.root).map(|root| root.serial.clone()).next();
        Some(row(Level::Leaf, None, &holder, held, above.unwrap_or_default()))
    })
}

fn row(level: Level, gns: Option<&Name>, holder: &Holder, held: &CertificateReport, above: String) -> CertificateRow {
    CertificateRow {
        level,
        global_namespace: gns.cloned(),
        holder: holder.name(),
        cluster: Some(holder.cluster.clone()),
        member: holder.gateway().cloned(),
        heard: holder.present,
        serial: held.serial.clone(),
        subject: held.subject.clone(),
        issuer: held.issuer.clone().unwrap_or(above),
        not_before: held.not_before,
        not_after: held.not_after,
        renews: held.renews,
    }
}

/// Every root that is believed by somebody or should be.
fn trust_rows(gns: Option<&Name>, root: &RootStatus, holders: &[Holder]) -> Vec<TrustRow> {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut roots: Vec<&str> = root.roots.iter().map(|facts| facts.fingerprint.as_str()).collect();
    for believed in holders.iter().flat_map(Holder::believed) {
        if !roots.contains(&believed.as_str()) {
            roots.push(believed);
        }
    }
    let names = |which: &dyn Fn(&Holder) -> bool| {
        holders.iter().filter(|holder| which(holder)).map(Holder::name).collect::<Vec<_>>()
    };
    let row = |sha256: &str| TrustRow {
        global_namespace: gns.cloned(),
        root: sha256.to_owned(),
        signing: sha256 == root.signing(),
        believed_by: names(&|holder| holder.believes(sha256)),
        held_by: names(&|holder| holder.holds_below(sha256, now)),
    };
    roots.into_iter().map(row).collect()
}
