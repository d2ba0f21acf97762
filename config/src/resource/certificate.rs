//! A certificate for public hosts. Its key never stands in a resource.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::Name;

/// A certificate chain that people upload for public hosts. In a manifest its private key stands beside it, as
/// `key`; applying moves the key into the vault and leaves the reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct CertificateSpec {
    /// The GNS whose public services may use it.
    pub global_namespace: Name,
    /// The chain in PEM, the host's own certificate first.
    pub certificate: Arc<str>,
    /// Where its key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Points at a secret in the vault. Two equal references mean the same secret, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct SecretRef {
    /// SHA-256 of the public key (the DER SubjectPublicKeyInfo) in lower-case hexadecimal: so a key meets its
    /// certificate, and a certificate never serves with another's key.
    pub key_sha256: Arc<str>,
}
