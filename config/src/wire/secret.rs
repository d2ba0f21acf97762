//! A secret on its way from the vault to a gateway.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::resource::SecretRef;

/// A private key and the reference by which its certificate finds it. It cannot be printed or serialised; it crosses
/// the wire only as a frame of its own, and is wiped from memory when the last holder lets it go.
#[derive(Clone)]
pub struct Secret {
    reference: SecretRef,
    pem: Arc<Zeroizing<String>>,
}

impl Secret {
    /// Holds the PEM text of a private key.
    pub fn new(reference: SecretRef, pem: Zeroizing<String>) -> Self {
        Secret { reference, pem: Arc::new(pem) }
    }

    /// By which it is found.
    pub fn reference(&self) -> &SecretRef {
        &self.reference
    }

    /// The key in PEM. Do not keep copies.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

impl PartialEq for Secret {
    /// Equal references mean the same secret.
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference
    }
}
