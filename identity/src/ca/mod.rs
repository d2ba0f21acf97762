//! The certificate authorities, one type per level, so that each can sign only what is its own to sign.

mod authority;
mod control;
mod gns;
mod issuing;
mod lifetimes;
mod top_level;

use rustls_pki_types::CertificateDer;
use thiserror::Error;

pub use control::ControlCa;
pub use gns::{GnsCa, Territory};
pub use issuing::IssuingCa;
pub use lifetimes::{LifetimeError, Lifetimes, renew_at};
pub use top_level::TopLevelCa;

use crate::facts::FactsError;
use crate::key::KeyError;
use crate::pem::PemError;
use crate::spiffe::{SpiffeError, SpiffeId};

/// OU of the top-level CA's subject; its CN is the mesh.
pub(crate) const TOP_LEVEL_UNIT: &str = "tombolo top-level";
/// OU of a GNS CA's subject; its CN is the trust domain.
pub(crate) const GNS_UNIT: &str = "tombolo global namespace";
/// OU of an issuing CA's subject; its CN is the cluster, its O the trust domain. Verifiers read all three.
pub(crate) const ISSUING_UNIT: &str = "tombolo issuing";
/// OU of a cluster control CA's subject; its CN is the cluster, its O the mesh.
pub(crate) const CONTROL_UNIT: &str = "tombolo cluster control";

/// Why an authority cannot be made, or does not sign.
#[derive(Debug, Error)]
pub enum CaError {
    /// The authority's own certificate is no longer, or not yet, valid.
    #[error("the certificate authority {0:?} is not in its life now; renew it, or check this machine's clock")]
    NotAlive(String),
    /// A request for what another authority signs.
    #[error("{0} is not this authority's to sign for")]
    NotOurs(SpiffeId),
    /// The stored or received certificate is of another kind.
    #[error("the certificate is not that of an authority of kind {0:?}")]
    Kind(&'static str),
    /// Certificate and key are no pair.
    #[error("the private key is not that of the authority's certificate")]
    Mismatch,
    /// A name that cannot be in a certificate.
    #[error("{0:?} is no DNS name or IP address that can be in a certificate")]
    HostName(String),
    /// No names at all.
    #[error("a server certificate needs at least one host")]
    NoHost,
    /// A lifetime that cannot be.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] SpiffeError),
    /// Damaged certificate.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// Damaged or no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No certificate in the PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The signing itself failed.
    #[error("the certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
}

/// A certificate with those that lead to, but exclude, its root; leaf first.
pub type Chain = Vec<CertificateDer<'static>>;
