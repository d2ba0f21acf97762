//! Certificates with their private keys, ready to serve.

use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::facts::{Facts, FactsError};
use crate::key::PrivateKey;
use crate::pem::{self, PemError};
use crate::refusal::Refusal;
use crate::spiffe::SpiffeId;
use crate::verify::id_of;

/// Why certificate and key are no pair to serve with.
#[derive(Debug, Error)]
pub enum KeyedError {
    /// No PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Damaged.
    #[error("the certificate cannot be read: {0}")]
    Certificate(#[from] FactsError),
    /// No certificate.
    #[error("the chain has no certificate")]
    Empty,
    /// A key of a type that TLS does not sign with.
    #[error("the private key is not of a type that TLS can use (ECDSA P-256 or P-384, Ed25519, RSA from 2048 bits)")]
    Key,
    /// Not a pair.
    #[error("the private key is not that of the certificate with SHA-256 {0}; the leaf must come first in its chain")]
    Mismatch(String),
    /// An identity's certificate must name one.
    #[error("the certificate is no identity: {0}")]
    Identity(#[from] Refusal),
}

/// A chain, leaf first, with the private key of its leaf. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyedCertificate {
    certified: Arc<CertifiedKey>,
    facts: Arc<Facts>,
}

impl KeyedCertificate {
    /// Read what a user uploads: a chain in PEM, and a key in PEM (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// When either is damaged, or they are no pair. Dates and hosts are the caller's to check, by [`Self::facts`].
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, KeyedError> {
        Self::from_der(pem::decode_certificates(chain)?, &*pem::decode_key(key)?)
    }

    /// Join a chain with the key that its leaf was issued for.
    ///
    /// # Errors
    /// When the leaf is damaged, or they are no pair.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<Self, KeyedError> {
        Self::from_der(chain, &key.to_der())
    }

    fn from_der(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<Self, KeyedError> {
        let facts = Facts::read(chain.first().ok_or(KeyedError::Empty)?)?;
        let key = any_supported_type(key).map_err(|_| KeyedError::Key)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| KeyedError::Mismatch(facts.fingerprint.clone()))?;
        Ok(Self { certified: Arc::new(certified), facts: Arc::new(facts) })
    }

    /// What the leaf says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// As rustls wants it.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// A [`KeyedCertificate`] that names its holder: what a process shows in mutual TLS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    keyed: KeyedCertificate,
    id: SpiffeId,
}

impl Identity {
    /// The identity that the leaf of this pair names.
    ///
    /// # Errors
    /// When the leaf has not exactly one URI that is a SPIFFE ID.
    pub fn new(keyed: KeyedCertificate) -> Result<Self, KeyedError> {
        let id = id_of(keyed.facts())?;
        Ok(Self { keyed, id })
    }

    /// The holder's name.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Chain and key.
    #[must_use]
    pub fn keyed(&self) -> &KeyedCertificate {
        &self.keyed
    }
}
