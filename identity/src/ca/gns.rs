//! A global namespace's CA: the root of its trust domain. Held by the controller.

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use rustls_pki_types::{CertificateDer, DnsName};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::authority::{Authority, authority_params, both_ends};
use super::lifetimes::Lifetimes;
use super::{CaError, GNS_UNIT, ISSUING_UNIT};
use crate::csr::SigningRequest;
use crate::facts::{Facts, Subject};
use crate::spiffe::{Role, TrustDomain};

/// The DNS names that a cluster's issuing CA may put into certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Territory<'a> {
    /// The opaque label of (GNS, cluster): what its gateways answer to in tunnels.
    pub label: &'a str,
    /// The GNS's domain, such as `shop.internal`.
    pub domain: &'a str,
}

/// A GNS CA: a self-signed root, 90 days unless set shorter.
#[derive(Debug)]
pub struct GnsCa {
    authority: Authority,
    domain: TrustDomain,
}

impl GnsCa {
    /// A new one for a trust domain.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn create(domain: TrustDomain, lifetimes: &Lifetimes, now: OffsetDateTime) -> Result<Self, CaError> {
        let subject =
            Subject { common_name: Some(domain.as_str().into()), organization: None, unit: Some(GNS_UNIT.into()) };
        Ok(Self { authority: Authority::root(&subject, 1, lifetimes.gns(), now)?, domain })
    }

    /// Read what [`Self::export`] wrote.
    ///
    /// # Errors
    /// When it is damaged, or not a GNS CA.
    pub fn import(text: &str) -> Result<Self, CaError> {
        let authority = Authority::import(text, GNS_UNIT)?;
        let name = authority.facts().subject.common_name.as_deref().ok_or(CaError::Kind(GNS_UNIT))?;
        let domain = name.parse()?;
        Ok(Self { authority, domain })
    }

    /// Certificate and key in PEM, for the vault.
    #[must_use]
    pub fn export(&self) -> Zeroizing<String> {
        self.authority.export()
    }

    /// The root certificate, for the trust domain's bundle.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.certificate()
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

    /// The certificate of a member cluster's issuing CA, for the key in its agent's request.
    ///
    /// # Errors
    /// When the request is not an agent's of this mesh, a name of the territory is no DNS name, or the CA is not alive.
    pub fn issue_issuing(
        &self,
        request: &SigningRequest,
        territory: Territory<'_>,
        lifetimes: &Lifetimes,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, CaError> {
        let cluster = match request.id().role() {
            Role::Agent { cluster } if self.domain.is_within(request.id().trust_domain()) => cluster,
            _ => return Err(CaError::NotOurs(request.id().clone())),
        };
        let subject = Subject {
            common_name: Some(cluster.clone()),
            organization: Some(self.domain.as_str().into()),
            unit: Some(ISSUING_UNIT.into()),
        };
        let mut params = authority_params(&subject, 0);
        params.extended_key_usages = both_ends(); // a required usage is required all along the path
        params.name_constraints = Some(constraints(territory)?);
        self.authority.sign(params, request, lifetimes.issuing(), now)
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }
}

/// The territory's names and nothing beneath other names, and no IP address. No constraint on URIs: webpki rejects
/// every certificate with a URI below such an authority. Who may name whom is the verifier's rule instead.
fn constraints(territory: Territory<'_>) -> Result<NameConstraints, CaError> {
    let dns = |name: &str| match DnsName::try_from(name) {
        Ok(_) => Ok(GeneralSubtree::DnsName(name.to_ascii_lowercase())),
        Err(_) => Err(CaError::HostName(name.to_owned())),
    };
    let any_address = [CidrSubnet::from_v4_prefix([0; 4], 0), CidrSubnet::from_v6_prefix([0; 16], 0)];
    Ok(NameConstraints {
        permitted_subtrees: vec![dns(territory.label)?, dns(territory.domain)?],
        excluded_subtrees: any_address.map(GeneralSubtree::IpAddress).into(),
    })
}
