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
    /// Whether what is so here is so on disk.
    settled: bool,
    /// Why the next step couldn't be taken, as the last attempt had it.
    fault: Option<String>,
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
        let (folder, mesh, cluster) = (folder.to_owned(), mesh.clone(), cluster.clone());
        let mut control = Control { folder, mesh, cluster, roots, turn, settled: true, fault: None };
        if control.is_rotating() {
            control.save()?; // it may be only now that it is known
        }
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
            overlap: self.roots.stage() == Stage::Overlap,
            turn: self.turn.unwrap_or_default(),
            since: self.roots.since(),
            waiting: waiting.into_iter().filter_map(|holder| holder.gateway().cloned()).collect(),
            fault: self.fault.clone(),
        };
        let roots = self.roots.all().into_iter().map(|root| root.certificate().clone()).collect();
        Ok(ControlView { signing: signing.clone(), roots, behind, report })
    }

    /// Whether one is taking the other's place.
    fn is_rotating(&self) -> bool {
        self.roots.stage() != Stage::Steady
    }

    /// Whether a step may be due soon.
    pub(super) fn is_moving(&self) -> bool {
        self.is_rotating() || self.fault.is_some()
    }

    /// Takes the next step, if one is due, once what the last ones led to is on disk. `ordered` says how often the
    /// controller ordered it to be replaced, as far as that was heard. Blocks.
    pub(super) fn advance(
        &mut self,
        members: &[MemberReport],
        ordered: Option<u64>,
        audit: &AuditLog,
        now: OffsetDateTime,
    ) -> Result<(), ControlError> {
        let settled = if self.settled { Ok(()) } else { self.save() };
        let stepped = settled.and_then(|()| self.step(members, ordered, audit, now));
        self.fault = stepped.as_ref().err().map(ToString::to_string);
        stepped
    }

    fn step(
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
            Stage::Steady if self.roots.signing().is_overlong() || (ordered.is_some() && ordered != self.turn) => {
                Some(Step::Begin)
            }
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
        self.save()?; // without it, a successor on disk would count as one that everybody believes
        let successor = create(&self.mesh, &self.cluster, now)?;
        let entry = Entry::issue("agent", &vec![successor.certificate().clone()]);
        audit.record(&entry.detail("for", "the cluster's control CA"))?;
        write_private(&self.folder.join(NEXT), successor.export().as_bytes())?;
        tracing::info!(sha256 = successor.facts().fingerprint, "made a successor of the control CA");
        self.turn = ordered.or(self.turn);
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
        self.save()
    }

    /// Writes down how far it is. What couldn't be written is written before the next step.
    fn save(&mut self) -> Result<(), ControlError> {
        self.settled = false;
        let kept = Kept { state: self.roots.state().clone(), turn: self.turn };
        write_checked(&self.folder.join(STATE), &kept)?;
        self.tidy()?;
        self.settled = true;
        Ok(())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::wire::{MemberRole, RevisionPair, TrustReport};
    use time::Duration;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        audit: AuditLog,
        now: OffsetDateTime,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let audit = AuditLog::open(folder.path().join("audit.log")).unwrap();
            Place { folder, audit, now: OffsetDateTime::now_utc() }
        }

        fn open(&self) -> Control {
            Control::open(self.folder.path(), &"mesh.example".parse().unwrap(), &"north".parse().unwrap()).unwrap()
        }

        fn has(&self, name: &str) -> bool {
            self.folder.path().join(name).exists()
        }

        /// Takes the step that is due, and the one that is due if all stays so for ten seconds.
        fn advance(&self, control: &mut Control, member: &MemberReport, ordered: Option<u64>) {
            for at in [self.now, self.now + Duration::seconds(10)] {
                control.advance(std::slice::from_ref(member), ordered, &self.audit, at).unwrap();
            }
        }
    }

    /// A member that believes in these roots and holds a certificate below the last of them.
    fn member(roots: &[&str]) -> MemberReport {
        let trust = serde_json::json!({"roots": roots, "certificate": {"serial": "1", "subject": "gw", "notBefore": 0,
            "notAfter": i64::MAX, "renews": 0, "order": {"root": roots.last().unwrap()}}});
        MemberReport {
            draining: false,
            name: "gw".parse().unwrap(),
            role: MemberRole::Gateway,
            connected: true,
            silent_for_ms: 0,
            at: RevisionPair::default(),
            rejected: vec![],
            peers: Arc::default(),
            trust: vec![serde_json::from_value::<TrustReport>(trust).unwrap()],
            absent: false,
        }
    }

    /// The one that signs, and the other.
    fn roots(control: &Control) -> (String, Option<String>) {
        let ControlReport { signing, roots, .. } = control.view(&[]).unwrap().report;
        assert!(roots.len() <= 2 && roots.iter().any(|root| root.order.root == signing));
        let other = roots.into_iter().map(|root| root.order.root).find(|root| *root != signing);
        (signing, other)
    }

    #[test]
    fn it_is_replaced_by_order_once_and_goes_on_after_a_restart_at_every_step() {
        let place = Place::new();
        let mut control = place.open();
        let (old, _) = roots(&control);
        place.advance(&mut control, &member(&[&old]), None);
        place.advance(&mut control, &member(&[&old]), Some(3));
        assert!(!control.is_rotating(), "what was ordered before it was made is done");

        let mut control = place.open();
        place.advance(&mut control, &member(&[&old]), Some(4));
        let (signing, new) = roots(&control);
        let (new, view) = (new.unwrap(), control.view(&[member(&[&old])]).unwrap());
        assert!(signing == old && view.report.overlap && view.behind.is_empty());
        assert_eq!(view.report.waiting, ["gw".parse().unwrap()]);

        let mut control = place.open();
        let aware = member(&[&new, &old]);
        place.advance(&mut control, &aware, Some(4));
        assert_eq!(roots(&control), (new.clone(), Some(old.clone())));

        let mut control = place.open();
        let view = control.view(std::slice::from_ref(&aware)).unwrap();
        assert_eq!((view.behind.len(), view.report.waiting.len(), view.report.turn), (2, 1, 4));
        place.advance(&mut control, &aware, Some(4));
        assert!(control.is_rotating(), "it holds an old certificate");
        place.advance(&mut control, &member(&[&old, &new]), Some(4));
        assert_eq!(roots(&control), (new.clone(), None));

        let mut control = place.open();
        place.advance(&mut control, &member(&[&new]), Some(4));
        assert_eq!((roots(&control), place.has(NEXT)), ((new, None), false));
    }

    #[test]
    fn what_a_crash_or_a_disk_leaves_is_made_the_best_of() {
        let place = Place::new();
        let mut control = place.open();
        let (old, _) = roots(&control);
        place.advance(&mut control, &member(&[&old]), Some(0));
        // The successor was written, and the step was not.
        let successor = create(&control.mesh, &control.cluster, place.now).unwrap();
        write_private(&place.folder.path().join(NEXT), successor.export().as_bytes()).unwrap();
        let mut control = place.open();
        assert_eq!((roots(&control), place.has(NEXT)), ((old.clone(), None), false));

        // How far it is was lost: members believed the newer one before it signed.
        place.advance(&mut control, &member(&[&old]), Some(1));
        let new = roots(&control).1.unwrap();
        fs::write(place.folder.path().join(STATE), "damaged").unwrap();
        assert_eq!(roots(&place.open()), (new.clone(), Some(old)));

        // The older one was lost, too.
        fs::write(place.folder.path().join(FIRST), "damaged").unwrap();
        let control = place.open();
        assert_eq!((roots(&control), place.has(NEXT)), ((new, None), false));
        // What is there is another cluster's.
        let south = Control::open(place.folder.path(), &control.mesh, &"south".parse().unwrap()).unwrap();
        assert_ne!(roots(&south), roots(&control));
    }

    #[test]
    fn no_step_is_taken_before_the_last_is_on_disk_and_why_is_told() {
        let place = Place::new();
        let mut control = place.open();
        let (old, _) = roots(&control);
        place.advance(&mut control, &member(&[&old]), Some(0));
        place.advance(&mut control, &member(&[&old]), Some(1));
        let new = roots(&control).1.unwrap();
        let state = place.folder.path().join(STATE);
        let aware = member(&[&old, &new]);
        let step = |control: &mut Control, seconds| {
            let at = place.now + Duration::seconds(seconds);
            control.advance(std::slice::from_ref(&aware), Some(1), &place.audit, at)
        };
        step(&mut control, 20).unwrap();
        fs::remove_file(&state).unwrap();
        fs::create_dir(&state).unwrap(); // so that nothing takes its place
        for seconds in [30, 40, 50] {
            let error = step(&mut control, seconds).unwrap_err().to_string();
            let report = control.view(&[]).unwrap().report;
            assert!(error.contains(STATE) && report.fault == Some(error) && control.is_moving());
            assert_eq!(roots(&control), (new.clone(), Some(old.clone())), "everybody could do without the old one");
        }
        fs::remove_dir(&state).unwrap();
        step(&mut control, 60).unwrap();
        assert_eq!(roots(&control), (new.clone(), None));
        assert_eq!(control.view(&[]).unwrap().report.fault, None);
        assert_eq!((roots(&place.open()), place.has(NEXT)), ((new, None), false));
    }

    #[test]
    fn it_is_replaced_in_time() {
        let place = Place::new();
        let mut control = place.open();
        let later = |days| place.now + Duration::days(days);
        control.advance(&[], None, &place.audit, later(50)).unwrap();
        assert!(!control.is_rotating());
        control.advance(&[], None, &place.audit, later(66)).unwrap();
        assert!(control.is_rotating());
    }
}
