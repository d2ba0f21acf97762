//! What a verifier must know beyond the certificates: the roots, who is a member, what is revoked.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::bundle::{Bundles, TrustBundle};
use crate::facts::Serial;
use crate::spiffe::{SpiffeId, TrustDomain};

/// The current knowledge that verification rests on. It is asked anew in each handshake, so an implementation may
/// answer out of a value that is replaced while configurations live on.
pub trait Trust: fmt::Debug + Send + Sync {
    /// The roots of exactly this domain; `None` when it is unknown here.
    fn roots(&self, domain: &TrustDomain) -> Option<Arc<TrustBundle>>;

    /// Whether `cluster` may hold identities in `domain` now.
    fn is_member(&self, domain: &TrustDomain, cluster: &str) -> bool;

    /// Whether whoever bears this name was revoked, or this certificate: the holder's own, or its issuing CA's.
    fn is_revoked(&self, id: &SpiffeId, serial: &Serial) -> bool;
}

/// [`Trust`] as a plain value: what is not in it is not trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustView {
    /// The roots by trust domain.
    pub bundles: Bundles,
    /// Which cluster is a member of which domain.
    pub members: BTreeSet<(TrustDomain, String)>,
    /// Serial numbers of revoked certificates. One number is enough: ours are 128 random bits.
    pub revoked: BTreeSet<Serial>,
    /// Who is revoked, whatever certificate they show.
    pub revoked_ids: BTreeSet<SpiffeId>,
}

impl Trust for TrustView {
    fn roots(&self, domain: &TrustDomain) -> Option<Arc<TrustBundle>> {
        self.bundles.get(domain).cloned()
    }

    fn is_member(&self, domain: &TrustDomain, cluster: &str) -> bool {
        self.members.contains(&(domain.clone(), cluster.to_owned()))
    }

    fn is_revoked(&self, id: &SpiffeId, serial: &Serial) -> bool {
        self.revoked_ids.contains(id) || self.revoked.contains(serial)
    }
}

/// [`Trust`] in one domain by pinned roots alone: what an agent knows of its controller, a member of its agent.
/// Every cluster is a member and nothing is revoked.
#[derive(Debug, Clone)]
pub struct Pinned {
    domain: TrustDomain,
    roots: Arc<TrustBundle>,
}

impl Pinned {
    /// Trust these roots, for this domain only.
    #[must_use]
    pub fn new(domain: TrustDomain, roots: TrustBundle) -> Self {
        Self { domain, roots: Arc::new(roots) }
    }
}

impl Trust for Pinned {
    fn roots(&self, domain: &TrustDomain) -> Option<Arc<TrustBundle>> {
        (*domain == self.domain).then(|| Arc::clone(&self.roots))
    }

    fn is_member(&self, domain: &TrustDomain, _: &str) -> bool {
        *domain == self.domain
    }

    fn is_revoked(&self, _: &SpiffeId, _: &Serial) -> bool {
        false
    }
}
