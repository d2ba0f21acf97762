//! Steps of the world, cut into parts that fit a frame, and joined again. Nothing of a step counts before its last
//! part has come.

use config::wire::Entry;
use config::wire::frame::MAX_FRAME;

/// How long the entries of a part are at most, in bytes, unless one entry alone is longer.
const PART: usize = MAX_FRAME / 2;
/// What a frame needs beside its entries, at most.
const ENVELOPE: usize = 1024;
/// So many parts may a step have: a world is no larger than this times [`PART`].
const MAX_PARTS: usize = 128;

/// Cuts a step into parts: at least one, possibly empty. An entry that no frame can hold becomes its own removal, so
/// that it harms only its own scope.
pub(super) fn cut(changes: Vec<Entry>) -> Vec<Vec<Entry>> {
    let (mut parts, mut part, mut filled) = (Vec::new(), Vec::new(), 0);
    for mut entry in changes {
        let mut length = length(&entry);
        if length > MAX_FRAME - ENVELOPE {
            tracing::error!(key = %entry.key, length, "an entry is too long to be sent; split the resource");
            (entry.value, length) = (None, entry.key.len());
        }
        if filled > 0 && filled + length > PART {
            parts.push(std::mem::take(&mut part));
            filled = 0;
        }
        filled += length + 1;
        part.push(entry);
    }
    parts.push(part);
    parts
}

fn length(entry: &Entry) -> usize {
    serde_json::to_vec(entry).map_or(usize::MAX, |json| json.len())
}

/// Joins the parts of one step after another.
#[derive(Default)]
pub(super) struct Joiner {
    begun: bool,
    parts: usize,
    reset: bool,
    entries: Vec<Entry>,
}

/// Why parts make no step.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    #[error("a step of the world has more than {MAX_PARTS} parts")]
    TooLong,
    #[error("the stream doesn't begin with the whole world")]
    NoReset,
}

impl Joiner {
    /// Takes a part; returns whether the step is a reset, and its entries, once it is whole.
    pub(super) fn take(
        &mut self,
        reset: bool,
        last: bool,
        entries: Vec<Entry>,
    ) -> Result<Option<(bool, Vec<Entry>)>, JoinError> {
        if self.parts == 0 {
            self.reset = reset;
        }
        self.parts += 1;
        self.entries.extend(entries);
        match (last, self.begun || self.reset) {
            (_, false) => Err(JoinError::NoReset),
            (false, true) if self.parts >= MAX_PARTS => Err(JoinError::TooLong),
            (false, true) => Ok(None),
            (true, true) => {
                (self.begun, self.parts) = (true, 0);
                Ok(Some((self.reset, std::mem::take(&mut self.entries))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn entry(key: &str, length: usize) -> Entry {
        Entry { key: key.into(), value: Some(json!("x".repeat(length)).into()) }
    }

    #[test]
    fn parts_fit_and_join_to_what_was_cut() {
        let entries: Vec<_> = ["a", "b", "c", "d"].iter().map(|key| entry(key, PART * 2 / 5)).collect();
        let parts = cut(entries.clone());
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        let mut joiner = Joiner::default();
        let mut steps = parts.into_iter().enumerate().map(|(at, part)| joiner.take(true, at == 1, part).unwrap());
        assert_eq!(steps.next().unwrap(), None);
        assert_eq!(steps.next().unwrap(), Some((true, entries)));
    }

    #[test]
    fn an_overlong_entry_harms_only_itself() {
        let parts = cut(vec![entry("long", MAX_FRAME), entry("short", 1)]);
        let values: Vec<_> = parts.concat().into_iter().map(|e| (e.key, e.value.is_some())).collect();
        assert_eq!(values, [("long".to_owned(), false), ("short".to_owned(), true)]);
        assert_eq!(cut(vec![]), [vec![]]);
    }

    #[test]
    fn a_stream_begins_with_the_whole_and_a_step_ends() {
        assert!(matches!(Joiner::default().take(false, true, vec![]), Err(JoinError::NoReset)));
        let mut joiner = Joiner::default();
        let endless = (0..=MAX_PARTS).find_map(|_| joiner.take(true, false, vec![]).err());
        assert!(matches!(endless, Some(JoinError::TooLong)));
    }
}
