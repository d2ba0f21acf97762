//! The requests and answers of enrolment and of renewal, at the controller and at the agent.

use std::collections::BTreeMap;

use config::resource::Name;
use config::wire::{MemberRole, Order};
use serde::{Deserialize, Serialize};

/// No request of these is longer, in bytes: strangers may send them too.
pub const MAX_REQUEST: usize = 64 * 1024;

/// `POST /v1alpha1/join`, at the controller: a cluster asks to be in the mesh.
pub const JOIN: &str = "/v1alpha1/join";
/// `POST /v1alpha1/issuing`, at the controller: an agent asks for its issuing CA in a GNS.
pub const ISSUING: &str = "/v1alpha1/issuing";
/// `POST /v1alpha1/renew`, at both: the certificate that the caller shows gets a successor.
pub const RENEW: &str = "/v1alpha1/renew";
/// `POST /v1alpha1/enrol`, at the agent: a data plane asks to be a member.
pub const ENROL: &str = "/v1alpha1/enrol";
/// `POST /v1alpha1/identity`, at the agent: a gateway asks for its identity in a GNS.
pub const IDENTITY: &str = "/v1alpha1/identity";

/// `POST /v1alpha1/workload`, at the agent: a workload's certificate.
pub const WORKLOAD: &str = "/v1alpha1/workload";

/// Asks to be in the mesh. Has no `Debug`: the secret belongs in no log.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// The token's secret.
    pub secret: String,
    /// The cluster's name.
    pub cluster: Name,
    /// The request for the agent's certificate, in PEM.
    pub csr: String,
    /// The cluster's labels: its region, its zone.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Take the place of a cluster of that name which is already in the mesh.
    #[serde(default)]
    pub replace: bool,
}

/// The cluster is in the mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The agent's certificate chain in PEM, its own first.
    pub certificate: String,
    /// The mesh's name.
    pub mesh: String,
    /// The top-level CA's certificates in PEM: one, or two while it is being replaced.
    pub ca: String,
    /// By which order the certificate was issued.
    #[serde(default)]
    pub order: Order,
}

/// Asks for this cluster's issuing CA in a GNS, or for a gateway's identity in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certify {
    /// The GNS.
    pub global_namespace: Name,
    /// The request in PEM.
    pub csr: String,
    /// Only this order will do, because a good certificate of another is held; without it any will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// A certificate and those that lead to its root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certified {
    /// In PEM, the asked-for certificate first.
    pub chain: String,
    /// By which order it was issued.
    #[serde(default)]
    pub order: Order,
}

/// Asks for a successor of the certificate that the caller shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renew {
    /// The request in PEM.
    pub csr: String,
}

/// The successor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renewed {
    /// The chain in PEM, its own certificate first.
    pub certificate: String,
    /// By which order it was issued.
    #[serde(default)]
    pub order: Order,
}

/// Asks to be a member. Has no `Debug`: the secret belongs in no log.
#[derive(Clone, Serialize, Deserialize)]
pub struct Enrol {
    /// The member token's secret.
    pub secret: String,
    /// The member's name, unique in its cluster.
    pub name: Name,
    /// Gateway or DNS server.
    pub role: MemberRole,
    /// The request for the member's certificate, in PEM.
    pub csr: String,
}

/// The data plane is a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// The member's certificate chain in PEM, its own first.
    pub certificate: String,
    /// The cluster control CA's certificate in PEM.
    pub ca: String,
    /// The cluster.
    pub cluster: Name,
    /// The mesh's name.
    pub mesh: String,
    /// By which order the certificate was issued.
    #[serde(default)]
    pub order: Order,
}

/// Asks for the certificate of a workload of the cluster. Has no `Debug`: the secret belongs in no log.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssueWorkload {
    /// The member token's secret.
    pub secret: String,
    /// The GNS.
    pub global_namespace: Name,
    /// The service's namespace.
    pub namespace: Name,
    /// The service.
    pub service: Name,
    /// The request in PEM.
    pub csr: String,
}

/// A workload's certificate, and whom it should believe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IssuedWorkload {
    /// In PEM, its own first, then its issuing CA's.
    pub chain: String,
    /// The roots of its GNS in PEM.
    pub bundle: String,
    /// Those of other GNSs in which it may call something, by their trust domains.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub federated: BTreeMap<String, String>,
}

/// A refused request: every error at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Errors {
    /// At least one.
    pub errors: Vec<ErrorItem>,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorItem {
    /// The resource, where the error is one resource's.
    #[serde(default)]
    pub id: Option<String>,
    /// Where in the resource.
    #[serde(default)]
    pub path: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl ErrorItem {
    /// An error that is no resource's.
    pub fn of(message: impl Into<String>) -> Self {
        ErrorItem { id: None, path: String::new(), message: message.into() }
    }
}

impl Errors {
    /// One error that is no resource's.
    pub fn one(message: impl Into<String>) -> Self {
        Errors { errors: vec![ErrorItem::of(message)] }
    }
}
