//! rustls's two verifier traits over [`verify_peer`].

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

use crate::refusal::Refusal;
use crate::trust::Trust;
use crate::verify::{Accept, MAX_CHAIN, PeerEnd, verify_peer};

/// What both verifiers share.
#[derive(Debug)]
struct Rules {
    accept: Accept,
    trust: Arc<dyn Trust>,
    signatures: WebPkiSupportedAlgorithms,
}

impl Rules {
    fn new(accept: Accept, trust: Arc<dyn Trust>) -> Self {
        Self { accept, trust, signatures: ring::default_provider().signature_verification_algorithms }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        end: PeerEnd,
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(Refusal::ChainTooLong(intermediates.len() + 1).into());
        }
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        verify_peer(&chain, end, name, &self.accept, &*self.trust, date(now)?)?;
        Ok(())
    }

    fn verify_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.signatures)
    }
}

fn date(now: UnixTime) -> Result<OffsetDateTime, Error> {
    let seconds = i64::try_from(now.as_secs()).ok();
    let date = seconds.and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    date.ok_or_else(|| Error::General("this machine's clock is beyond the year 9999".into()))
}

fn tls12() -> Error {
    Error::General("the mesh speaks TLS 1.3 only".into())
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// It must.
    Mandatory,
    /// It may go without; one that it shows must verify.
    IfOffered,
}

/// Verifies who dials.
#[derive(Debug)]
pub struct ClientVerifier {
    rules: Rules,
    strictness: Strictness,
}

impl ClientVerifier {
    /// Accept these clients, by this knowledge.
    #[must_use]
    pub fn new(accept: Accept, trust: Arc<dyn Trust>, strictness: Strictness) -> Self {
        Self { rules: Rules::new(accept, trust), strictness }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.strictness == Strictness::Mandatory
    }

    /// None: they would tell everyone who asks which global namespaces are here.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.rules.verify(leaf, intermediates, PeerEnd::Client, None, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.signatures.supported_schemes()
    }
}

/// Whether the dialled name must be in the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerNames {
    /// It must: in tunnels it is the label, which tells apart what is dialled.
    Verified,
    /// The SPIFFE ID says enough: a controller or agent may be reached by any address.
    Ignored,
}

/// Verifies whom we dialled.
#[derive(Debug)]
pub struct ServerVerifier {
    rules: Rules,
    names: ServerNames,
}

impl ServerVerifier {
    /// Accept these servers, by this knowledge.
    #[must_use]
    pub fn new(accept: Accept, trust: Arc<dyn Trust>, names: ServerNames) -> Self {
        Self { rules: Rules::new(accept, trust), names }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = (self.names == ServerNames::Verified).then_some(name);
        self.rules.verify(leaf, intermediates, PeerEnd::Server, name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rules.verify_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.signatures.supported_schemes()
    }
}
