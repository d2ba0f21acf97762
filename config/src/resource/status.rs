//! What became of a resource: conditions, computed and never written by people.

use serde::{Deserialize, Serialize};

/// The conditions of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The revision of the desired state in which the resource was last changed.
    #[serde(default)]
    pub revision: u64,
    /// One of each type at most.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One statement about a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the statement is about: `Ready`, `ResolvedRefs`, `Overlap`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as one word for programs.
    pub reason: String,
    /// Why, as a sentence for people, with the remedy where there is one.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It doesn't.
    False,
    /// It cannot be told now.
    Unknown,
}
