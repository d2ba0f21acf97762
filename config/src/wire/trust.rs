//! Certificates, as those who hold them tell of them: what is to be held now, what is held, and whom one believes.

use serde::{Deserialize, Serialize};

use crate::resource::Name;

/// Which certificates are to be held now. Whoever holds others asks for new ones; those that it holds stay good.
///
/// The numbers only ever grow; each growth is somebody's wish that a level be issued anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    /// SHA-256 of the root that signs now, in lower-case hexadecimal; empty where that isn't known.
    #[serde(default)]
    pub root: String,
    /// How often the issuing CA was ordered anew.
    #[serde(default)]
    pub issuing: u64,
    /// How often leaves were ordered anew; 0 for an issuing CA.
    #[serde(default)]
    pub leaf: u64,
}

impl Order {
    /// The same without what concerns leaves only.
    #[must_use]
    pub fn of_issuing(&self) -> Order {
        Order { leaf: 0, ..self.clone() }
    }
}

/// Whom a process believes in one trust domain, and what it shows there itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustReport {
    /// The GNS; nothing for the control plane, where an agent believes its controller and a member its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_namespace: Option<Name>,
    /// SHA-256 of the roots that it acts on, in lower-case hexadecimal.
    pub roots: Vec<String>,
    /// What it holds; nothing until it has been issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateReport>,
    /// From an agent: what the certificates of its cluster's workloads need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadsReport>,
    /// From an agent: what workloads of other GNSs need that may call something in this one, and so believe in it. They
    /// are below nothing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visitors: Vec<WorkloadsReport>,
}

/// A cluster's control CA, as its agent tells of it: one root, or two while one takes the other's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlReport {
    /// The roots that members are to believe, the oldest first; the order of each names its own SHA-256.
    pub roots: Vec<CertificateReport>,
    /// SHA-256 of the one that signs, in lower-case hexadecimal.
    pub signing: String,
    /// Whether the one that takes its place is being made known, and does not sign yet.
    #[serde(default)]
    pub overlap: bool,
    /// The last order to replace it that was followed: [`Order::issuing`] of what the agent itself is to hold.
    pub turn: u64,
    /// Since when it is so far, in seconds since 1970.
    pub since: i64,
    /// The members that are waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Name>,
    /// Why the next step cannot be taken, as the last attempt had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Certificates of workloads, all that need the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadsReport {
    /// SHA-256 of the root that they are below, in lower-case hexadecimal.
    pub below: String,
    /// SHA-256 of the roots that were handed out with them, in the same form.
    pub roots: Vec<String>,
    /// When the last of them ends, in seconds since 1970.
    pub until: i64,
}

/// A certificate that is held. Moments are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateReport {
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Whom it proves, or whose authority it is.
    pub subject: String,
    /// Serial number of the issuing CA above it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// By which order it was issued.
    #[serde(default)]
    pub order: Order,
    /// From when it is good.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// When its successor is asked for.
    pub renews: i64,
}
