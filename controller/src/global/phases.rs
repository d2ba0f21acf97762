//! How far the replacement of certificates is, out of what their holders report.

use std::fmt;

use config::resource::Name;
use config::wire::{MemberReport, Order, TrustReport};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::certificates::Level;
use super::core::Core;
use super::holders::Holders;
use super::link::{LinkReport, Reports};
use super::view::View;
use crate::ca::{Holder, RootStatus, Stage};

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

impl Core {
    /// What is being replaced now.
    pub(crate) fn rotations(&self) -> Vec<Rotation> {
        let (view, reports) = (self.view(), self.reports());
        rotations(&view, &reports, &Holders::new(&view, &reports, &self.enrolments))
    }
}

/// What is being replaced, as of one moment.
pub(super) fn rotations(view: &View, reports: &Reports, all: &Holders<'_>) -> Vec<Rotation> {
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
    let of_controls = reports.iter().filter_map(|(cluster, report)| of_control(view, cluster, report));
    of_roots.chain(of_members).chain(of_controls).collect()
}

/// Of a cluster's control CA, as its agent tells.
fn of_control(view: &View, cluster: &Name, report: &LinkReport) -> Option<Rotation> {
    let control = report.ack.control.as_ref()?;
    let ordered = view.made.mesh.get(cluster).map_or(0, |mesh| mesh.order.issuing);
    let phase = match control.roots.len() {
        _ if control.overlap => Phase::Overlap,
        2.. => Phase::Prove,
        _ if control.turn != ordered => Phase::ReIssue,
        _ => return None,
    };
    let (level, since) = (Level::Control, (phase != Phase::ReIssue).then_some(control.since));
    let waiting = control.waiting.iter().map(|member| format!("{cluster}/{member}"));
    let waiting = match phase {
        Phase::ReIssue => vec![format!("the agent of {cluster}")],
        _ => waiting.collect(),
    };
    Some(Rotation { level, global_namespace: None, phase, since, waiting })
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
pub(super) fn own(member: &MemberReport) -> Option<&TrustReport> {
    member.trust.iter().find(|trust| trust.global_namespace.is_none())
}

/// Of a root and what is below it.
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
    if let Some(phase) = phase_of(root, holders, now) {
        return vec![rotation(level, phase, Some(root.since()), root.waiting(holders, now))];
    }
    let present = || holders.iter().filter(|holder| holder.present);
    let dropping: Vec<&Holder> = present().filter(|holder| believes_others(holder, root)).collect();
    let dropping = (!dropping.is_empty()).then(|| rotation(level, Phase::Drop, Some(root.since()), dropping));
    let below = [Level::Issuing, Level::Leaf].into_iter().filter_map(|level| {
        let late: Vec<&Holder> = present().filter(|holder| behind(view, gns, holder) == Some(level)).collect();
        let signers = late.iter().any(|holder| holder.is_agent());
        let phase = if signers || level == Level::Leaf { Phase::ReIssue } else { Phase::Prove };
        (!late.is_empty()).then(|| rotation(level, phase, None, late))
    });
    dropping.into_iter().chain(below).collect()
}

/// How far a root that is being replaced is. Agents come first: no gateway can get a certificate below the new root
/// before its agent has.
fn phase_of(root: &RootStatus, holders: &[Holder], now: OffsetDateTime) -> Option<Phase> {
    match root.stage() {
        Stage::Steady => None,
        Stage::Overlap => Some(Phase::Overlap),
        Stage::Reissue => {
            let agents = root.waiting(holders, now).iter().any(|holder| holder.is_agent());
            Some(if agents { Phase::ReIssue } else { Phase::Prove })
        }
    }
}

fn believes_others(holder: &Holder, root: &RootStatus) -> bool {
    let known = |believed: &String| root.roots.iter().any(|root| root.fingerprint == *believed);
    !holder.believed().iter().all(known)
}

/// Whether a holder has a certificate of another order than is given now, and of which level the difference is.
fn behind(view: &View, gns: Option<&Name>, holder: &Holder) -> Option<Level> {
    let wanted: Order = match gns {
        Some(gns) => view.made.trust.get(gns)?.order(&holder.cluster),
        None => view.made.mesh.get(&holder.cluster)?.order.clone(),
    };
    let held = holder.order()?;
    let leaf = match gns {
        Some(_) => holder.gateway().is_some() && held.leaf != wanted.leaf,
        // What an agent shows its controller is renewed with its control CA, too.
        None => (held.leaf, held.issuing) != (wanted.leaf, wanted.issuing),
    };
    match gns.is_some() && held.issuing != wanted.issuing || held.root != wanted.root {
        true => Some(Level::Issuing),
        false => leaf.then_some(Level::Leaf),
    }
}
