//! What became of a resource: conditions, computed and never written by people.

use serde::{Deserialize, Serialize};

/// The conditions of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The revision of the desired state in which the resource was last changed.
    #[serde(default)]
    pub revision: u64,
    /// The revision on which every member that must serve the resource acts, as far as is known, and no more than
    /// `revision`: the two are equal once all act on it. Nothing while there are no such members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    /// The clusters and members (`CLUSTER/MEMBER`) that left without a word: they are not waited for, but may still serve
    /// something older.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
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
