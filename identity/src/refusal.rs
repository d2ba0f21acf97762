//! Every reason to refuse a peer's certificate.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};
use thiserror::Error;

use crate::facts::FactsError;
use crate::spiffe::{RoleKind, SpiffeError, SpiffeId, TrustDomain};

/// Why a peer was refused. The text is for this side's log; the peer gets a TLS alert and no more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No certificate at all.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// More certificates than any chain of ours has.
    #[error("the peer presented a chain of {0} certificates, more than {max}", max = crate::verify::MAX_CHAIN)]
    ChainTooLong(usize),
    /// A damaged certificate.
    #[error("the peer's certificate cannot be read: {0}")]
    Unreadable(#[from] FactsError),
    /// The number of URI subject alternative names is not one.
    #[error("the peer's certificate has {0} URI names; exactly one, its SPIFFE ID, is required")]
    UriNames(usize),
    /// The one URI is no SPIFFE ID of ours.
    #[error("the peer's certificate names {0:?}, which is no SPIFFE ID of a mesh: {1}")]
    NotSpiffe(String, SpiffeError),
    /// A trust domain that has no business here.
    #[error("{0} belongs to a trust domain that is not accepted here")]
    TrustDomain(SpiffeId),
    /// A role that has no business here.
    #[error("{0} is a {1}, which is not accepted here")]
    Role(SpiffeId, RoleKind),
    /// Not the cluster that was dialled, or that this port serves.
    #[error("{0} is not of cluster {1:?}")]
    Cluster(SpiffeId, String),
    /// Not the one peer that is expected there.
    #[error("{0} answers where {1} is expected")]
    Other(SpiffeId, SpiffeId),
    /// The root that the token pins did not come with the handshake.
    #[error(
        "the peer did not send the root certificate that the token pins: the token is another mesh's or cluster's, or was \
         made before that root was replaced; take another (`tombolo token create --cluster NAME`, or the agent's \
         member.token as it is now)"
    )]
    NotPinned,
    /// No root for the trust domain.
    #[error("no root is known for trust domain {0}; is its bundle out of date?")]
    NoRoots(TrustDomain),
    /// All roots of the trust domain begin later: the first after so many seconds.
    #[error(
        "the roots of trust domain {0} begin {1} s from now: this machine's clock is behind, or that of who made them ahead"
    )]
    RootsBegin(TrustDomain, i64),
    /// All roots of the trust domain have ended: the last so many seconds ago.
    #[error(
        "the roots of trust domain {0} ended {1} s ago: its bundle is out of date, or this machine's clock is ahead"
    )]
    RootsEnded(TrustDomain, i64),
    /// The path to the trust domain's roots does not hold.
    #[error("the path from {0} to the roots of its trust domain does not hold: {text}", text = path_text(.1))]
    Path(SpiffeId, webpki::Error),
    /// The certificate was not signed by the kind of authority that signs such roles.
    #[error("{0} was not issued by {1}")]
    Issuer(SpiffeId, &'static str),
    /// One cluster's issuing CA named another cluster.
    #[error("{id} was issued by the issuing CA of cluster {issuer:?} in {domain:?}")]
    ForeignIssuer {
        /// The name in the leaf.
        id: SpiffeId,
        /// The cluster in the issuing CA's subject.
        issuer: String,
        /// The trust domain in the issuing CA's subject.
        domain: String,
    },
    /// Not the server name that was dialled.
    #[error("the certificate of {0} is not for {1:?}")]
    ServerName(SpiffeId, String),
    /// Revoked, itself or its issuing CA.
    #[error("the certificate of {0}, or of its issuing CA, is revoked")]
    Revoked(SpiffeId),
    /// The cluster left.
    #[error("the cluster of {0} is not a member of its trust domain")]
    NotMember(SpiffeId),
}

impl Refusal {
    /// A short constant name, for a metric's label.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::ChainTooLong(_) => "chain_too_long",
            Self::Unreadable(_) => "unreadable",
            Self::UriNames(_) => "uri_names",
            Self::NotSpiffe(..) => "not_spiffe",
            Self::TrustDomain(_) => "trust_domain",
            Self::Role(..) => "role",
            Self::Cluster(..) => "cluster",
            Self::Other(..) => "other_peer",
            Self::NotPinned => "not_pinned",
            Self::NoRoots(_) => "no_roots",
            Self::RootsBegin(..) => "not_valid_yet",
            Self::RootsEnded(..) => "expired",
            Self::Path(_, error) => path_code(error),
            Self::Issuer(..) => "issuer",
            Self::ForeignIssuer { .. } => "foreign_issuer",
            Self::ServerName(..) => "server_name",
            Self::Revoked(_) => "revoked",
            Self::NotMember(_) => "not_member",
        }
    }

    /// What this side knows of a failed handshake: its own reason to refuse the peer's certificate, if that was it.
    #[must_use]
    pub fn or_error(error: &io::Error) -> String {
        Self::in_handshake(error).map_or_else(|| error.to_string(), ToString::to_string)
    }

    /// The refusal in a failed handshake's error, if this side refused the peer by its certificate.
    #[must_use]
    pub fn in_handshake(error: &io::Error) -> Option<&Self> {
        match error.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                let inner: &(dyn StdError + 'static) = &**inner;
                inner.downcast_ref()
            }
            _ => None,
        }
    }
}

/// A date that is not met names how far it is off: it may be the clock that is wrong.
fn path_text(error: &webpki::Error) -> String {
    match error {
        webpki::Error::CertNotValidYet { time, not_before } => format!(
            "one of its certificates begins {} s from now: this machine's clock is behind, or that of who issued it ahead",
            not_before.as_secs().saturating_sub(time.as_secs())
        ),
        webpki::Error::CertExpired { time, not_after } => format!(
            "one of its certificates ended {} s ago: it was not renewed, or this machine's clock is ahead",
            time.as_secs().saturating_sub(not_after.as_secs())
        ),
        other => other.to_string(),
    }
}

fn path_code(error: &webpki::Error) -> &'static str {
    match error {
        webpki::Error::CertExpired { .. } => "expired",
        webpki::Error::CertNotValidYet { .. } => "not_valid_yet",
        webpki::Error::UnknownIssuer => "unknown_issuer",
        webpki::Error::InvalidSignatureForPublicKey => "bad_signature",
        webpki::Error::CaUsedAsEndEntity => "is_ca",
        webpki::Error::RequiredEkuNotFoundContext(_) => "key_usage",
        webpki::Error::NameConstraintViolation => "name_constraint",
        _ => "path",
    }
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        // `Other` for all, so that the reason survives whole; the peer sees the alert `certificate_unknown`.
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustls_pki_types::UnixTime;

    use super::*;

    #[test]
    fn a_clock_that_is_off_is_named_with_by_how_much() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let early = webpki::Error::CertNotValidYet { time: at(100), not_before: at(400) };
        let late = webpki::Error::CertExpired { time: at(400), not_after: at(310) };
        let said = |error| Refusal::Path("spiffe://m/cluster/a/agent".parse().unwrap(), error).to_string();
        assert!(said(early).contains("begins 300 s from now: this machine's clock is behind"));
        assert!(said(late).contains("ended 90 s ago"));
    }
}
