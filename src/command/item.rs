//! A resource as the controller shows it. Read leniently: the controller may be newer.

use config::resource::{Condition, ConditionStatus, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::output::printable;

/// A manifest with its status.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Item(Value);

impl Item {
    /// The manifest, as it came.
    pub fn manifest(&self) -> &Value {
        &self.0
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// The last part of what it is known by.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// What scopes the name, outermost first, with `/` between; empty where the name counts in the whole mesh.
    pub fn scope(&self) -> String {
        let parts = ["/metadata/cluster", "/metadata/namespace", "/spec/globalNamespace"].map(|at| self.text(at));
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// `KIND/…/NAME`.
    pub fn id(&self) -> String {
        let scope = self.scope();
        let parts = [self.kind(), &scope, self.name()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// What became of it; nothing for what an agent saw.
    pub fn status(&self) -> Option<Status> {
        Status::deserialize(self.0.get("status")?).ok()
    }

    /// Who wrote it; nothing for what an agent saw.
    pub fn managed_by(&self) -> Option<&str> {
        self.0.pointer("/status/managedBy").and_then(Value::as_str)
    }

    /// Whether every member that must serve it does.
    pub fn ready(&self) -> Option<Condition> {
        self.status()?.conditions.into_iter().find(|condition| condition.kind == "Ready")
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Many of them as one manifest, which can be applied again.
pub fn list(items: &[Item]) -> Value {
    let items: Vec<&Value> = items.iter().map(Item::manifest).collect();
    json!({ "apiVersion": config::resource::API_VERSION, "kind": "List", "items": items })
}

/// As people read it.
pub fn word(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    }
}

/// One line on a condition: `Ready=False UnknownService: …`.
pub fn sentence(condition: &Condition) -> String {
    let Condition { kind, status, reason, message } = condition;
    printable(&format!("{kind}={} {reason}: {message}", word(*status)))
}
