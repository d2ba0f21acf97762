//! The log of revisions as tables: the steps, the state before the oldest of them, and now and then the whole state, so
//! that a start reads few steps.

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::super::{Desired, History, Revision, StoreError};
use super::fault::Fault;

/// Numbers: the format, the head, how many bytes the steps have, and which was the last transaction.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The steps, by the revision to which each leads.
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// The newest whole state that was written, by its revision.
pub(super) const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
/// The state before the oldest step, by its revision. Only with it can earlier states be told.
pub(super) const BASES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bases");

const HEAD: &str = "head";
const BYTES: &str = "logBytes";

/// So often the whole state is written beside the log.
const CHECKPOINT_EVERY: u64 = 256;
/// Steps beyond what shall be kept are folded into the base so many at a time, since that writes a whole state.
const FOLD: u64 = 256;

/// How much of the past is kept: at least so many revisions, as long as these have no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention {
    pub(super) revisions: u64,
    pub(super) bytes: u64,
}

impl Retention {
    fn is_exceeded(self, steps: u64, bytes: u64) -> bool {
        steps > self.revisions.saturating_add(self.revisions.clamp(1, FOLD)) || bytes > self.bytes
    }
}

/// The revision of the newest state.
pub(super) fn head(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, Fault> {
    Ok(meta.get(HEAD)?.map_or(0, |value| value.value()))
}

/// Reads the newest whole state and takes the steps after it.
pub(super) fn replay(
    checkpoints: &impl ReadableTable<u64, &'static [u8]>,
    log: &impl ReadableTable<u64, &'static [u8]>,
    head: u64,
) -> Result<Desired, Fault> {
    let mut desired = newest(checkpoints)?;
    for step in log.range(desired.head + 1..)? {
        let (number, blob) = step?;
        take(&mut desired, number.value(), &serde_json::from_slice(blob.value())?)?;
    }
    match desired.head == head {
        true => Ok(desired),
        false => Err(Fault::Nonsense(format!("its log ends with revision {}, its head is {head}", desired.head))),
    }
}

fn take(desired: &mut Desired, number: u64, step: &Revision) -> Result<(), Fault> {
    desired.step(number, step).map_err(|gap| Fault::Nonsense(gap.to_string()))
}

fn newest(states: &impl ReadableTable<u64, &'static [u8]>) -> Result<Desired, Fault> {
    Ok(match states.last()? {
        Some((_, state)) => serde_json::from_slice(state.value())?,
        None => Desired::default(),
    })
}

/// A state and steps after it as they are stored: to copy them holds up writers for a moment, to read them nobody.
#[derive(Default)]
pub(super) struct Blobs {
    state: Vec<u8>,
    steps: Vec<(u64, Vec<u8>)>,
}

impl Blobs {
    /// What they say.
    pub(super) fn read(&self) -> Result<History, Fault> {
        let base = if self.state.is_empty() { Desired::default() } else { serde_json::from_slice(&self.state)? };
        let read = |(number, blob): &(u64, Vec<u8>)| Ok((*number, serde_json::from_slice(blob)?));
        Ok(History { base, steps: self.steps.iter().map(read).collect::<Result<_, Fault>>()? })
    }
}

/// The base and every step after it.
pub(super) fn history(
    bases: &impl ReadableTable<u64, &'static [u8]>,
    log: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Blobs, Fault> {
    until(&[bases], log, u64::MAX)
}

/// The newest of these states that is no later than a revision, and every step from it to that. The first of them is the
/// base, before which nothing is kept: it counts anyhow, and so does nothing at all while there is none.
pub(super) fn until(
    states: &[&impl ReadableTable<u64, &'static [u8]>],
    log: &impl ReadableTable<u64, &'static [u8]>,
    revision: u64,
) -> Result<Blobs, Fault> {
    let (mut at, mut blobs) = (0, Blobs::default());
    for (rank, states) in states.iter().enumerate() {
        if let Some((number, state)) = states.last()?
            && (rank == 0 || (at..=revision).contains(&number.value()))
        {
            (at, blobs.state) = (number.value(), state.value().to_vec());
        }
    }
    for step in log.range(at.saturating_add(1)..=revision.max(at.saturating_add(1)))? {
        let (number, blob) = step?;
        blobs.steps.push((number.value(), blob.value().to_vec()));
    }
    Ok(blobs)
}

/// The newest steps before a revision, as many as are wanted and no more than so many bytes, but for the newest; and
/// whether there are older ones.
pub(super) fn page(
    log: &impl ReadableTable<u64, &'static [u8]>,
    before: u64,
    (limit, mut bytes): (usize, usize),
) -> Result<(Blobs, bool), Fault> {
    let (mut blobs, mut more) = (Blobs::default(), false);
    for step in log.range(..before)?.rev() {
        let (number, blob) = step?;
        let left = bytes.checked_sub(blob.value().len());
        more = blobs.steps.len() == limit || (left.is_none() && !blobs.steps.is_empty());
        if more {
            break;
        }
        bytes = left.unwrap_or_default();
        blobs.steps.push((number.value(), blob.value().to_vec()));
    }
    blobs.steps.reverse();
    Ok((blobs, more))
}

/// Takes a step, if the head still is the expected one.
pub(super) fn append(
    transaction: &WriteTransaction,
    expected: u64,
    revision: &[u8],
    retention: Retention,
) -> Result<u64, Fault> {
    let mut meta = transaction.open_table(META)?;
    let head = head(&meta)?;
    if head != expected {
        return Err(StoreError::Overtaken { expected, head }.into());
    }
    let head = head + 1;
    let mut log = transaction.open_table(LOG)?;
    log.insert(head, revision)?;
    meta.insert(HEAD, head)?;
    let bytes = meta.get(BYTES)?.map_or(0, |value| value.value()).saturating_add(revision.len() as u64);
    meta.insert(BYTES, bytes)?;
    let exceeded = retention.is_exceeded(log.len()?, bytes);
    drop((meta, log));
    // Before anything is folded: a start begins with the checkpoint, so no step after it may be missing.
    if exceeded || head.is_multiple_of(CHECKPOINT_EVERY) {
        checkpoint(transaction, head)?;
    }
    if exceeded {
        fold(transaction, retention)?;
    }
    Ok(head)
}

fn checkpoint(transaction: &WriteTransaction, head: u64) -> Result<(), Fault> {
    let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
    let state = serde_json::to_vec(&replay(&checkpoints, &transaction.open_table(LOG)?, head)?)?;
    put_only(&mut checkpoints, head, &state)
}

fn put_only(states: &mut redb::Table<'_, u64, &'static [u8]>, at: u64, state: &[u8]) -> Result<(), Fault> {
    states.retain(|_, _| false)?;
    states.insert(at, state)?;
    Ok(())
}

/// Folds the oldest steps into the base, but for those that shall be kept; the newest always is.
fn fold(transaction: &WriteTransaction, retention: Retention) -> Result<(), Fault> {
    let (mut log, mut bases) = (transaction.open_table(LOG)?, transaction.open_table(BASES)?);
    let (mut base, mut bytes) = (newest(&bases)?, size(&log)?);
    let mut steps = log.len()?;
    while steps > 1 && (steps > retention.revisions || bytes > retention.bytes / 2) {
        let Some((number, blob)) = log.pop_first()? else { break };
        bytes = bytes.saturating_sub(blob.value().len() as u64);
        steps -= 1;
        take(&mut base, number.value(), &serde_json::from_slice(blob.value())?)?;
    }
    put_only(&mut bases, base.head, &serde_json::to_vec(&base)?)?;
    transaction.open_table(META)?.insert(BYTES, bytes)?;
    Ok(())
}

fn size(log: &impl ReadableTable<u64, &'static [u8]>) -> Result<u64, Fault> {
    log.iter()?.try_fold(0, |sum: u64, step| Ok(sum.saturating_add(step?.1.value().len() as u64)))
}

/// Whether the oldest step follows on the base. A version that knew no bases may have removed steps.
pub(super) fn is_based(
    bases: &impl ReadableTable<u64, &'static [u8]>,
    log: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<bool, Fault> {
    let base = bases.last()?.map_or(0, |(at, _)| at.value());
    let Some((number, blob)) = log.first()? else { return Ok(true) };
    let step: Revision = serde_json::from_slice(blob.value())?;
    Ok(step.follows(number.value()) == base)
}

/// Makes a base where there is none: of the newest whole state, since what was before it is not known.
pub(super) fn rebase(transaction: &WriteTransaction) -> Result<(), Fault> {
    let (mut log, mut bases) = (transaction.open_table(LOG)?, transaction.open_table(BASES)?);
    if !is_based(&bases, &log)? {
        let base = newest(&transaction.open_table(CHECKPOINTS)?)?;
        put_only(&mut bases, base.head, &serde_json::to_vec(&base)?)?;
        log.retain(|number, _| number > base.head)?;
    }
    transaction.open_table(META)?.insert(BYTES, size(&log)?)?;
    Ok(())
}

/// Writes a whole history into tables that hold nothing yet.
pub(super) fn fill(transaction: &WriteTransaction, history: &History) -> Result<(), Fault> {
    let base = serde_json::to_vec(&history.base)?;
    put_only(&mut transaction.open_table(BASES)?, history.base.head, &base)?;
    let mut log = transaction.open_table(LOG)?;
    for (number, step) in &history.steps {
        log.insert(number, serde_json::to_vec(step)?.as_slice())?;
    }
    let newest = history.newest().map_err(|error| Fault::Nonsense(error.to_string()))?;
    put_only(&mut transaction.open_table(CHECKPOINTS)?, newest.head, &serde_json::to_vec(&newest)?)?;
    let mut meta = transaction.open_table(META)?;
    meta.insert(HEAD, newest.head)?;
    meta.insert(BYTES, size(&log)?)?;
    Ok(())
}
