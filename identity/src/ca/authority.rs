//! What all certificate authorities have in common: a certificate, its key, and the making of certificates.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use time::Duration;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::CaError;
use super::lifetimes::Validity;
use crate::facts::{self, Facts, Subject};
use crate::key::PrivateKey;
use crate::pem;

/// A certificate authority of some level. Its key can be exported, but neither cloned nor printed.
pub(super) struct Authority {
    certificate: CertificateDer<'static>,
    facts: Facts,
    issuer: Issuer<'static, PrivateKey>,
}

impl Authority {
    /// A new root with a new key.
    pub(super) fn root(subject: &Subject, path_len: u8, life: Duration, now: OffsetDateTime) -> Result<Self, CaError> {
        let key = PrivateKey::generate()?;
        let params = authority_params(subject, path_len);
        let certificate = finish(params, Validity::root(life, now))?.self_signed(&key)?;
        Self::new(certificate.into(), key)
    }

    /// Join a certificate with its key.
    pub(super) fn new(certificate: CertificateDer<'static>, key: PrivateKey) -> Result<Self, CaError> {
        let x509 = facts::parse(&certificate)?;
        if x509.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::Mismatch);
        }
        let facts = Facts::read(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, facts, issuer })
    }

    /// Read what [`Self::export`] wrote, if it is of the kind that `unit` names.
    pub(super) fn import(text: &str, unit: &'static str) -> Result<Self, CaError> {
        let chain = pem::decode_certificates(text)?;
        let certificate = chain.into_iter().next().ok_or(CaError::Kind(unit))?;
        Self::new(certificate, PrivateKey::from_pem(text)?)?.of_kind(unit)
    }

    /// This authority, if it is of the kind that `unit` names.
    pub(super) fn of_kind(self, unit: &'static str) -> Result<Self, CaError> {
        match self.facts.is_ca && self.facts.subject.unit.as_deref() == Some(unit) {
            true => Ok(self),
            false => Err(CaError::Kind(unit)),
        }
    }

    /// Certificate and key in PEM, for the vault or a 0600 file.
    pub(super) fn export(&self) -> Zeroizing<String> {
        let certificate = pem::encode("CERTIFICATE", &self.certificate);
        let key = self.issuer.key().to_pem();
        let mut text = Zeroizing::new(String::with_capacity(certificate.len() + key.len()));
        text.push_str(&certificate);
        text.push_str(&key);
        text
    }

    /// Sign `params` for `key`, within this authority's own life.
    pub(super) fn sign(
        &self,
        params: CertificateParams,
        key: &impl PublicKeyData,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, CaError> {
        if !self.facts.valid_at(now) {
            return Err(CaError::NotAlive(self.facts.subject.common_name.clone().unwrap_or_default()));
        }
        let params = finish(params, self.validity().under(life, now))?;
        Ok(params.signed_by(key, &self.issuer)?.into())
    }

    /// Sign another authority's subject and key for as long as it lives itself. Verifiers ask usages of it, if any.
    pub(super) fn cross_sign(
        &self,
        other: &Self,
        path_len: u8,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<CertificateDer<'static>, CaError> {
        let mut params = authority_params(&other.facts.subject, path_len);
        params.extended_key_usages = usages;
        let params = finish(params, other.validity())?;
        Ok(params.signed_by(other.issuer.key(), &self.issuer)?.into())
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    fn validity(&self) -> Validity {
        Validity { not_before: self.facts.not_before, not_after: self.facts.not_after }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Parameters of an authority's certificate.
pub(super) fn authority_params(subject: &Subject, path_len: u8) -> CertificateParams {
    let mut params = blank();
    params.distinguished_name = distinguished_name(subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Parameters of a leaf, whose names are all in the subject alternative names; the subject stays empty.
pub(super) fn leaf_params(names: Vec<SanType>, usages: Vec<ExtendedKeyUsagePurpose>) -> CertificateParams {
    let mut params = blank();
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params
}

/// For certificates that are shown at either end of a connection.
pub(super) fn both_ends() -> Vec<ExtendedKeyUsagePurpose> {
    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
}

/// Host names, wildcards too, and IP addresses as subject alternative names.
pub(super) fn hosts<'h>(hosts: impl IntoIterator<Item = &'h str>) -> Result<Vec<SanType>, CaError> {
    let names: Vec<_> = hosts.into_iter().map(host).collect::<Result<_, _>>()?;
    if names.is_empty() { Err(CaError::NoHost) } else { Ok(names) }
}

fn host(text: &str) -> Result<SanType, CaError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || CaError::HostName(text.to_owned());
    let name = text.strip_prefix("*.").unwrap_or(text);
    rustls_pki_types::DnsName::try_from(name).map_err(|_| bad())?;
    Ok(SanType::DnsName(text.to_ascii_lowercase().try_into().map_err(|_| bad())?))
}

pub(super) fn uri(id: &crate::spiffe::SpiffeId) -> Result<SanType, CaError> {
    Ok(SanType::URI(id.to_string().try_into()?))
}

fn blank() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params
}

fn distinguished_name(subject: &Subject) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let parts = [
        (DnType::OrganizationName, &subject.organization),
        (DnType::OrganizationalUnitName, &subject.unit),
        (DnType::CommonName, &subject.common_name),
    ];
    for (kind, text) in parts {
        if let Some(text) = text {
            name.push(kind, text.as_str());
        }
    }
    name
}

/// Dates and a random serial number of 127 bits. (rcgen's own is a hash of the public key, so that a renewed
/// certificate of the same key could not be told from the revoked one before it.)
fn finish(mut params: CertificateParams, validity: Validity) -> Result<CertificateParams, CaError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    serial[0] &= 0x7f; // positive in DER
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    Ok(params)
}
