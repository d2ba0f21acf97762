//! Why the global controller doesn't do what it was asked.

use config::resource::ResourceId;
use identity::files::FileError;
use thiserror::Error;

use super::enrolment::EnrolmentError;
use super::token::TokenRefusal;
use crate::access::{Forbidden, TokenFault};
use crate::audit::AuditError;
use crate::ca::AuthorityError;
use crate::http::Stale;
use crate::http::message::ErrorItem;
use crate::store::StoreError;
use crate::vault::VaultError;

/// Why the global controller doesn't start, or doesn't do what it was asked.
#[derive(Debug, Error)]
pub enum Error {
    /// The batch is refused, for each of these reasons.
    #[error("refused: {}", .0.iter().map(|item| item.message.as_str()).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<ErrorItem>),
    /// No such resource.
    #[error("there is no {0}")]
    NotFound(ResourceId),
    /// A token that doesn't admit, or a cluster that cannot be admitted.
    #[error("{0}")]
    Refused(String),
    /// The caller's role doesn't allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The caller's role doesn't allow some of the batch, for each of these reasons.
    #[error("not allowed: {}", .0.iter().map(|item| item.message.as_str()).collect::<Vec<_>>().join("; "))]
    NotAllowed(Vec<ErrorItem>),
    /// No such token.
    #[error("{0}")]
    NoToken(String),
    /// What cannot be written down isn't done.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The caller's certificate counts no more.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// Too much is asked at once.
    #[error("{0}")]
    Busy(String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// An authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}; free the port, or choose another with --listen")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// An advertised name that is none.
    #[error("{0:?} is neither a host name nor an IP address: correct --advertise")]
    Advertised(String),
    /// Rustls.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A bug.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The system's refusal to read or write, where it is that.
    #[must_use]
    pub fn disk(&self) -> Option<&std::io::Error> {
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        let store = || self.store().and_then(StoreError::disk);
        store().or_else(|| causes.into_iter().find_map(|cause| cause.downcast_ref()))
    }

    fn store(&self) -> Option<&StoreError> {
        match self {
            Error::Store(error) | Error::Vault(VaultError::Store(error)) => Some(error),
            Error::Authority(AuthorityError::Store(error) | AuthorityError::Vault(VaultError::Store(error))) => {
                Some(error)
            }
            _ => None,
        }
    }
}

impl From<TokenRefusal> for Error {
    fn from(refusal: TokenRefusal) -> Self {
        match refusal {
            TokenRefusal::Store(error) => error.into(),
            other => Error::Refused(other.to_string()),
        }
    }
}

impl From<TokenFault> for Error {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Store(error) => error.into(),
            TokenFault::Unknown(_) => Error::NoToken(fault.to_string()),
            TokenFault::Randomness => Error::Internal(fault.to_string()),
            other => Error::Conflict(other.to_string()),
        }
    }
}

impl From<EnrolmentError> for Error {
    fn from(error: EnrolmentError) -> Self {
        match error {
            EnrolmentError::Store(error) => error.into(),
            EnrolmentError::Taken(_) => Error::Conflict(error.to_string()),
            other => Error::Refused(other.to_string()),
        }
    }
}
