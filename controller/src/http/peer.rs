//! Who is at the other end of a connection, and whether that still counts: connections outlive revocations.

use std::net::SocketAddr;

use identity::{Facts, Refusal, Serial, SpiffeId, Trust, peer_identity};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// The certificate that the client showed, if any; in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub Option<ClientCertificate>);

/// The address that a request came from; in the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote(pub SocketAddr);

/// A client's certificate that was good when the connection was made. Whoever acts on it asks [`Self::check`] anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whom it proves.
    pub id: SpiffeId,
    /// Its serial number.
    pub serial: Serial,
    /// When it expires.
    pub not_after: OffsetDateTime,
}

/// Why a certificate that let a connection in counts no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Its time is over.
    #[error("the certificate of {0} has expired: connect anew with its successor, or enrol anew")]
    Expired(SpiffeId),
    /// It was revoked, or its cluster left.
    #[error("{0} has left, or a successor took its place: join or enrol anew with a new token")]
    Gone(SpiffeId),
}

impl ClientCertificate {
    /// The first of a chain that the handshake has verified.
    ///
    /// # Errors
    /// When it names nobody.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<Self, Refusal> {
        let id = peer_identity(chain)?;
        let Facts { serial, not_after, .. } = Facts::read(chain.first().ok_or(Refusal::NoCertificate)?)?;
        Ok(ClientCertificate { id, serial, not_after })
    }

    /// Whether it counts now.
    ///
    /// # Errors
    /// When it has expired, was revoked, or its cluster left.
    pub fn check(&self, trust: &dyn Trust, now: OffsetDateTime) -> Result<(), Stale> {
        let (domain, cluster) = (self.id.trust_domain(), self.id.cluster());
        let gone = trust.is_revoked(&self.id, &self.serial)
            || cluster.is_some_and(|cluster| !trust.is_member(domain, cluster));
        match (gone, self.not_after < now) {
            (true, _) => Err(Stale::Gone(self.id.clone())),
            (false, true) => Err(Stale::Expired(self.id.clone())),
            (false, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use identity::TrustView;
    use time::Duration;

    use super::*;

    #[test]
    fn what_was_good_in_the_handshake_may_not_be_now() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let id: SpiffeId = "spiffe://m/cluster/a/agent".parse().unwrap();
        let shown = ClientCertificate { id: id.clone(), serial: "ab".parse().unwrap(), not_after: now };
        let mut trust = TrustView::default();
        assert_eq!(shown.check(&trust, now), Err(Stale::Gone(id.clone())), "its cluster is no member");
        trust.members.insert((id.trust_domain().clone(), "a".into()));
        assert_eq!(shown.check(&trust, now), Ok(()));
        assert_eq!(shown.check(&trust, now + Duration::SECOND), Err(Stale::Expired(id.clone())));
        trust.revoked.insert(shown.serial.clone());
        assert_eq!(shown.check(&trust, now), Err(Stale::Gone(id)));
    }
}
