//! Which roots the certificates of the cluster's workloads need: no root goes while one of them lives that needs it.
//!
//! A report that is below nothing is of a workload of another GNS, which only believes in this one.
//!
//! Of declared workloads the one certificate counts that is kept for them now. What was issued by request nobody can
//! replace, so it counts until it ends, also in the agent's next life.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::resource::Name;
use config::wire::WorkloadsReport;
use identity::files::FileError;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::signer::Needed;
use crate::sync::cache::{read_checked, write_checked};

/// By GNS; those that need the same are one.
pub(in crate::local) type Outstanding = BTreeMap<Name, Vec<WorkloadsReport>>;

#[derive(Default)]
struct State {
    kept: Outstanding,
    issued: Outstanding,
}

/// Knows them.
pub(in crate::local) struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
    all: watch::Sender<Arc<Outstanding>>,
}

impl Ledger {
    /// With what was issued by request in the agent's earlier lives.
    pub(in crate::local) fn open(path: PathBuf) -> Self {
        let issued = read_checked(&path).unwrap_or_default();
        let state = State { kept: Outstanding::new(), issued };
        let all = watch::Sender::new(Arc::new(state.all()));
        Ledger { path, state: Mutex::new(state), all }
    }

    /// All that is outstanding, now and later.
    pub(in crate::local) fn subscribe(&self) -> watch::Receiver<Arc<Outstanding>> {
        self.all.subscribe()
    }

    /// A certificate was issued by request, and is about to be handed out. Blocks.
    ///
    /// # Errors
    /// When it cannot be written down; then it must not be handed out.
    pub(super) fn issued(&self, needs: Vec<Needed>) -> Result<(), FileError> {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut state = self.state();
        let mut issued = state.issued.clone();
        needs.into_iter().for_each(|(gns, needs)| add(&mut issued, &gns, needs));
        issued.values_mut().for_each(|reports| reports.retain(|report| report.until >= now));
        issued.retain(|_, reports| !reports.is_empty());
        write_checked(&self.path, &issued)?;
        state.issued = issued;
        self.tell(&state);
        Ok(())
    }

    /// These are all that the declared workloads hold now.
    pub(super) fn kept(&self, all: impl Iterator<Item = Needed>) {
        let mut state = self.state();
        state.kept.clear();
        all.for_each(|(gns, needs)| add(&mut state.kept, &gns, needs));
        self.tell(&state);
    }

    fn tell(&self, state: &State) {
        let all = state.all();
        self.all.send_if_modified(|last| (**last != all).then(|| *last = Arc::new(all)).is_some());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn all(&self) -> Outstanding {
        let mut all = self.issued.clone();
        for (gns, reports) in &self.kept {
            reports.iter().for_each(|report| add(&mut all, gns, report.clone()));
        }
        all
    }
}

fn add(to: &mut Outstanding, gns: &Name, new: WorkloadsReport) {
    let reports = to.entry(gns.clone()).or_default();
    match reports.iter_mut().find(|known| (&known.below, &known.roots) == (&new.below, &new.roots)) {
        Some(known) => known.until = known.until.max(new.until),
        None => reports.push(new),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn needs(below: &str, roots: &[&str], until: i64) -> WorkloadsReport {
        WorkloadsReport { below: below.into(), roots: roots.iter().map(ToString::to_string).collect(), until }
    }

    #[test]
    fn what_was_issued_by_request_is_known_until_it_ends_and_what_is_kept_until_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workloads.json");
        let (gns, now): (Name, _) = ("shop".parse().unwrap(), OffsetDateTime::now_utc().unix_timestamp());
        let ledger = Ledger::open(path.clone());
        let all = ledger.subscribe();
        ledger.kept([(gns.clone(), needs("old", &["old"], now + 90))].into_iter());
        ledger.issued(vec![(gns.clone(), needs("older", &["older"], now - 1))]).unwrap();
        ledger.issued(vec![(gns.clone(), needs("old", &["old"], now + 60))]).unwrap();
        ledger.issued(vec![(gns.clone(), needs("old", &["old"], now + 50))]).unwrap();
        ledger.issued(vec![(gns.clone(), needs("old", &["old", "new"], now + 70))]).unwrap();
        let both = needs("old", &["old", "new"], now + 70);
        assert_eq!(all.borrow()[&gns], [needs("old", &["old"], now + 90), both.clone()]);
        let kept = needs("new", &["old", "new"], now + 100);
        ledger.kept([(gns.clone(), kept.clone())].into_iter());
        let issued = [needs("old", &["old"], now + 60), both];
        assert_eq!(all.borrow()[&gns], [&issued[..], &[kept]].concat());
        assert_eq!(Ledger::open(path).subscribe().borrow()[&gns], issued);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_what_is_issued_from_then_on_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workloads.json");
        let (gns, until): (Name, _) = ("shop".parse().unwrap(), OffsetDateTime::now_utc().unix_timestamp() + 60);
        Ledger::open(path.clone()).issued(vec![(gns.clone(), needs("old", &["old"], until))]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], &[&whole[..9], b"x", &whole[10..]].concat(), b""] {
            std::fs::write(&path, damaged).unwrap();
            let ledger = Ledger::open(path.clone());
            assert!(ledger.subscribe().borrow().is_empty(), "nothing is made of it");
            assert_eq!(std::fs::read(folder.path().join("workloads.json.damaged")).unwrap(), damaged);
            ledger.issued(vec![(gns.clone(), needs("new", &["new"], until))]).unwrap();
            assert_eq!(Ledger::open(path.clone()).subscribe().borrow()[&gns], [needs("new", &["new"], until)]);
        }
    }

    #[test]
    fn what_cannot_be_written_down_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path().join("none/workloads.json"));
        assert!(ledger.issued(vec![("shop".parse().unwrap(), needs("old", &[], i64::MAX))]).is_err());
        assert!(ledger.subscribe().borrow().is_empty());
    }
}
