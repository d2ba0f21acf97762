//! A cluster's issuing CA in one global namespace. Held by the cluster's agent.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::authority::{Authority, both_ends, hosts, leaf_params, uri};
use super::lifetimes::Lifetimes;
use super::{CaError, Chain, ISSUING_UNIT};
use crate::csr::SigningRequest;
use crate::facts::Facts;
use crate::key::PrivateKey;
use crate::spiffe::{Role, TrustDomain};

/// An issuing CA: signs leaves of its own cluster and trust domain only.
#[derive(Debug)]
pub struct IssuingCa {
    authority: Authority,
    domain: TrustDomain,
    cluster: String,
}

impl IssuingCa {
    /// Join the certificate that the controller sent with the key that its request was made with.
    ///
    /// # Errors
    /// When they are no pair, or the certificate is not that of an issuing CA.
    pub fn new(certificate: CertificateDer<'static>, key: PrivateKey) -> Result<Self, CaError> {
        Self::of(Authority::new(certificate, key)?.of_kind(ISSUING_UNIT)?)
    }

    /// Read what [`Self::export`] wrote.
    ///
    /// # Errors
    /// When it is damaged, or not an issuing CA.
    pub fn import(text: &str) -> Result<Self, CaError> {
        Self::of(Authority::import(text, ISSUING_UNIT)?)
    }

    /// Certificate and key in PEM, for a 0600 file.
    #[must_use]
    pub fn export(&self) -> Zeroizing<String> {
        self.authority.export()
    }

    /// What the certificate says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        self.authority.facts()
    }

    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// A gateway's certificate and this CA's. Of its names the first is the opaque label that tunnels dial; the others
    /// are what callers dial who verify host names.
    ///
    /// # Errors
    /// When the request is not for a gateway of this cluster and trust domain, or the CA is not alive.
    pub fn issue_gateway<'n>(
        &self,
        request: &SigningRequest,
        names: impl IntoIterator<Item = &'n str>,
        lifetimes: &Lifetimes,
        now: OffsetDateTime,
    ) -> Result<Chain, CaError> {
        self.check(request, matches!(request.id().role(), Role::Gateway { .. }))?;
        let mut names = hosts(names)?;
        names.push(uri(request.id())?);
        self.sign(request, names, lifetimes, now)
    }

    /// A workload's certificate and this CA's.
    ///
    /// # Errors
    /// When the request is not for a workload of this cluster and trust domain, or the CA is not alive.
    pub fn issue_workload(
        &self,
        request: &SigningRequest,
        lifetimes: &Lifetimes,
        now: OffsetDateTime,
    ) -> Result<Chain, CaError> {
        self.check(request, matches!(request.id().role(), Role::Workload { .. }))?;
        self.sign(request, vec![uri(request.id())?], lifetimes, now)
    }

    fn of(authority: Authority) -> Result<Self, CaError> {
        let subject = &authority.facts().subject;
        let domain = subject.organization.as_deref().ok_or(CaError::Kind(ISSUING_UNIT))?.parse()?;
        let cluster = subject.common_name.clone().ok_or(CaError::Kind(ISSUING_UNIT))?;
        Ok(Self { authority, domain, cluster })
    }

    fn check(&self, request: &SigningRequest, right_role: bool) -> Result<(), CaError> {
        let id = request.id();
        match right_role && *id.trust_domain() == self.domain && id.cluster() == Some(&self.cluster) {
            true => Ok(()),
            false => Err(CaError::NotOurs(id.clone())),
        }
    }

    fn sign(
        &self,
        request: &SigningRequest,
        names: Vec<rcgen::SanType>,
        lifetimes: &Lifetimes,
        now: OffsetDateTime,
    ) -> Result<Chain, CaError> {
        let params = leaf_params(names, both_ends());
        let leaf = self.authority.sign(params, request, lifetimes.leaf(), now)?;
        Ok(vec![leaf, self.authority.certificate().clone()])
    }
}
