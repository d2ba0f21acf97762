//! The nouns of Tombolo, one to a file: what people write and what agents see.
//!
//! Parsing here is lenient (a process must understand a newer peer); what people write is checked more strictly by
//! [`manifest`](crate::manifest).

pub mod access_policy;
pub mod certificate;
pub mod cluster;
pub mod global_namespace;
pub mod health_check;
pub mod id;
pub mod name;
pub mod node;
pub mod public_service;
pub mod service;
pub mod span;
pub mod status;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use access_policy::AccessPolicySpec;
pub use certificate::{CertificateSpec, SecretRef};
pub use cluster::{Address, ClusterSpec, GatewayAddresses, Workloads};
pub use global_namespace::{CertificateLifetimes, GlobalNamespaceSpec, HostPattern, Matcher, MemberRow, MtlsMode};
pub use health_check::{HealthCheck, HealthProtocol};
pub use id::{Kind, ResourceId, ResourceIdError};
pub use name::{Host, Name, NameError};
pub use node::NodeSpec;
pub use public_service::{
    CertificateSource, HostEntry, PublicRoute, PublicServiceSpec, PublicTls, RoutePath, Scheme, TlsMode,
};
pub use service::{Instance, InstanceTls, Port, Protocol, ProxyProtocol, ServiceSpec, Version};
pub use span::Span;
pub use status::{Condition, ConditionStatus, Status};

/// The version of the manifests' language.
pub const API_VERSION: &str = "tombolo.dev/v1alpha1";

/// One resource: who it is, what labels it carries, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// What makes it this resource.
    pub id: ResourceId,
    /// Free labels, by which resources are picked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is wanted, or, for what an agent discovers, what is.
    pub spec: Spec,
}

/// What each kind says. The variant always agrees with [`Resource::id`]: both are made in one place, the manifest
/// reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // each is documented where its spec is
pub enum Spec {
    Cluster(ClusterSpec),
    Node(NodeSpec),
    Service(ServiceSpec),
    GlobalNamespace(GlobalNamespaceSpec),
    PublicService(PublicServiceSpec),
    Certificate(CertificateSpec),
    AccessPolicy(AccessPolicySpec),
}
