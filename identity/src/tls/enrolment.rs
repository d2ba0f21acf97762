//! Trust at first contact: the root comes with the handshake and is known by its fingerprint.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::verifiers::{ServerNames, ServerVerifier};
use crate::bundle::TrustBundle;
use crate::facts::fingerprint;
use crate::refusal::Refusal;
use crate::spiffe::{RoleKind, TrustDomain};
use crate::trust::Pinned;
use crate::verify::{Accept, MAX_CHAIN};

/// The certificate of `chain` with this SHA-256, in lower-case hexadecimal.
#[must_use]
pub fn pinned_root<'c>(chain: &'c [CertificateDer<'c>], pin: &str) -> Option<&'c CertificateDer<'c>> {
    chain.iter().take(MAX_CHAIN).find(|certificate| fingerprint(certificate) == pin)
}

/// Verifies a controller or agent by the fingerprint of its root.
#[derive(Debug)]
pub(super) struct EnrolmentVerifier {
    domain: TrustDomain,
    role: RoleKind,
    pin: String,
    /// Verifies the handshake's signatures, which takes no roots; its own rules allow nobody.
    signatures: ServerVerifier,
}

impl EnrolmentVerifier {
    pub(super) fn new(domain: TrustDomain, role: RoleKind, pin: &str) -> Self {
        let signatures = by_roots(&domain, role, TrustBundle::default());
        Self { domain, role, pin: pin.to_ascii_lowercase(), signatures }
    }
}

fn by_roots(domain: &TrustDomain, role: RoleKind, roots: TrustBundle) -> ServerVerifier {
    let trust = Pinned::new(domain.clone(), roots);
    let accept = Accept::new(domain.clone(), [role]).or_successors();
    ServerVerifier::new(accept, Arc::new(trust), ServerNames::Ignored)
}

impl ServerCertVerifier for EnrolmentVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = pinned_root(intermediates, &self.pin).ok_or(Refusal::NotPinned)?;
        let roots = TrustBundle::new([root.clone().into_owned()]).map_err(|_| Refusal::NotPinned)?;
        by_roots(&self.domain, self.role, roots).verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
