//! The top-level CA of a mesh: the root of its control plane. Held by the controller, in no data-plane bundle.

use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::authority::{Authority, hosts, leaf_params, uri};
use super::gns::GnsCa;
use super::lifetimes::{CONTROL, TOP_LEVEL};
use super::{CaError, Chain, TOP_LEVEL_UNIT};
use crate::csr::SigningRequest;
use crate::facts::{Facts, Subject};
use crate::key::PrivateKey;
use crate::spiffe::{Role, SpiffeId, TrustDomain};

/// The top-level CA: self-signed, 10 years.
#[derive(Debug)]
pub struct TopLevelCa {
    authority: Authority,
    domain: TrustDomain,
}

impl TopLevelCa {
    /// A new one for `mesh`.
    ///
    /// # Errors
    /// When `mesh` is no name, or the system has no randomness.
    pub fn create(mesh: &str, now: OffsetDateTime) -> Result<Self, CaError> {
        let domain = TrustDomain::mesh(mesh)?;
        let subject = Subject { common_name: Some(mesh.into()), organization: None, unit: Some(TOP_LEVEL_UNIT.into()) };
        Ok(Self { authority: Authority::root(&subject, 2, TOP_LEVEL, now)?, domain })
    }

    /// Read what [`Self::export`] wrote.
    ///
    /// # Errors
    /// When it is damaged, or not a top-level CA.
    pub fn import(text: &str) -> Result<Self, CaError> {
        let authority = Authority::import(text, TOP_LEVEL_UNIT)?;
        let mesh = authority.facts().subject.common_name.as_deref().ok_or(CaError::Kind(TOP_LEVEL_UNIT))?;
        let domain = TrustDomain::mesh(mesh)?;
        Ok(Self { authority, domain })
    }

    /// Certificate and key in PEM, for the vault.
    #[must_use]
    pub fn export(&self) -> Zeroizing<String> {
        self.authority.export()
    }

    /// The root certificate, to be pinned by agents and given to users.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.certificate()
    }

    /// What the certificate says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        self.authority.facts()
    }

    /// The mesh's trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// An agent's client certificate, 30 days.
    ///
    /// # Errors
    /// When the request is not for an agent of this mesh, or the CA is not alive.
    pub fn issue_agent(&self, request: &SigningRequest, now: OffsetDateTime) -> Result<Chain, CaError> {
        self.check(request.id(), matches!(request.id().role(), Role::Agent { .. }))?;
        let params = leaf_params(vec![uri(request.id())?], vec![ExtendedKeyUsagePurpose::ClientAuth]);
        Ok(vec![self.authority.sign(params, request, CONTROL, now)?])
    }

    /// The controller's server certificate for these host names and IP addresses, 30 days. The root comes along in
    /// the chain, so that a joining agent can find the one that its token pins.
    ///
    /// # Errors
    /// When the request is not for this mesh's controller, a host is no host, or the CA is not alive.
    pub fn issue_controller<'h>(
        &self,
        request: &SigningRequest,
        names: impl IntoIterator<Item = &'h str>,
        now: OffsetDateTime,
    ) -> Result<Chain, CaError> {
        self.check(request.id(), *request.id().role() == Role::Controller)?;
        let mut sans = hosts(names)?;
        sans.push(uri(request.id())?);
        let params = leaf_params(sans, vec![ExtendedKeyUsagePurpose::ServerAuth]);
        Ok(vec![self.authority.sign(params, request, CONTROL, now)?, self.certificate().clone()])
    }

    /// A certificate for public hosts (`tls.certificate: selfSigned`), 30 days, for who has imported this root. It
    /// names no SPIFFE ID, so it is good for nothing inside the mesh.
    ///
    /// # Errors
    /// When a host is no host, there is none, or the CA is not alive.
    pub fn issue_public<'h>(
        &self,
        names: impl IntoIterator<Item = &'h str>,
        key: &PrivateKey,
        now: OffsetDateTime,
    ) -> Result<Chain, CaError> {
        let params = leaf_params(hosts(names)?, vec![ExtendedKeyUsagePurpose::ServerAuth]);
        Ok(vec![self.authority.sign(params, key, CONTROL, now)?])
    }

    /// The same subject and key as a GNS CA, signed by this one: for audit, in no bundle.
    ///
    /// # Errors
    /// When the signing fails.
    pub fn cross_sign(&self, gns: &GnsCa) -> Result<CertificateDer<'static>, CaError> {
        self.authority.cross_sign(gns.authority(), 1, vec![])
    }

    /// The subject and key of the one that takes this one's place, signed by this one: so who has imported only this
    /// root believes what servers show that the successor signed. Of the mesh only who joins by a token of before takes
    /// that path: the others pin roots.
    ///
    /// # Errors
    /// When the signing fails.
    pub fn cross_sign_successor(&self, successor: &TopLevelCa) -> Result<CertificateDer<'static>, CaError> {
        self.authority.cross_sign(&successor.authority, 2, vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    fn check(&self, id: &SpiffeId, right_role: bool) -> Result<(), CaError> {
        match right_role && *id.trust_domain() == self.domain {
            true => Ok(()),
            false => Err(CaError::NotOurs(id.clone())),
        }
    }
}
