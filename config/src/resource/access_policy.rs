//! An access policy: which services of other global namespaces may call those of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::Name;

/// Lets services of other global namespaces call services of its own. Within a global namespace nothing is refused, and
/// from another everything is that no policy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct AccessPolicySpec {
    /// The global namespace whose services may be called.
    pub global_namespace: Name,
    /// What becomes of the calls.
    #[serde(default)]
    pub action: Action,
    /// Who calls: any of these.
    pub from: Vec<AccessSource>,
    /// What is called: any of these; when empty, every service of the global namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<AccessTarget>,
}

/// What becomes of calls that a policy is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// They are let through.
    #[default]
    Allow,
    /// They are refused. Not supported yet.
    Deny,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct AccessSource {
    /// Its global namespace.
    pub global_namespace: Name,
    /// Its service; when absent, any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct AccessTarget {
    /// The service.
    pub service: Name,
}

impl AccessPolicySpec {
    /// Whether it is about calls of that service.
    pub fn opens(&self, service: &Name) -> bool {
        self.to.is_empty() || self.to.iter().any(|target| target.service == *service)
    }
}
