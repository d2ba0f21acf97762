//! PEM in and out. Key material passes only through buffers that are wiped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

/// Why a PEM text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PemError {
    /// No block of the wanted kind, or a damaged one.
    #[error("no readable PEM block of a {0}; it begins with -----BEGIN {1}-----")]
    Missing(&'static str, &'static str),
}

/// Characters of base64 in a line (RFC 7468 section 2).
const LINE: usize = 64;

/// Certificates as PEM, in the order given.
#[must_use]
pub fn encode_certificates<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    chain.into_iter().map(|c| encode("CERTIFICATE", c).to_string()).collect()
}

/// All certificates of a PEM text, at least one.
///
/// # Errors
/// When there is none, or one is damaged.
pub fn decode_certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let missing = PemError::Missing("certificate", "CERTIFICATE");
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let mut chain = read.ok().filter(|chain| !chain.is_empty()).ok_or(missing)?;
    chain.shrink_to_fit(); // a gateway keeps thousands
    Ok(chain)
}

/// The first private key of a PEM text: PKCS #8, or, for uploaded ones, PKCS #1 or SEC 1.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn decode_key(text: &str) -> Result<Zeroizing<PrivateKeyDer<'static>>, PemError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| PemError::Missing("private key", "PRIVATE KEY"))
}

pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    // Room for all at once: a buffer that grows leaves copies of the key behind.
    let mut body = Zeroizing::new(vec![0; der.len().div_ceil(3) * 4]);
    let used = STANDARD.encode_slice(der, &mut body).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(used + used / LINE + 2 * label.len() + 64));
    text.push_str(&["-----BEGIN ", label, "-----\n"].concat());
    for line in body.get(..used).unwrap_or_default().chunks(LINE) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(&["-----END ", label, "-----\n"].concat());
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        for length in [0, 1, 2, 3, 47, 48, 49, 500] {
            let der = CertificateDer::from(vec![7; length]);
            let text = encode_certificates([&der, &der]);
            assert_eq!(decode_certificates(&text).unwrap(), [der.clone(), der]);
        }
        assert!(decode_certificates("-----BEGIN CERTIFICATE-----\n%%%").is_err());
        assert!(decode_key("").is_err());
    }
}
