//! Certificate signing requests as text (RFC 7468 section 7): how they travel in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::csr::CsrError;
use identity::{PrivateKey, SigningRequest, SpiffeId};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

/// A request for `id`, in PEM.
///
/// # Errors
/// When the key fails to sign.
pub fn make(id: &SpiffeId, key: &PrivateKey) -> Result<String, CsrError> {
    let body = STANDARD.encode(SigningRequest::make(id, key)?);
    let mut text = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for (at, character) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END CERTIFICATE REQUEST-----\n");
    Ok(text)
}

/// Checks a request in PEM against what its sender is entitled to.
///
/// # Errors
/// When it is damaged, or asks for anything but exactly `entitled`.
pub fn check(pem: &str, entitled: &SpiffeId) -> Result<SigningRequest, CsrError> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrError::NotARequest)?;
    SigningRequest::check(&der, entitled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_survives_its_text() {
        let (id, other): (SpiffeId, SpiffeId) =
            ("spiffe://m/cluster/a/agent".parse().unwrap(), "spiffe://m/controller".parse().unwrap());
        let text = make(&id, &PrivateKey::generate().unwrap()).unwrap();
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(check(&text, &id).unwrap().id(), &id);
        assert!(matches!(check(&text, &other), Err(CsrError::NotEntitled { .. })));
        assert!(matches!(check("nothing", &id), Err(CsrError::NotARequest)));
    }
}
