//! The store on a disk that fails: writes and syncs that are refused, power that goes, bits that flip.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use config::resource::{ClusterSpec, Resource, Spec};
use redb::{DatabaseError, StorageBackend};

use super::super::Owner;
use super::medium::Medium;
use super::*;

const PAGE: usize = 4096;

/// What shall go wrong, counted from the beginning of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// This write or change of length fails, once.
    Write(u64),
    /// This sync fails, once, and what should have been synced is not written by itself any more.
    Sync(u64),
    /// From this access on all fail.
    AllFrom(u64),
}

/// A disk as systems show it: what is written is seen at once, and is on the disk after a sync.
#[derive(Debug, Default)]
struct State {
    seen: Vec<u8>,
    on_disk: Vec<u8>,
    dirty: BTreeSet<usize>,
    wrong: Option<Wrong>,
    writes: u64,
    syncs: u64,
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn of(bytes: &[u8]) -> Disk {
        let state = State { seen: bytes.to_vec(), on_disk: bytes.to_vec(), ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    fn plan(&self, wrong: Wrong) {
        let mut state = self.0.lock().unwrap();
        (state.wrong, state.writes, state.syncs) = (Some(wrong), 0, 0);
    }

    /// How many writes and syncs there were since the plan.
    fn accesses(&self) -> (u64, u64) {
        let state = self.0.lock().unwrap();
        (state.writes, state.syncs)
    }

    /// The power goes and comes: of what wasn't synced, any part may be on the disk.
    fn lose_power(&self, random: &mut fastrand::Rng) {
        let mut state = self.0.lock().unwrap();
        let kept: Vec<usize> = state.dirty.iter().copied().filter(|_| random.bool()).collect();
        if random.bool() {
            let length = state.seen.len();
            state.on_disk.resize(length, 0);
        }
        kept.into_iter().for_each(|page| state.persist(page));
        state.dirty.clear();
        state.seen = state.on_disk.clone();
        state.wrong = None;
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().seen.clone()
    }

    fn open(&self) -> Result<EmbeddedStore, StoreError> {
        EmbeddedStore::of(Box::new(self.clone()), "/disk/controller.redb".into())
    }
}

impl State {
    fn persist(&mut self, page: usize) {
        let (from, to) = (page * PAGE, ((page + 1) * PAGE).min(self.seen.len()));
        if from < to {
            let length = self.on_disk.len().max(to);
            self.on_disk.resize(length, 0);
            self.on_disk[from..to].copy_from_slice(&self.seen[from..to]);
        }
    }

    fn admit(&mut self, sync: bool) -> io::Result<()> {
        let all = self.writes + self.syncs;
        let number = if sync { &mut self.syncs } else { &mut self.writes };
        *number += 1;
        let refused = match self.wrong.unwrap_or(Wrong::Nothing) {
            Wrong::Nothing => false,
            Wrong::Write(nth) => !sync && self.writes - 1 == nth,
            Wrong::Sync(nth) => sync && self.syncs - 1 == nth,
            Wrong::AllFrom(nth) => all >= nth,
        };
        if refused { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Medium for Disk {
    fn open(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
        Ok(Box::new(self.clone()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let found = state.seen.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.admit(false)?;
        state.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if let Err(error) = state.admit(true) {
            state.dirty.clear();
            return Err(error);
        }
        let length = state.seen.len();
        state.on_disk.resize(length, 0);
        std::mem::take(&mut state.dirty).into_iter().for_each(|page| state.persist(page));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.admit(false)?;
        let from = usize::try_from(offset).unwrap();
        state.seen[from..from + data.len()].copy_from_slice(data);
        state.dirty.extend(from / PAGE..=(from + data.len() - 1) / PAGE);
        Ok(())
    }
}

/// A step that is told from all others by its number, and is about as long as real ones.
fn step(number: u64) -> Revision {
    let labels = (0..20).map(|label| (format!("label-{label}"), format!("{number}-{label}").repeat(4))).collect();
    let id = format!("Cluster/c{}", number % 5).parse().unwrap();
    let resource = Resource { id, labels, spec: Spec::Cluster(ClusterSpec::default()) };
    Revision { upserts: vec![Arc::new(resource)], ..Revision::new(0, Owner::Api, "ada", "apply") }
}

/// What was acknowledged, what was not, and what nobody could say.
#[derive(Debug, Clone, Default)]
struct Told {
    desired: Desired,
    records: BTreeMap<String, Vec<u8>>,
    /// The change of which nobody could say whether it counts, if there is one.
    doubtful: Option<Box<Told>>,
}

impl Told {
    /// Whether a store has what it should.
    fn check(&self, store: &EmbeddedStore, context: &str) {
        let found = (store.load().unwrap(), store.records(Table::Tokens).unwrap());
        let allowed = |told: &Told| found == (told.desired.clone(), told.records.clone());
        let sound = allowed(self) || self.doubtful.as_deref().is_some_and(allowed);
        assert!(sound, "{context}: acknowledged {}, found {}", self.desired.head, found.0.head);
    }

    /// Makes a change, and remembers what was said of it.
    fn change(&mut self, store: &EmbeddedStore, number: u64, context: &str) {
        let mut after = Told { doubtful: None, ..self.clone() };
        let done = if number.is_multiple_of(3) {
            let (key, value) = (format!("t{}", number % 4), number.to_string().repeat(90).into_bytes());
            after.records.insert(key.clone(), value.clone());
            store.set(Table::Tokens, &key, Some(&value))
        } else {
            let next = step(number);
            after.desired.apply(&next);
            store.append(self.desired.head, &next).map(drop)
        };
        match done {
            Ok(()) => *self = after,
            Err(StoreError::Unwritten { .. } | StoreError::Io { .. }) => {}
            Err(StoreError::Doubtful { .. }) => self.doubtful = Some(Box::new(after)),
            Err(other) => panic!("{context}: {other}"),
        }
    }

    /// Takes what nobody could say as what it turned out to be.
    fn settle(&mut self, store: &EmbeddedStore, context: &str) {
        self.check(store, context);
        let head = store.head().unwrap();
        let records = store.records(Table::Tokens).unwrap();
        if let Some(doubtful) = self.doubtful.take()
            && (doubtful.desired.head, &doubtful.records) == (head, &records)
        {
            *self = *doubtful;
        }
    }
}

/// A disk with a store that has a past.
fn used() -> (Disk, Told) {
    let disk = Disk::default();
    let (store, mut told) = (disk.open().unwrap(), Told::default());
    (0..30).for_each(|number| told.change(&store, number, "at first"));
    assert_eq!(told.desired.head, 20);
    (disk, told)
}

const CHANGES: std::ops::Range<u64> = 100..108;

/// How many writes and syncs the changes take where nothing goes wrong.
fn accesses() -> (u64, u64) {
    let (disk, mut told) = used();
    let store = disk.open().unwrap();
    disk.plan(Wrong::Nothing);
    CHANGES.for_each(|number| told.change(&store, number, "in peace"));
    disk.accesses()
}

#[test]
fn after_a_write_or_sync_that_failed_once_everything_is_as_it_was_told() {
    let (writes, syncs) = accesses();
    assert!(writes > 20 && syncs >= 8, "{writes} {syncs}");
    let mut random = fastrand::Rng::with_seed(6);
    for wrong in (0..writes).map(Wrong::Write).chain((0..syncs).map(Wrong::Sync)) {
        let (disk, mut told) = used();
        let store = disk.open().unwrap();
        disk.plan(wrong);
        let mut refused = 0;
        for number in CHANGES {
            let before = told.desired.head + told.records.len() as u64;
            told.change(&store, number, &format!("{wrong:?}"));
            refused += u64::from(!number.is_multiple_of(3) && told.desired.head + told.records.len() as u64 == before);
            told.settle(&store, &format!("{wrong:?}, after change {number}"));
        }
        assert!(refused <= 1, "{wrong:?}: one failure refuses one change at the most, {refused} were");
        drop(store);
        disk.lose_power(&mut random);
        told.check(&disk.open().unwrap(), &format!("{wrong:?}, after the power went"));
    }
}

#[test]
fn a_disk_that_refuses_all_loses_nothing_and_is_used_again_when_it_takes_writes() {
    let (writes, syncs) = accesses();
    for nth in 0..writes + syncs {
        let (disk, mut told) = used();
        let store = disk.open().unwrap();
        let context = format!("from access {nth} on");
        disk.plan(Wrong::AllFrom(nth));
        for number in CHANGES {
            // Whoever is in doubt must look before the next change.
            if told.doubtful.is_none() {
                told.change(&store, number, &context);
            }
        }
        let refused = told.doubtful.clone().map_or_else(|| store.append(told.desired.head, &step(9)).err(), |_| None);
        if let Some(error) = refused {
            let text = error.to_string();
            assert!(text.contains("make room") && error.disk().is_some(), "{context}: {text}");
        }
        disk.plan(Wrong::Nothing);
        told.settle(&store, &format!("{context}, mended"));
        told.change(&store, 200, &context);
        told.check(&store, &format!("{context}, changed again"));
    }
}

#[test]
fn what_was_acknowledged_is_there_after_the_power_went_at_any_moment() {
    let (writes, syncs) = accesses();
    let mut random = fastrand::Rng::with_seed(7);
    for nth in 0..writes + syncs {
        let (disk, mut told) = used();
        let store = disk.open().unwrap();
        disk.plan(Wrong::AllFrom(nth));
        for number in CHANGES {
            let mut after = told.clone();
            after.change(&store, number, "before the power went");
            if after.doubtful.is_some() || after.desired.head + after.records.len() as u64 == told.desired.head {
                told.doubtful = after.doubtful;
                break;
            }
            told = after;
        }
        disk.lose_power(&mut random);
        drop(store);
        let context = format!("power gone at access {nth}");
        let store = disk.open().unwrap_or_else(|error| panic!("{context}: {error}"));
        told.settle(&store, &context);
        told.change(&store, 300, &context);
        told.check(&store, &context);
    }
}

/// Whether a damaged database is told to be so, or is as it should be.
fn is_named_or_harmless(bytes: &[u8], sound: &Contents, context: &str) -> bool {
    match Disk::of(bytes).open().and_then(|store| store.contents()) {
        Ok(found) => {
            assert!(found == *sound, "{context}: another world: revision {}", found.history.head());
            false
        }
        Err(error) => {
            let text = error.to_string();
            let named = matches!(error, StoreError::Damaged { .. } | StoreError::Io { .. } | StoreError::Format { .. });
            assert!(named && text.contains("controller.redb"), "{context}: {text}");
            true
        }
    }
}

#[test]
fn flipped_bits_are_named_or_harmless() {
    let (disk, _) = used();
    let sound = disk.open().unwrap().contents().unwrap();
    let bytes = disk.bytes();
    let header = 0..320 * 8;
    let mut random = fastrand::Rng::with_seed(8);
    let others: Vec<usize> = (0..400).map(|_| random.usize(320 * 8..bytes.len() * 8)).collect();
    let mut named = 0;
    for bit in header.chain(others) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        named += usize::from(is_named_or_harmless(&flipped, &sound, &format!("bit {bit}")));
    }
    assert!(named > 100, "only {named} were found to be damaged");
}

#[test]
fn a_database_that_is_cut_is_named() {
    let (disk, _) = used();
    let sound = disk.open().unwrap().contents().unwrap();
    let bytes = disk.bytes();
    for length in (1..bytes.len()).step_by(1021) {
        assert!(is_named_or_harmless(&bytes[..length], &sound, &format!("cut at {length}")), "cut at {length}");
    }
}
