//! Steps of the world, cut into parts that fit a frame, and joined again. Nothing of a step counts before its last
//! part has come.

use std::iter::Peekable;

use config::wire::frame::MAX_FRAME;
use config::wire::{Entries, Entry};
use config::world;

use super::resume::Base;

/// How long the entries of a part are at least, in bytes, where more follow: what waits for a slow receiver is small.
const SHORT_PART: usize = 64 * 1024;
/// How long at most, unless one entry alone is longer.
const LONG_PART: usize = MAX_FRAME / 2;
/// What a frame needs beside its entries, at most.
const ENVELOPE: usize = 1024;
/// What an entry needs beside its key and its value.
const AROUND: usize = 32;
/// So many parts may a step have: a world is no larger than this times [`LONG_PART`].
const MAX_PARTS: usize = 128;
/// And so many bytes.
const MAX_BYTES: usize = MAX_PARTS * LONG_PART;

/// A step, cut into parts one after another: at least one, possibly empty. An entry that no frame can hold becomes its
/// own removal, so that it harms only its own scope.
pub(super) struct Parts<'s> {
    changes: Peekable<Box<dyn Iterator<Item = Entry> + Send + 's>>,
    size: usize,
    replaces: Vec<String>,
    reset: bool,
    done: bool,
}

/// A part of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) reset: bool,
    pub(super) replaces: Vec<String>,
    pub(super) last: bool,
    pub(super) entries: Vec<Entry>,
}

impl<'s> Parts<'s> {
    /// From what a receiver has to the newest.
    pub(super) fn of(base: &'s Base, newest: &'s Entries) -> Self {
        let changed = Entries::changes(&base.entries, newest, |one, other| one == other);
        let whole: usize =
            changed.map(|(key, value)| key.len() + AROUND + value.map_or(0, |value| value.as_str().len())).sum();
        let changes: Box<dyn Iterator<Item = Entry> + Send> = Box::new(world::changes(&base.entries, newest));
        // Parts are more than half full on average: twice as many as these would be too many.
        let size = (whole / (MAX_PARTS / 2 - 4)).clamp(SHORT_PART, LONG_PART);
        Parts { changes: changes.peekable(), size, replaces: base.replaces.clone(), reset: base.reset, done: false }
    }
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.done {
            return None;
        }
        let (mut entries, mut filled) = (Vec::new(), 0);
        while let Some(next) = self.changes.peek() {
            let length = length(next);
            if filled > 0 && filled + length > self.size {
                break;
            }
            filled += length;
            entries.extend(self.changes.next().map(fitting));
        }
        self.done = self.changes.peek().is_none();
        let replaces = std::mem::take(&mut self.replaces);
        Some(Part { reset: self.reset, replaces, last: self.done, entries })
    }
}

fn length(entry: &Entry) -> usize {
    entry.key.len() + AROUND + entry.value.as_ref().map_or(0, |value| value.as_str().len())
}

fn fitting(entry: Entry) -> Entry {
    let length = length(&entry);
    if length <= MAX_FRAME - ENVELOPE {
        return entry;
    }
    tracing::error!(key = %entry.key, length, "an entry is too long to be sent; split the resource");
    Entry { value: None, ..entry }
}

/// Joins the parts of one step after another.
#[derive(Default)]
pub(super) struct Joiner {
    begun: bool,
    parts: usize,
    bytes: usize,
    step: Step,
}

/// A whole step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Step {
    pub(super) reset: bool,
    pub(super) replaces: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

/// Why parts make no step.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    #[error("a step of the world has more than {MAX_PARTS} parts, or more than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the stream doesn't begin with the whole world")]
    NoReset,
}

impl Joiner {
    /// Of a stream that goes on where an earlier one ended.
    pub(super) fn resuming() -> Self {
        Joiner { begun: true, ..Joiner::default() }
    }

    /// Takes a part; returns the step once it is whole.
    pub(super) fn take(&mut self, part: Part) -> Result<Option<Step>, JoinError> {
        let Part { reset, replaces, last, entries } = part;
        if self.parts == 0 {
            self.step.reset = reset;
        }
        self.parts += 1;
        self.bytes += replaces.iter().map(|folder| folder.len() + AROUND).sum::<usize>();
        self.bytes += entries.iter().map(length).sum::<usize>();
        self.step.replaces.extend(replaces);
        self.step.entries.extend(entries);
        let too_long = self.bytes > MAX_BYTES || (!last && self.parts >= MAX_PARTS);
        match (last, self.begun || self.step.reset) {
            (_, false) => Err(JoinError::NoReset),
            (_, true) if too_long => Err(JoinError::TooLong),
            (false, true) => Ok(None),
            (true, true) => {
                (self.begun, self.parts, self.bytes) = (true, 0, 0);
                Ok(Some(std::mem::take(&mut self.step)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn world(entries: &[(&str, usize)]) -> Entries {
        entries.iter().map(|(key, length)| (*key, json!("x".repeat(*length)).into())).collect()
    }

    fn cut(newest: &Entries) -> Vec<Part> {
        Parts::of(&Base::nothing(), newest).collect()
    }

    fn part(reset: bool, last: bool) -> Part {
        Part { reset, replaces: vec![], last, entries: vec![] }
    }

    #[test]
    fn parts_fit_and_join_to_what_was_cut() {
        let newest = world(&[("a", SHORT_PART / 2), ("b", SHORT_PART / 3), ("c", SHORT_PART / 2), ("d", 1)]);
        let parts = cut(&newest);
        assert_eq!(parts.iter().map(|part| part.entries.len()).collect::<Vec<_>>(), [2, 2]);
        let mut joiner = Joiner::default();
        let mut steps = parts.into_iter().map(|part| joiner.take(part).unwrap());
        assert_eq!(steps.next().unwrap(), None);
        let entries = world::diff(&Entries::new(), &newest);
        assert_eq!(steps.next().unwrap(), Some(Step { reset: true, replaces: vec![], entries }));
    }

    #[test]
    fn a_large_world_has_no_more_parts_than_are_taken() {
        let keys: Vec<String> = (0..400).map(|at| format!("k{at}")).collect();
        let newest: Vec<_> = keys.iter().map(|key| (key.as_str(), SHORT_PART / 2 + 7)).collect();
        let parts = cut(&world(&newest));
        assert!((60..MAX_PARTS).contains(&parts.len()), "{}", parts.len());
        let longest = parts.iter().map(|part| part.entries.iter().map(length).sum::<usize>()).max();
        assert!(longest.unwrap() < 5 * SHORT_PART, "{longest:?}");
    }

    #[test]
    fn an_overlong_entry_harms_only_itself() {
        let entries = cut(&world(&[("long", MAX_FRAME), ("short", 1)])).into_iter().flat_map(|part| part.entries);
        let values: Vec<_> = entries.map(|entry| (entry.key, entry.value.is_some())).collect();
        assert_eq!(values, [("long".to_owned(), false), ("short".to_owned(), true)]);
        assert_eq!(cut(&Entries::new()), [part(true, true)]);
    }

    #[test]
    fn what_is_replaced_stands_in_the_first_part() {
        let newest = world(&[("a", SHORT_PART), ("b", SHORT_PART)]);
        let base = Base { entries: Arc::default(), reset: false, replaces: vec!["x".into()] };
        let mut joiner = Joiner::resuming();
        let steps: Vec<_> = Parts::of(&base, &newest).map(|part| joiner.take(part).unwrap()).collect();
        assert!(matches!(steps.as_slice(), [None, Some(step)] if step.replaces == ["x"] && !step.reset), "{steps:?}");
    }

    #[test]
    fn a_stream_begins_with_the_whole_and_a_step_ends() {
        assert!(matches!(Joiner::default().take(part(false, true)), Err(JoinError::NoReset)));
        let mut joiner = Joiner::default();
        let endless = (0..=MAX_PARTS).find_map(|_| joiner.take(part(true, false)).err());
        assert!(matches!(endless, Some(JoinError::TooLong)));
        let heavy = Part { entries: world::diff(&Entries::new(), &world(&[("a", MAX_FRAME)])), ..part(true, false) };
        let mut joiner = Joiner::default();
        let endless = (0..MAX_PARTS).find_map(|_| joiner.take(heavy.clone()).err());
        assert!(matches!(endless, Some(JoinError::TooLong)), "before it has as many parts as a step may have");
        let heavy = Part { replaces: vec!["x".repeat(MAX_FRAME); 4], ..part(true, false) };
        let mut joiner = Joiner::default();
        let endless = (0..MAX_PARTS / 4).find_map(|_| joiner.take(heavy.clone()).err());
        assert!(matches!(endless, Some(JoinError::TooLong)), "the names of what is replaced count, too");
    }
}
