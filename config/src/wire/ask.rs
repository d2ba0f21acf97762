//! Questions to those who follow the world, and what comes back. They pass the layers between unread, as entries do.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Json;
use crate::resource::Name;

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// By which the answer is known, on this stream.
    pub id: u64,
    /// To an agent: which of its members is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Name>,
    /// How long the answer is waited for, in milliseconds.
    pub within_ms: u64,
    /// What is asked.
    pub question: Json,
}

/// What an agent is asked itself, rather than a member of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The member that is gone for good, and waited for no more.
    pub forget: Name,
}

/// What an agent answers to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Untrue of a member that is connected.
    pub forgotten: bool,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// That of the question.
    pub id: u64,
    /// What it is.
    pub outcome: Outcome,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was answered.
    Answered(Json),
    /// It was not.
    Unanswered(Unanswered),
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unanswered {
    /// Whoever is asked isn't connected.
    Away,
    /// No answer came in time.
    Late,
    /// It is asked too much at once.
    Busy,
    /// It knows no such questions.
    Unable,
    /// The question or the answer is longer than is passed on.
    TooLong,
    /// A reason that this release doesn't know.
    #[serde(other)]
    Other,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unanswered::Away => "it is not connected",
            Unanswered::Late => "it did not answer in time",
            Unanswered::Busy => "it is asked too much at once",
            Unanswered::Unable => "its release answers no such questions",
            Unanswered::TooLong => "the question, or its answer, is too long to be passed on",
            Unanswered::Other => "it gives a reason that this release does not know",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{Down, Up};

    #[test]
    fn what_a_newer_release_says_is_known_for_unknown() {
        let down: Down = serde_json::from_value(json!({"type": "dance", "steps": [1]})).unwrap();
        let up: Up = serde_json::from_value(json!({"type": "sing"})).unwrap();
        assert_eq!((down, up), (Down::Unknown, Up::Unknown));
        let outcome: Outcome = serde_json::from_value(json!({"unanswered": "asleep"})).unwrap();
        assert_eq!(outcome, Outcome::Unanswered(Unanswered::Other));
    }

    #[test]
    fn a_question_passes_unread() {
        let question = json!({"kind": "newer", "x": [1, 2]});
        let ask = Ask { id: 7, member: None, within_ms: 5, question: question.clone().into() };
        let said = serde_json::to_value(Down::Ask(ask.clone())).unwrap();
        assert_eq!(said, json!({"type": "ask", "id": 7, "withinMs": 5, "question": question}));
        assert_eq!(serde_json::from_value::<Down>(said).unwrap(), Down::Ask(ask));
        let answer = Answer { id: 7, outcome: Outcome::Answered(Json::from(Value::Null)) };
        let said = serde_json::to_value(Up::Answer(answer.clone())).unwrap();
        assert_eq!(serde_json::from_value::<Up>(said).unwrap(), Up::Answer(answer));
    }
}
