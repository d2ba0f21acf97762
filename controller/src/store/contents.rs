//! All that a store holds, and its form as a backup: lines of JSON, the last of which has the SHA-256 of those before.
//!
//! Secrets are in it as they are in the store: sealed. The key that seals them is not.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Desired, Gap, History, Owner, Revision};
use crate::sync::secrets::hex;

/// The form of backups; changes when older versions could not read it.
const FORMAT: u64 = 1;

/// After a restore revisions go on at the next multiple of this, or the one after: at least half of it further.
const BEYOND: u64 = 100_000;

/// All that a store holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// The desired state and its past.
    pub history: History,
    /// The small records, by table and key.
    pub records: BTreeMap<(String, String), Vec<u8>>,
}

/// Why a file is no backup to restore.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BackupError {
    /// It is something else.
    #[error("it is no backup of tombolo: {0}")]
    NoBackup(String),
    /// A newer version made it.
    #[error("it is a backup of form {0}, and this version of tombolo reads {FORMAT}: use the newer version")]
    Newer(u64),
    /// It doesn't end as it should.
    #[error("it is cut off, {0}: take another copy of it")]
    Cut(&'static str),
    /// Its bytes are not those that were written.
    #[error("it is damaged: its SHA-256 is {found}, and should be {expected}; take another copy of it")]
    Damaged {
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A line that makes no sense.
    #[error("its line {0} makes no sense, though it is as it was written: {1}")]
    Nonsense(usize, String),
    /// A revision is missing.
    #[error("it is not whole, though it is as it was written: {0}")]
    Gap(#[from] Gap),
}

/// One line of a backup.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Line {
    Backup { format: u64, release: String, revision: u64 },
    Base(Desired),
    Step(u64, Revision),
    Record { table: String, key: String, value: String },
    End { sha256: String },
}

impl Contents {
    /// As it goes on after a restore at that time (seconds since 1970): with a revision far beyond those that there may
    /// have been since the backup, which members have perhaps acknowledged;
    /// and beyond `known`, which there was for certain.
    #[must_use]
    pub fn restored(mut self, at: i64, known: u64) -> Self {
        let from = self.history.head();
        let number = from.max(known).saturating_add(BEYOND / 2) / BEYOND * BEYOND + BEYOND;
        let step = Revision::new(at, Owner::Api, "tombolo restore", &format!("restore of revision {from}"));
        self.history.steps.push((number, Revision { after: Some(from), ..step }));
        self
    }

    /// As a backup.
    ///
    /// # Errors
    /// When something has no JSON form; everything has.
    pub fn to_backup(&self) -> Result<Vec<u8>, serde_json::Error> {
        let revision = self.history.head();
        let mut text = Vec::new();
        write(&mut text, &Line::Backup { format: FORMAT, release: env!("CARGO_PKG_VERSION").to_owned(), revision })?;
        write(&mut text, &Line::Base(self.history.base.clone()))?;
        for (number, step) in &self.history.steps {
            write(&mut text, &Line::Step(*number, step.clone()))?;
        }
        for ((table, key), value) in &self.records {
            let (table, key, value) = (table.clone(), key.clone(), STANDARD.encode(value));
            write(&mut text, &Line::Record { table, key, value })?;
        }
        let end = Line::End { sha256: hex(digest(&SHA256, &text).as_ref()) };
        write(&mut text, &end)?;
        Ok(text)
    }

    /// What a backup holds; all of it is checked.
    ///
    /// # Errors
    /// Why it is no sound backup.
    pub fn of_backup(bytes: &[u8]) -> Result<Self, BackupError> {
        check_form(bytes)?;
        check_end(bytes)?;
        let mut contents = Contents::default();
        for (i, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let nonsense = |reason: String| BackupError::Nonsense(i + 1, reason);
            let line: Line = serde_json::from_slice(line).map_err(|error| nonsense(error.to_string()))?;
            contents.take(line).map_err(nonsense)?;
        }
        contents.history.newest()?;
        Ok(contents)
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Backup { .. } | Line::End { .. } => {}
            Line::Base(base) => self.history.base = base,
            Line::Step(number, step) => self.history.steps.push((number, step)),
            Line::Record { table, key, value } => {
                let value = STANDARD.decode(value).map_err(|error| error.to_string())?;
                self.records.insert((table, key), value);
            }
        }
        Ok(())
    }
}

fn write(text: &mut Vec<u8>, line: &Line) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// The first line, read leniently: it has to be understood also where the rest isn't.
fn check_form(bytes: &[u8]) -> Result<(), BackupError> {
    #[derive(Deserialize)]
    struct First {
        backup: Form,
    }
    #[derive(Deserialize)]
    struct Form {
        format: u64,
    }
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let First { backup: Form { format } } =
        serde_json::from_slice(first).map_err(|error| BackupError::NoBackup(error.to_string()))?;
    if format == FORMAT { Ok(()) } else { Err(BackupError::Newer(format)) }
}

fn check_end(bytes: &[u8]) -> Result<(), BackupError> {
    let body = bytes.strip_suffix(b"\n").ok_or(BackupError::Cut("in the middle of a line"))?;
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (before, last) = (bytes.get(..start).unwrap_or_default(), body.get(start..).unwrap_or_default());
    let Ok(Line::End { sha256: expected }) = serde_json::from_slice(last) else {
        return Err(BackupError::Cut("before its last line"));
    };
    let found = hex(digest(&SHA256, before).as_ref());
    if found == expected { Ok(()) } else { Err(BackupError::Damaged { found, expected }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn contents() -> Contents {
        let step = Revision::new(1, Owner::Api, "ada", "apply");
        let history = History { base: Desired::default(), steps: vec![(1, step.clone()), (2, step)] };
        let records = [(("tokens".to_owned(), "a\n\"b".to_owned()), vec![0, 255, 10])];
        Contents { history, records: records.into() }
    }

    #[test]
    fn a_backup_is_read_back_as_it_was() {
        assert_eq!(Contents::of_backup(&contents().to_backup().unwrap()).unwrap(), contents());
        assert_eq!(Contents::of_backup(&Contents::default().to_backup().unwrap()).unwrap(), Contents::default());
    }

    #[test]
    fn after_a_restore_revisions_are_beyond_those_that_were() {
        let restored = contents().restored(5, 0);
        assert_eq!(restored.history.head(), 100_000);
        assert_eq!(restored.history.newest().unwrap().resources, contents().history.newest().unwrap().resources);
        let again = restored.restored(6, 0);
        assert_eq!(again.history.head(), 200_000);
        assert_eq!(Contents::of_backup(&again.to_backup().unwrap()).unwrap(), again);
        // The same backup once more, after work on what it was restored to.
        assert_eq!(contents().restored(6, 100_050).history.head(), 200_000);
        let mut late = contents();
        late.history.base.head = 50_000;
        late.history.steps.clear();
        assert_eq!(late.restored(7, 0).history.head(), 200_000);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let backup = contents().to_backup().unwrap();
        for length in 0..backup.len() {
            assert!(Contents::of_backup(backup.get(..length).unwrap()).is_err(), "cut at {length}");
        }
        for bit in 0..backup.len() * 8 {
            let mut flipped = backup.clone();
            flipped.iter_mut().skip(bit / 8).take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
            assert!(Contents::of_backup(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_backup_or_a_newer_one_is_told_so() {
        let of = |text: &str| Contents::of_backup(text.as_bytes()).unwrap_err().to_string();
        assert!(of("hello").contains("no backup of tombolo"));
        let newer = "{\"backup\":{\"format\":2,\"compression\":\"zstd\"}}\n";
        assert!(of(newer).contains("of form 2") && of(newer).contains("use the newer version"));
    }

    #[test]
    fn a_backup_with_a_step_missing_is_refused() {
        let mut torn = contents();
        torn.history.steps.remove(0);
        let error = Contents::of_backup(&torn.to_backup().unwrap()).unwrap_err().to_string();
        assert!(error.contains("does not follow"), "{error}");
    }
}
