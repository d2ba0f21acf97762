//! The certificates of the mesh, for people and their tools: who holds what, until when, and who believes which root.

use std::fmt;

use config::resource::Name;
use config::wire::{CertificateReport, MemberReport, MemberRole, Order, TrustReport};
use identity::Facts;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::core::Core;
use super::holders::Holders;
use super::link::LinkReport;
use super::readiness::Reports;
use super::view::View;
use crate::ca::{Holder, RootStatus, Stage};

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
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Leaf => "leaf",
            Level::Issuing => "issuing",
            Level::Gns => "gns",
            Level::Top => "top",
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

/// Something that is being replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Of which level.
    pub level: Level,
    /// In which GNS; nothing in the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_namespace: Option<Name>,
    /// How far it is.
    pub phase: Phase,
    /// Since when, in seconds since 1970, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Who is waited for.
    pub waiting: Vec<String>,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The new root is made known beside the old one.
    Overlap,
    /// Who signs gets a new certificate.
    ReIssue,
    /// It is waited for everybody to say that he holds a new one.
    Prove,
    /// The old root goes out of the bundles.
    Drop,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Overlap => "overlap",
            Phase::ReIssue => "re-issue",
            Phase::Prove => "prove",
            Phase::Drop => "drop",
        })
    }
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
        let mut status =
            CertificatesStatus { certificates: vec![], rotations: rotations(&view, &reports, &all), trust: vec![] };
        for (gns, root) in view.made.roots() {
            let holders = all.of(gns);
            status.certificates.extend(root.roots.iter().map(|facts| root_row(gns, root, facts)));
            status.certificates.extend(holders.iter().filter_map(|holder| holder_row(gns, root, holder)));
            status.trust.extend(trust_rows(gns, root, &holders));
        }
        let members = reports.iter().flat_map(|(cluster, report)| member_rows(cluster, report));
        status.certificates.extend(members);
        status
    }

    /// What is being replaced now.
    pub(crate) fn rotations(&self) -> Vec<Rotation> {
        let (view, reports) = (self.view(), self.reports());
        rotations(&view, &reports, &Holders::new(&view, &reports, &self.enrolments))
    }
}

fn rotations(view: &View, reports: &Reports, all: &Holders<'_>) -> Vec<Rotation> {
    let now = OffsetDateTime::now_utc();
    let members = members_behind(view, reports);
    let of_members = (!members.is_empty()).then_some(Rotation {
        level: Level::Leaf,
        global_namespace: None,
        phase: Phase::ReIssue,
        since: None,
        waiting: members,
    });
    let of_roots = view.made.roots().flat_map(|(gns, root)| rotations_of(view, gns, root, &all.of(gns), now));
    of_roots.chain(of_members).collect()
}

/// The gateways and DNS servers that show their agents certificates of an older order than is given now.
fn members_behind(view: &View, reports: &Reports) -> Vec<String> {
    let of_cluster = |(cluster, report): (&Name, &LinkReport)| {
        let wanted = view.made.mesh.get(cluster).map_or(0, |mesh| mesh.order.leaf);
        let behind = |member: &&MemberReport| {
            let own = own(member).and_then(|own| own.certificate.as_ref());
            member.connected && own.is_some_and(|held| held.order.leaf < wanted)
        };
        let members = report.ack.members.iter().filter(behind);
        members.map(|member| format!("{cluster}/{}", member.name)).collect::<Vec<_>>()
    };
    reports.iter().flat_map(of_cluster).collect()
}

/// What a member shows to its agent.
fn own(member: &MemberReport) -> Option<&TrustReport> {
    member.trust.iter().find(|trust| trust.global_namespace.is_none())
}

/// At most one of the root itself, and one each of the levels below it.
fn rotations_of(
    view: &View,
    gns: Option<&Name>,
    root: &RootStatus,
    holders: &[Holder],
    now: OffsetDateTime,
) -> Vec<Rotation> {
    let level = if gns.is_some() { Level::Gns } else { Level::Top };
    let rotation = |level, phase, since, waiting: Vec<&Holder>| Rotation {
        level,
        global_namespace: gns.cloned(),
        phase,
        since,
        waiting: waiting.into_iter().map(Holder::name).collect(),
    };
    let (waiting, since) = (root.waiting(holders, now), Some(root.since()));
    let agents = waiting.iter().any(|holder| holder.gateway.is_none());
    match root.stage() {
        Stage::Overlap => return vec![rotation(level, Phase::Overlap, since, waiting)],
        Stage::Reissue if agents => return vec![rotation(level, Phase::ReIssue, since, waiting)],
        Stage::Reissue => return vec![rotation(level, Phase::Prove, since, waiting)],
        Stage::Steady => {}
    }
    let (still, behind): (Vec<&Holder>, Vec<&Holder>) = (
        holders.iter().filter(|holder| holder.present && believes_others(holder, root)).collect(),
        holders.iter().filter(|holder| holder.present && behind(view, gns, holder).is_some()).collect(),
    );
    let dropping = (!still.is_empty()).then(|| rotation(level, Phase::Drop, since, still));
    let of = |level| {
        let behind: Vec<&Holder> =
            behind.iter().copied().filter(|holder| self::behind(view, gns, holder) == Some(level)).collect();
        let phase = match behind.iter().any(|holder| holder.gateway.is_none()) || level == Level::Leaf {
            true => Phase::ReIssue,
            false => Phase::Prove,
        };
        (!behind.is_empty()).then(|| rotation(level, phase, None, behind))
    };
    dropping.into_iter().chain([Level::Issuing, Level::Leaf].into_iter().filter_map(of)).collect()
}

fn believes_others(holder: &Holder, root: &RootStatus) -> bool {
    let known = |believed: &String| root.roots.iter().any(|root| root.fingerprint == *believed);
    holder.trust.as_ref().is_some_and(|trust| !trust.roots.iter().all(known))
}

/// Whether a holder has a certificate of another order than is given now, and of which level the difference is.
fn behind(view: &View, gns: Option<&Name>, holder: &Holder) -> Option<Level> {
    let wanted: Order = match gns {
        Some(gns) => view.made.trust.get(gns)?.order(&holder.cluster),
        None => view.made.mesh.get(&holder.cluster)?.order.clone(),
    };
    let held = holder.order()?;
    let leaf = (holder.gateway.is_some() || gns.is_none()) && held.leaf != wanted.leaf;
    match held.issuing != wanted.issuing || held.root != wanted.root {
        true => Some(Level::Issuing),
        false => leaf.then_some(Level::Leaf),
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
    let held = holder.trust.as_ref()?.certificate.as_ref()?;
    let level = if gns.is_some() && holder.gateway.is_none() { Level::Issuing } else { Level::Leaf };
    let above = root.roots.iter().find(|facts| facts.fingerprint == held.order.root);
    let above = above.map(|facts| facts.serial.to_string()).unwrap_or_default();
    Some(row(level, gns, holder, held, above))
}

/// Gateways and DNS servers, towards their agents.
fn member_rows<'r>(cluster: &'r Name, report: &'r LinkReport) -> impl Iterator<Item = CertificateRow> + 'r {
    let members = report.ack.members.iter().filter(|member| member.role != MemberRole::Agent);
    members.filter_map(move |member| {
        let held = own(member)?.certificate.as_ref()?;
        let holder = Holder {
            cluster: cluster.clone(),
            gateway: Some(member.name.clone()),
            present: report.connected && member.connected,
            agent_present: report.connected,
            trust: None,
        };
        Some(row(Level::Leaf, None, &holder, held, String::new()))
    })
}

fn row(level: Level, gns: Option<&Name>, holder: &Holder, held: &CertificateReport, above: String) -> CertificateRow {
    CertificateRow {
        level,
        global_namespace: gns.cloned(),
        holder: holder.name(),
        cluster: Some(holder.cluster.clone()),
        member: holder.gateway.clone(),
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
    let mut roots: Vec<&str> = root.roots.iter().map(|facts| facts.fingerprint.as_str()).collect();
    for believed in holders.iter().filter_map(|holder| holder.trust.as_ref()).flat_map(|trust| &trust.roots) {
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
        held_by: names(&|holder| holder.order().is_some_and(|order| order.root == sha256)),
    };
    roots.into_iter().map(row).collect()
}
