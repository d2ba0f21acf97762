//! What a certificate says of itself. Reading is not believing: [`crate::verify`] is for that.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FactsError {
    /// No DER certificate, or bytes after it.
    #[error("this is no X.509 certificate in DER")]
    NotACertificate,
    /// An extension that we need is damaged or there twice.
    #[error("its {0} extension is damaged or occurs twice")]
    Extension(&'static str),
    /// A subject alternative name that no rule covers.
    #[error("one of its subject alternative names is damaged")]
    AlternativeName,
    /// A date outside the years that can be represented.
    #[error("its dates are out of range")]
    Dates,
}

/// A certificate's serial number: lower-case hexadecimal without leading zeros, so that equal numbers are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(String);

impl Serial {
    fn from_der(bytes: &[u8]) -> Self {
        Self::canonical(&hex(bytes))
    }

    fn canonical(digits: &str) -> Self {
        let digits = digits.trim_start_matches('0');
        Self(if digits.is_empty() { "0".into() } else { digits.to_ascii_lowercase() })
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text is no hexadecimal number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no serial number in hexadecimal")]
pub struct SerialError(String);

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        match !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(Self::canonical(text)),
            false => Err(SerialError(text.into())),
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The parts of a subject that our own certificate authorities use; `None` where absent or there twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// CN
    pub common_name: Option<String>,
    /// O
    pub organization: Option<String>,
    /// OU
    pub unit: Option<String>,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Valid from this time on, inclusive.
    pub not_before: OffsetDateTime,
    /// Valid up to this time, inclusive.
    pub not_after: OffsetDateTime,
    /// The serial number.
    pub serial: Serial,
    /// The subject.
    pub subject: Subject,
    /// DNS names of the subject alternative names, in lower case; may be wildcards.
    pub dns_names: Vec<String>,
    /// URIs of the subject alternative names, as written.
    pub uris: Vec<String>,
    /// IP addresses of the subject alternative names.
    pub ip_addresses: Vec<IpAddr>,
    /// Basic constraints: may sign certificates.
    pub is_ca: bool,
    /// SHA-256 of the DER, in lower-case hexadecimal.
    pub fingerprint: String,
}

impl Facts {
    /// Whom it is about, for people: its SPIFFE ID, else its subject, else its first DNS name.
    #[must_use]
    pub fn name(&self) -> String {
        let Subject { common_name, organization, unit } = &self.subject;
        let parts = [("CN", common_name), ("OU", unit), ("O", organization)];
        let parts: Vec<_> =
            parts.iter().filter_map(|(kind, part)| Some(format!("{kind}={}", part.as_ref()?))).collect();
        let subject = Some(parts.join(",")).filter(|subject| !subject.is_empty());
        self.uris.first().cloned().or(subject).or_else(|| self.dns_names.first().cloned()).unwrap_or_default()
    }

    /// Read a certificate.
    ///
    /// # Errors
    /// When it is damaged; nothing is skipped over, so that no name is overlooked.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, FactsError> {
        let x509 = parse(certificate)?;
        let names = Names::read(&x509)?;
        let basic = x509.basic_constraints().map_err(|_| FactsError::Extension("basic constraints"))?;
        Ok(Self {
            not_before: date(x509.validity().not_before.timestamp())?,
            not_after: date(x509.validity().not_after.timestamp())?,
            serial: Serial::from_der(x509.raw_serial()),
            subject: subject(&x509),
            dns_names: names.dns,
            uris: names.uris,
            ip_addresses: names.ips,
            is_ca: basic.is_some_and(|b| b.value.ca),
            fingerprint: fingerprint(certificate),
        })
    }

    /// Whether `now` lies in the certificate's life.
    #[must_use]
    pub fn valid_at(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether the certificate is good for `host`. A wildcard covers exactly one label (RFC 9525 section 6.3), and
    /// itself when the host asked for is that same wildcard.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match host.parse::<IpAddr>() {
            Ok(address) => self.ip_addresses.contains(&address),
            Err(_) => self.dns_names.iter().any(|name| name_covers(name, &host)),
        }
    }
}

fn name_covers(name: &str, host: &str) -> bool {
    let under_wildcard = || {
        let (wild, parent) = name.split_once('.')?;
        let (first, rest) = host.split_once('.')?;
        Some(wild == "*" && first != "*" && !first.is_empty() && rest == parent)
    };
    name == host || under_wildcard().unwrap_or(false)
}

/// The SHA-256 of a certificate's DER, in lower-case hexadecimal.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(digest(&SHA256, certificate).as_ref())
}

/// The subject alternative names of the kinds that mean something to us.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) dns: Vec<String>,
    pub(crate) uris: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
}

impl Names {
    fn read(x509: &X509Certificate<'_>) -> Result<Self, FactsError> {
        let extension =
            x509.subject_alternative_name().map_err(|_| FactsError::Extension("subject alternative name"))?;
        extension.map_or_else(|| Ok(Self::default()), |e| Self::collect(&e.value.general_names))
    }

    /// webpki's own iterator passes over URIs that are no UTF-8 and ends at the first damaged name, so a second
    /// identity could hide there; here either is an error.
    pub(crate) fn collect(general: &[GeneralName<'_>]) -> Result<Self, FactsError> {
        let mut names = Self::default();
        for name in general {
            match name {
                GeneralName::DNSName(dns) => names.dns.push(dns.to_ascii_lowercase()),
                GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => names.ips.push(address(bytes)?),
                GeneralName::Invalid(..) => return Err(FactsError::AlternativeName),
                _ => {}
            }
        }
        Ok(names)
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, FactsError> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).map_err(|_| FactsError::AlternativeName)
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, FactsError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], x509)) => Ok(x509),
        _ => Err(FactsError::NotACertificate),
    }
}

fn subject(x509: &X509Certificate<'_>) -> Subject {
    Subject {
        common_name: only(x509.subject().iter_common_name()),
        organization: only(x509.subject().iter_organization()),
        unit: only(x509.subject().iter_organizational_unit()),
    }
}

fn only<'a>(mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<String> {
    let first = attributes.next()?;
    match attributes.next() {
        None => first.as_str().ok().map(str::to_owned),
        Some(_) => None,
    }
}

fn date(seconds: i64) -> Result<OffsetDateTime, FactsError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| FactsError::Dates)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label_and_itself() {
        assert!(name_covers("*.shop.example", "a.shop.example"));
        assert!(name_covers("*.shop.example", "*.shop.example"));
        assert!(!name_covers("*.shop.example", "shop.example"));
        assert!(!name_covers("*.shop.example", "a.b.shop.example"));
        assert!(!name_covers("*.shop.example", ".shop.example"));
        assert!(!name_covers("a.shop.example", "*.shop.example"));
        assert!(!name_covers("*", "example"));
    }

    #[test]
    fn equal_serials_are_equal() {
        assert_eq!(Serial::from_der(&[0, 0xab, 1]), "AB01".parse().unwrap());
        assert_eq!(Serial::from_der(&[0]).to_string(), "0");
        assert!("xy".parse::<Serial>().is_err());
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(Facts::read(&CertificateDer::from(vec![0x30, 3, 1, 2])), Err(FactsError::NotACertificate));
    }
}
