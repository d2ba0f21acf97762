//! The cluster's control CA: kept on disk, and replaced as any other root is, with the cluster's members as its holders.
//!
//! ```text
//! control-ca.pem        the CA with its key; while another takes its place, the older one
//! control-ca.next.pem   the one that takes its place
//! control-ca.json       how far that is
//! ```
//!
//! Which of the two signs stands in `control-ca.json` alone, so that a crash leaves the step taken or not.

mod keeper;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::resource::Name;
use config::wire::{ControlReport, MemberReport, Order};
use identity::TrustDomain;
use identity::ca::{CaError, ControlCa};
use identity::files::{FileError, read_private, write_private};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::audit::{AuditError, AuditLog, Entry};
use crate::ca::{Holder, Party, Roots, Stage, State, Step};
use crate::member::credential::describe;
use crate::sync::cache::{read_checked, set_aside, write_checked};

pub(super) use keeper::ControlKeeper;

const FIRST: &str = "control-ca.pem";
const NEXT: &str = "control-ca.next.pem";
const STATE: &str = "control-ca.json";

/// Why a control CA cannot be had, or not be replaced yet.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum ControlError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// What is kept besides the authorities themselves.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    state: State,
    turn: Option<u64>,
}

/// The control CA, or two while one takes the other's place.
pub(super) struct Control {
    folder: PathBuf,
    mesh: TrustDomain,
    cluster: Name,
    roots: Roots<Arc<ControlCa>>,
    /// The last order to replace it that was followed; nothing until the first was heard.
    turn: Option<u64>,
}

/// The control CA as of one moment.
#[derive(Debug)]
pub(super) struct ControlView {
    pub(super) signing: Arc<ControlCa>,
    /// All that are believed, the oldest first.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// What the agent shows behind its own chain: the signing one as its predecessor signed it, and that one. So tokens
    /// that pin the predecessor are good until it is dropped.
    pub(super) behind: Vec<CertificateDer<'static>>,
    pub(super) report: ControlReport,
}

impl ControlView {
    /// What members are to hold, of which leaves were ordered anew so often.
    pub(super) fn order(&self, leaf: u64) -> Order {
        Order { root: self.signing.facts().fingerprint.clone(), issuing: 0, leaf }
    }
}

impl Control {
    /// What is on disk; what is damaged there, or of another cluster, is set aside. At the first start one is made.
    pub(super) fn open(folder: &Path, mesh: &TrustDomain, cluster: &Name) -> Result<Self, ControlError> {
        let now = OffsetDateTime::now_utc();
        let [first, next] = [FIRST, NEXT].map(|name| load(&folder.join(name), mesh, cluster));
        let kept: Option<Kept> = read_checked(&folder.join(STATE));
        let turn = kept.as_ref().and_then(|kept| kept.turn);
        let roots = match (first, next, kept) {
            // Members may hold what either signed, and the newer one was believed first.
            (Some(first), Some(next), None) => switched(first, next, now),
            (first, next, kept) => {
                let all = first.into_iter().chain(next).collect();
                Roots::restore(all, kept.map(|kept| kept.state)).map(|(roots, _)| roots)
            }
            .map_or_else(|| create(mesh, cluster, now).map(Roots::new), Ok)?,
        };
        let control = Control { folder: folder.to_owned(), mesh: mesh.clone(), cluster: cluster.clone(), roots, turn };
        control.tidy()?;
        Ok(control)
    }

    /// While there is but one, it stands where one is looked for.
    fn tidy(&self) -> Result<(), ControlError> {
        let [first, next] = [FIRST, NEXT].map(|name| self.folder.join(name));
        if self.roots.stage() == Stage::Steady && (next.exists() || !first.exists()) {
            write_private(&first, self.roots.signing().export().as_bytes())?;
            if let Err(error) = fs::remove_file(&next)
                && next.exists()
            {
                return Err(FileError::Io("remove", next, error).into());
            }
        }
        Ok(())
    }

    /// As it is now, with these members.
    pub(super) fn view(&self, members: &[MemberReport]) -> Result<ControlView, ControlError> {
        let (signing, holders) = (self.roots.signing(), self.holders(members));
        let behind = match self.roots.predecessor() {
            Some(old) => vec![old.cross_sign_successor(signing)?, old.certificate().clone()],
            None => vec![],
        };
        let waiting = self.roots.waiting(&holders, OffsetDateTime::now_utc());
        let of_root = |root: &Arc<ControlCa>| {
            let order = Order { root: root.facts().fingerprint.clone(), ..Order::default() };
            let signs = root.facts().fingerprint == signing.facts().fingerprint;
            describe(root.facts(), order, if signs { self.roots.renews() } else { root.facts().not_after })
        };
        let report = ControlReport {
            roots: self.roots.all().into_iter().map(of_root).collect(),
            signing: signing.facts().fingerprint.clone(),
            turn: self.turn.unwrap_or_default(),
            since: self.roots.since(),
            waiting: waiting.into_iter().filter_map(|holder| holder.gateway().cloned()).collect(),
        };
        let roots = self.roots.all().into_iter().map(|root| root.certificate().clone()).collect();
        Ok(ControlView { signing: signing.clone(), roots, behind, report })
    }

    /// Whether one is taking the other's place.
    pub(super) fn is_rotating(&self) -> bool {
        self.roots.stage() != Stage::Steady
    }

    /// Takes the next step, if one is due. `ordered` says how often the controller ordered it to be replaced, as far as
    /// that was heard. Blocks.
    pub(super) fn advance(
        &mut self,
        members: &[MemberReport],
        ordered: Option<u64>,
        audit: &AuditLog,
        now: OffsetDateTime,
    ) -> Result<(), ControlError> {
        if self.turn.is_none() && ordered.is_some() {
            self.turn = ordered; // what was ordered before this one was made is done
            self.save()?;
        }
        let step = match self.roots.stage() {
            Stage::Steady if self.roots.signing().is_overlong() || ordered > self.turn => Some(Step::Begin),
            _ => self.roots.next(&self.holders(members), now),
        };
        match step {
            None => Ok(()),
            Some(Step::Begin) => self.begin(ordered, audit, now),
            Some(Step::Switch) => self.switch(now),
            Some(Step::Drop) => self.drop_old(now),
        }
    }

    fn begin(&mut self, ordered: Option<u64>, audit: &AuditLog, now: OffsetDateTime) -> Result<(), ControlError> {
        let successor = create(&self.mesh, &self.cluster, now)?;
        let entry = Entry::issue("agent", &vec![successor.certificate().clone()]);
        audit.record(&entry.detail("for", "the cluster's control CA"))?;
        write_private(&self.folder.join(NEXT), successor.export().as_bytes())?;
        tracing::info!(sha256 = successor.facts().fingerprint, "made a successor of the control CA");
        self.turn = self.turn.max(ordered);
        self.roots.begin(successor, now);
        self.save()
    }

    fn switch(&mut self, now: OffsetDateTime) -> Result<(), ControlError> {
        self.roots.switch(now);
        tracing::info!(sha256 = self.roots.signing().facts().fingerprint, "the new control CA signs from now on");
        self.save()
    }

    fn drop_old(&mut self, now: OffsetDateTime) -> Result<(), ControlError> {
        let old = self.roots.drop_old(now);
        tracing::info!(sha256 = ?old.map(|old| old.facts().fingerprint.clone()), "dropped the old control CA");
        self.save()?;
        self.tidy()
    }

    fn save(&self) -> Result<(), ControlError> {
        let kept = Kept { state: self.roots.state().clone(), turn: self.turn };
        Ok(write_checked(&self.folder.join(STATE), &kept)?)
    }

    fn holders(&self, members: &[MemberReport]) -> Vec<Holder> {
        let holder = |member: &MemberReport| Holder {
            cluster: self.cluster.clone(),
            party: Party::Gateway(member.name.clone()),
            present: member.connected,
            agent_present: true,
            trust: member.trust.iter().find(|trust| trust.global_namespace.is_none()).cloned(),
            visits: None,
        };
        members.iter().map(holder).collect()
    }
}

fn create(mesh: &TrustDomain, cluster: &Name, now: OffsetDateTime) -> Result<Arc<ControlCa>, ControlError> {
    Ok(Arc::new(ControlCa::create(mesh.as_str(), cluster.as_str(), now)?))
}

fn switched(first: Arc<ControlCa>, next: Arc<ControlCa>, now: OffsetDateTime) -> Roots<Arc<ControlCa>> {
    let mut roots = Roots::new(first);
    roots.begin(next, now);
    roots.switch(now);
    roots
}

fn load(path: &Path, mesh: &TrustDomain, cluster: &Name) -> Option<Arc<ControlCa>> {
    if !path.exists() {
        return None;
    }
    let loaded = read(path).and_then(|ca| match is_of(&ca, mesh, cluster) {
        true => Ok(Arc::new(ca)),
        false => Err("it is of another cluster or mesh".to_owned()),
    });
    loaded.map_err(|reason| set_aside(path, &reason)).ok()
}

fn read(path: &Path) -> Result<ControlCa, String> {
    let bytes = read_private(path).map_err(|e| e.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|e| e.to_string())?;
    ControlCa::import(text).map_err(|e| e.to_string())
}

fn is_of(ca: &ControlCa, mesh: &TrustDomain, cluster: &Name) -> bool {
    let subject = &ca.facts().subject;
    subject.common_name.as_deref() == Some(cluster.as_str()) && subject.organization.as_deref() == Some(mesh.as_str())
}
