//! Certificates that people upload: whether they can serve what refers to them.

use config::resource::{Host, SecretRef};
use identity::{Facts, KeyedCertificate};
use thiserror::Error;
use time::OffsetDateTime;

use crate::sync::secrets::reference_of;

/// Why an uploaded certificate is refused.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum UploadFault {
    #[error("{0}")]
    Chain(identity::pem::PemError),
    #[error("the certificate expired at {0}: upload a newer one")]
    Expired(OffsetDateTime),
    #[error("the certificate is not valid before {0}: wait, or check this machine's clock")]
    Early(OffsetDateTime),
    #[error("{0}")]
    Key(identity::keyed::KeyedError),
    #[error("the type of the private key is not one that TLS can use (ECDSA P-256 or P-384, Ed25519, RSA)")]
    KeyType,
}

impl UploadFault {
    /// Where in the manifest the fault is.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match self {
            UploadFault::Chain(_) | UploadFault::Expired(_) | UploadFault::Early(_) => "spec.certificate",
            UploadFault::Key(_) | UploadFault::KeyType => "spec.key",
        }
    }
}

/// Checks a chain and its key, both in PEM, and returns the reference by which the key is found.
///
/// # Errors
/// When either cannot be read, they are no pair, or the certificate is not in its life.
pub fn check_upload(chain: &str, key: &str, now: OffsetDateTime) -> Result<SecretRef, UploadFault> {
    identity::pem::decode_certificates(chain).map_err(UploadFault::Chain)?;
    let certificate = KeyedCertificate::from_pem(chain, key).map_err(UploadFault::Key)?;
    let facts = certificate.facts();
    match () {
        () if now > facts.not_after => Err(UploadFault::Expired(facts.not_after)),
        () if now < facts.not_before => Err(UploadFault::Early(facts.not_before)),
        () => reference_of(key).ok_or(UploadFault::KeyType),
    }
}

/// Whether the first certificate of a chain in PEM is good for a host.
#[must_use]
pub fn covers(chain: &str, host: &Host) -> bool {
    let leaf = identity::pem::decode_certificates(chain).ok().and_then(|chain| chain.into_iter().next());
    leaf.and_then(|leaf| Facts::read(&leaf).ok()).is_some_and(|facts| facts.covers(host.as_str()))
}
