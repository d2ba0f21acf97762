//! Trust bundles: which roots vouch for which trust domain. Roots are never pooled: every look-up names one domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;
use time::OffsetDateTime;

use crate::facts::{Facts, FactsError};
use crate::spiffe::TrustDomain;

/// Why a certificate cannot be a root.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleError {
    /// Damaged.
    #[error("a root of the trust bundle cannot be read: {0}")]
    Unreadable(#[from] FactsError),
    /// A leaf.
    #[error("a root of the trust bundle, with SHA-256 {0}, is not a certificate authority")]
    NotAuthority(String),
    /// webpki cannot use it.
    #[error("a root of the trust bundle, with SHA-256 {0}, cannot be used: {1}")]
    Unusable(String, String),
}

#[derive(Debug, Clone)]
struct Root {
    certificate: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    facts: Facts,
}

impl Root {
    fn new(certificate: CertificateDer<'static>) -> Result<Self, BundleError> {
        let facts = Facts::read(&certificate)?;
        if !facts.is_ca {
            return Err(BundleError::NotAuthority(facts.fingerprint));
        }
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map(|anchor| anchor.to_owned())
            .map_err(|e| BundleError::Unusable(facts.fingerprint.clone(), e.to_string()))?;
        Ok(Self { certificate, anchor, facts })
    }
}

/// The roots of one trust domain.
#[derive(Debug, Clone, Default)]
pub struct TrustBundle(Vec<Root>);

impl TrustBundle {
    /// A bundle of these roots, in DER.
    ///
    /// # Errors
    /// When one is damaged or no certificate authority; a bundle is never taken in part.
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, BundleError> {
        roots.into_iter().map(Root::new).collect::<Result<_, _>>().map(Self)
    }

    /// The roots that are in their life at `now`. webpki keeps no dates of a trust anchor, so they are held here.
    #[must_use]
    pub fn anchors(&self, now: OffsetDateTime) -> Vec<TrustAnchor<'_>> {
        self.0.iter().filter(|root| root.facts.valid_at(now)).map(|root| root.anchor.clone()).collect()
    }

    /// Why there is none of these, in seconds from `now`: when the first begins that is still to come, or else, in the past,
    /// when the last ended.
    pub(crate) fn off(&self, now: OffsetDateTime) -> Option<i64> {
        let from_now = |moment: OffsetDateTime| (moment - now).whole_seconds();
        let begins = self.0.iter().map(|root| from_now(root.facts.not_before)).filter(|begins| *begins > 0).min();
        begins.or_else(|| self.0.iter().map(|root| from_now(root.facts.not_after)).max())
    }

    /// All roots in DER, expired ones too.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter().map(|root| &root.certificate)
    }

    /// When the next root that is alive at `now` expires.
    #[must_use]
    pub fn next_expiry(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.0.iter().map(|root| root.facts.not_after).filter(|end| *end >= now).min()
    }
}

/// Trust bundles by trust domain.
#[derive(Debug, Clone, Default)]
pub struct Bundles(BTreeMap<TrustDomain, Arc<TrustBundle>>);

impl Bundles {
    /// Set a domain's bundle in place of what it had.
    pub fn insert(&mut self, domain: TrustDomain, bundle: Arc<TrustBundle>) {
        self.0.insert(domain, bundle);
    }

    /// The bundle of exactly this domain.
    #[must_use]
    pub fn get(&self, domain: &TrustDomain) -> Option<&Arc<TrustBundle>> {
        self.0.get(domain)
    }

    /// All bundles.
    pub fn iter(&self) -> impl Iterator<Item = (&TrustDomain, &Arc<TrustBundle>)> {
        self.0.iter()
    }
}

impl FromIterator<(TrustDomain, TrustBundle)> for Bundles {
    fn from_iter<I: IntoIterator<Item = (TrustDomain, TrustBundle)>>(bundles: I) -> Self {
        Self(bundles.into_iter().map(|(domain, bundle)| (domain, Arc::new(bundle))).collect())
    }
}
