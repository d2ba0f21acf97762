//! Certificate signing requests: made by who will hold the key, checked by who signs.

use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SanType, SignatureAlgorithm, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::facts::Names;
use crate::key::{PrivateKey, is_allowed};
use crate::spiffe::SpiffeId;

/// The longest request in bytes that is looked at; ours have about 300.
const MAX_REQUEST: usize = 8 * 1024;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CsrError {
    /// The request could not be made.
    #[error("the certificate signing request could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Damaged, too long, or with bytes after it.
    #[error("this is no PKCS #10 certificate signing request of at most {MAX_REQUEST} bytes in DER")]
    NotARequest,
    /// The requester does not hold the key.
    #[error("the request's signature is not by its own key")]
    Signature,
    /// A type of key that we don't sign for.
    #[error("the request's key is not of type ECDSA P-256, ECDSA P-384 or Ed25519")]
    Key,
    /// Not exactly one URI, or other names beside it.
    #[error("the request must name exactly one URI and nothing else")]
    Names,
    /// Another's name.
    #[error("the request names {asked:?}; its sender is entitled to {entitled} only")]
    NotEntitled {
        /// The URI in the request.
        asked: String,
        /// The sender's own.
        entitled: SpiffeId,
    },
    /// It wants to be a CA.
    #[error("the request asks to be a certificate authority")]
    Authority,
    /// Extensions that nobody would honour.
    #[error("the request asks for extensions other than a name, a key usage and basic constraints")]
    Extension,
}

/// A request that was checked: the name that its sender is entitled to, and the public key that it proved to hold.
/// Nothing else of the request is kept, so nothing else can get into a certificate.
#[derive(Debug, Clone)]
pub struct SigningRequest {
    id: SpiffeId,
    key: SubjectPublicKeyInfo,
}

impl SigningRequest {
    /// Make a request in DER for `id`, to be sent to who signs.
    ///
    /// # Errors
    /// When the key fails to sign.
    pub fn make(id: &SpiffeId, key: &PrivateKey) -> Result<CertificateSigningRequestDer<'static>, CsrError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().map_err(CsrError::Make)?)];
        Ok(params.serialize_request(key)?.into())
    }

    /// Check a request in DER against what its sender is entitled to.
    ///
    /// # Errors
    /// When it is damaged, not signed by its own key, of a key type that is not allowed, or asks for anything but
    /// exactly `entitled`.
    pub fn check(der: &[u8], entitled: &SpiffeId) -> Result<Self, CsrError> {
        let request = parse(der)?;
        request.verify_signature().map_err(|_| CsrError::Signature)?;
        check_names(&request, entitled)?;
        Ok(Self { id: entitled.clone(), key: public_key(&request)? })
    }

    /// For who holds the key and signs for it in one process: the same, without a request.
    ///
    /// # Errors
    /// When the key is of a type that is not allowed.
    pub fn own(id: SpiffeId, key: &PrivateKey) -> Result<Self, CsrError> {
        let key = SubjectPublicKeyInfo::from_der(&key.subject_public_key_info()).map_err(|_| CsrError::Key)?;
        Ok(Self { id, key })
    }

    /// The name that will be in the certificate.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }
}

impl PublicKeyData for SigningRequest {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, CsrError> {
    if der.len() > MAX_REQUEST {
        return Err(CsrError::NotARequest);
    }
    match X509CertificationRequest::from_der(der) {
        Ok(([], request)) => Ok(request),
        _ => Err(CsrError::NotARequest),
    }
}

/// The key as its own `SubjectPublicKeyInfo` says. (rcgen's reader of requests takes the curve from the *signature*
/// algorithm, and would turn a P-256 key that signed with SHA-384 into a P-384 key.)
fn public_key(request: &X509CertificationRequest<'_>) -> Result<SubjectPublicKeyInfo, CsrError> {
    let spki = request.certification_request_info.subject_pki.raw;
    let key = SubjectPublicKeyInfo::from_der(spki).map_err(|_| CsrError::Key)?;
    is_allowed(key.algorithm()).then_some(key).ok_or(CsrError::Key)
}

fn check_names(request: &X509CertificationRequest<'_>, entitled: &SpiffeId) -> Result<(), CsrError> {
    let mut uris = Vec::new();
    for extension in extensions(request)? {
        match extension {
            ParsedExtension::SubjectAlternativeName(san) => {
                let names = Names::collect(&san.general_names).map_err(|_| CsrError::Names)?;
                if names.uris.len() != san.general_names.len() {
                    return Err(CsrError::Names);
                }
                uris.extend(names.uris);
            }
            ParsedExtension::BasicConstraints(basic) if basic.ca => return Err(CsrError::Authority),
            // Harmless to ask for; the signer decides them.
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_) => {}
            _ => return Err(CsrError::Extension),
        }
    }
    match uris.as_slice() {
        [uri] if *uri == entitled.to_string() => Ok(()),
        [uri] => Err(CsrError::NotEntitled { asked: uri.clone(), entitled: entitled.clone() }),
        _ => Err(CsrError::Names),
    }
}

/// The extensions of all extension requests: the parser's own accessor looks at the first only.
fn extensions<'r>(request: &'r X509CertificationRequest<'_>) -> Result<Vec<&'r ParsedExtension<'r>>, CsrError> {
    let mut found = Vec::new();
    for attribute in request.certification_request_info.iter_attributes() {
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(asked) => {
                found.extend(asked.extensions.iter().map(|e| e.parsed_extension()));
            }
            _ => return Err(CsrError::Extension),
        }
    }
    Ok(found)
}
