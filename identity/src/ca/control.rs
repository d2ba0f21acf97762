//! A cluster's control CA: by it, members enrol with their agent alone, whoever else is away.

use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::authority::{Authority, hosts, leaf_params, uri};
use super::lifetimes::{CONTROL, CONTROL_ROOT};
use super::{CONTROL_UNIT, CaError, Chain};
use crate::csr::SigningRequest;
use crate::facts::{Facts, Subject};
use crate::spiffe::{Role, SpiffeId, TrustDomain};

/// A cluster control CA: a self-signed root, 90 days, held by the agent and pinned by its members. It vouches for
/// names in the mesh's trust domain, so nobody outside the cluster may have it among their roots.
#[derive(Debug)]
pub struct ControlCa {
    authority: Authority,
    domain: TrustDomain,
    cluster: String,
}

impl ControlCa {
    /// A new one for a cluster of `mesh`.
    ///
    /// # Errors
    /// When `mesh` or `cluster` is no name, or the system has no randomness.
    pub fn create(mesh: &str, cluster: &str, now: OffsetDateTime) -> Result<Self, CaError> {
        let domain = TrustDomain::mesh(mesh)?;
        SpiffeId::new(domain.clone(), Role::Agent { cluster: cluster.into() })?;
        let subject = Subject {
            common_name: Some(cluster.into()),
            organization: Some(mesh.into()),
            unit: Some(CONTROL_UNIT.into()),
        };
        Ok(Self { authority: Authority::root(&subject, 1, CONTROL_ROOT, now)?, domain, cluster: cluster.into() })
    }

    /// Read what [`Self::export`] wrote.
    ///
    /// # Errors
    /// When it is damaged, or not a cluster control CA.
    pub fn import(text: &str) -> Result<Self, CaError> {
        let authority = Authority::import(text, CONTROL_UNIT)?;
        let subject = &authority.facts().subject;
        let domain = subject.organization.as_deref().ok_or(CaError::Kind(CONTROL_UNIT))?.parse()?;
        let cluster = subject.common_name.clone().ok_or(CaError::Kind(CONTROL_UNIT))?;
        Ok(Self { authority, domain, cluster })
    }

    /// Certificate and key in PEM, for a 0600 file.
    #[must_use]
    pub fn export(&self) -> Zeroizing<String> {
        self.authority.export()
    }

    /// The root certificate, to be pinned by the cluster's members.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.certificate()
    }

    /// What the certificate says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        self.authority.facts()
    }

    /// Whether it was made to live longer than such a CA may, as earlier releases did: then it is to be replaced at once.
    #[must_use]
    pub fn is_overlong(&self) -> bool {
        self.facts().not_after - self.facts().not_before > CONTROL_ROOT
    }

    /// The subject and key of the one that takes this one's place, signed by this one: for who knows of the cluster only
    /// this one, by a token, and enrols.
    ///
    /// # Errors
    /// When the signing fails.
    pub fn cross_sign_successor(&self, successor: &ControlCa) -> Result<CertificateDer<'static>, CaError> {
        self.authority.cross_sign(&successor.authority, 0, vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// The agent's own server certificate for these host names and IP addresses, 30 days, with the root.
    ///
    /// # Errors
    /// When the request is not for this cluster's agent, a host is no host, or the CA is not alive.
    pub fn issue_agent<'h>(
        &self,
        request: &SigningRequest,
        names: impl IntoIterator<Item = &'h str>,
        now: OffsetDateTime,
    ) -> Result<Chain, CaError> {
        self.check(request, matches!(request.id().role(), Role::Agent { .. }))?;
        let mut sans = hosts(names)?;
        sans.push(uri(request.id())?);
        let params = leaf_params(sans, vec![ExtendedKeyUsagePurpose::ServerAuth]);
        Ok(vec![self.authority.sign(params, request, CONTROL, now)?, self.certificate().clone()])
    }

    /// A member's client certificate, 30 days.
    ///
    /// # Errors
    /// When the request is not for a member of this cluster, or the CA is not alive.
    pub fn issue_member(&self, request: &SigningRequest, now: OffsetDateTime) -> Result<Chain, CaError> {
        self.check(request, matches!(request.id().role(), Role::Member { .. }))?;
        let params = leaf_params(vec![uri(request.id())?], vec![ExtendedKeyUsagePurpose::ClientAuth]);
        Ok(vec![self.authority.sign(params, request, CONTROL, now)?])
    }

    fn check(&self, request: &SigningRequest, right_role: bool) -> Result<(), CaError> {
        let id = request.id();
        match right_role && *id.trust_domain() == self.domain && id.cluster() == Some(&self.cluster) {
            true => Ok(()),
            false => Err(CaError::NotOurs(id.clone())),
        }
    }
}
