//! Private keys. They are made where they are used, and leave only as text to be sealed or written 0600.

use std::fmt;

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::pem::{self, PemError};

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// No randomness.
    #[error("the system gave no randomness for a key: {0}")]
    Generate(rcgen::Error),
    /// No PEM of a key.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not a key that we sign with.
    #[error("the private key is no PKCS #8 key of type ECDSA P-256, ECDSA P-384 or Ed25519")]
    Unsupported,
}

/// A private key. It has no `Clone` and no `Serialize`, its `Debug` is silent, and its encoded form is wiped when it
/// is dropped (the copy inside `ring` cannot be reached).
pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate().map(Self).map_err(KeyError::Generate)
    }

    /// Read a PKCS #8 key of a PEM text that may also hold certificates.
    ///
    /// # Errors
    /// When there is none, or it is of a type that we do not sign with.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem::decode_key(text)?;
        let key = KeyPair::try_from(&*der).map(Self).map_err(|_| KeyError::Unsupported)?;
        is_allowed(key.0.algorithm()).then_some(key).ok_or(KeyError::Unsupported)
    }

    /// The key as PKCS #8 in PEM.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", self.0.serialized_der())
    }

    /// The key as PKCS #8 in DER.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    pub(crate) fn to_der(&self) -> Zeroizing<PrivateKeyDer<'static>> {
        Zeroizing::new(PrivatePkcs8KeyDer::from(self.0.serialize_der()).into())
    }
}

/// The types of key that the mesh signs with and signs for. No RSA: nothing here needs it, and its signatures cost
/// twenty times as much.
pub(crate) fn is_allowed(algorithm: &SignatureAlgorithm) -> bool {
    [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519].contains(&algorithm)
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
