//! What a caller may show: good certificates, and every kind of bad one.

use std::sync::Arc;

use identity::{Identity, KeyedCertificate, PrivateKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::{GNSS, SERVICES};
use crate::support::workload::Member;

/// Whom a certificate proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proves {
    Nobody,
    /// A workload of the north: its GNS and service.
    Workload(&'static str, &'static str),
    /// A gateway of the north, in a GNS.
    Gateway(&'static str),
}

/// A chain with a key, or nothing.
pub struct Credential {
    pub name: String,
    pub proves: Proves,
    shown: Option<Arc<CertifiedKey>>,
}

impl Credential {
    fn new(name: String, proves: Proves, identity: &Identity) -> Self {
        Credential { name, proves, shown: Some(identity.keyed().certified_key()) }
    }

    /// A chain and a key in PEM, whether they fit or not.
    fn bad(name: String, chain: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = any_supported_type(&PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
        Credential { name, proves: Proves::Nobody, shown: Some(Arc::new(CertifiedKey::new(chain, key))) }
    }

    /// A client that shows it and believes everybody: what a thief would not mind.
    pub fn config(&self, alpn: &[u8]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous));
        let mut config = match &self.shown {
            Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.clone()))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }
}

/// All of them, the good ones first.
pub fn all(north: &[Member; 2], south: &[Member; 2], gateways: [Identity; 2]) -> Vec<Credential> {
    let mut all = vec![Credential { name: "none".into(), proves: Proves::Nobody, shown: None }];
    for (gns, member) in GNSS.into_iter().zip(north) {
        for service in SERVICES {
            let proves = Proves::Workload(gns, service);
            all.push(Credential::new(format!("{gns}/{service}"), proves, &member.workload(gns, service)));
        }
    }
    for (gns, gateway) in GNSS.into_iter().zip(gateways) {
        all.push(Credential::new(format!("{gns}'s gateway"), Proves::Gateway(gns), &gateway));
    }
    for (at, gns) in GNSS.into_iter().enumerate() {
        all.extend(bad(gns, &north[at], &south[at], &north[1 - at]));
    }
    all
}

fn bad(gns: &'static str, north: &Member, south: &Member, other: &Member) -> Vec<Credential> {
    let (ca, id) = (Signer::of(&north.issuing), north.id(gns, "cart").to_string());
    let whole = |name: &str, signed: Signed| Credential::bad(format!("{gns}: {name}"), &signed.chain, &signed.key);
    let foreign = Signer::of(&other.issuing);
    let mut bad = vec![
        Credential::new(format!("{gns}: of the south"), Proves::Nobody, &south.workload(gns, "cart")),
        whole("the south's name", ca.sign(params(&[&south.id(gns, "cart").to_string()]))),
        whole("the other GNS's name", ca.sign(params(&[&other.id(gns, "cart").to_string()]))),
        whole("signed in the other GNS", foreign.sign(params(&[&id]))),
        whole("expired", ca.sign(dated(params(&[&id]), 2020, 2021))),
        whole("not yet valid", ca.sign(dated(params(&[&id]), 2090, 2091))),
        whole("self-signed", self_signed(params(&[&id]))),
        whole("no EKU", ca.sign(used_for(&id, &[]))),
        whole("a server's EKU", ca.sign(used_for(&id, &[ExtendedKeyUsagePurpose::ServerAuth]))),
        whole("a CA as leaf", ca.sign(authority(&id))),
        Credential::bad(format!("{gns}: the issuing CA itself"), &north.issuing, &north.issuing),
        whole("signed by a leaf", signed_by_leaf(&ca, &id)),
        whole("two URIs", ca.sign(params(&[&id, &other.id(other.cluster, "cart").to_string()]))),
        whole("the same URI twice", ca.sign(params(&[&id, &id]))),
        whole("no URI", ca.sign(params(&[]))),
        {
            let signed = ca.sign(params(&[&id]));
            Credential::bad(
                format!("{gns}: another's key"),
                &signed.chain,
                &KeyPair::generate().unwrap().serialize_pem(),
            )
        },
    ];
    let malformed = [
        id.replace("spiffe://", "SPIFFE://"),
        id.replace("spiffe://", "https://"),
        id.replace("/cluster/", ":443/cluster/"),
        id.replace("spiffe://", "spiffe://user@"),
        id.replace("/svc/cart", "/svc/Cart"),
        id.replace("/svc/cart", "/svc/cart/"),
        id.replace("/svc/cart", "/svc/cart?x=y"),
        id.replace("/svc/cart", "/svc/cart#x"),
        id.replace("/svc/cart", ""),
        id.replace("/ns/", "//ns/"),
        id.replace("/svc/cart", "/svc/%63art"),
        id.replace("/cluster/north", "/cluster/../north"),
    ];
    bad.extend(malformed.iter().map(|id| whole(id, ca.sign(params(&[id])))));
    bad
}

/// A chain and the key of its leaf, in PEM.
struct Signed {
    chain: String,
    key: String,
}

/// A certificate authority, whether it is one or not.
struct Signer {
    chain: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn of(chain_and_key: &str) -> Self {
        let certificate = CertificateDer::pem_slice_iter(chain_and_key.as_bytes()).next().unwrap().unwrap();
        let key = PrivateKey::from_pem(chain_and_key).unwrap().to_pem();
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(&key).unwrap()).unwrap();
        let chain = identity::pem::encode_certificates([&certificate]);
        Signer { chain, issuer }
    }

    fn sign(&self, params: CertificateParams) -> Signed {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Signed { chain: leaf.pem() + &self.chain, key: key.serialize_pem() }
    }
}

/// A good leaf that acts as if it were a CA.
fn signed_by_leaf(ca: &Signer, id: &str) -> Signed {
    let (key, leaf) = (KeyPair::generate().unwrap(), params(&[id]));
    let chain = leaf.signed_by(&key, &ca.issuer).unwrap().pem() + &ca.chain;
    Signer { chain, issuer: Issuer::new(leaf, key) }.sign(params(&[id]))
}

fn self_signed(params: CertificateParams) -> Signed {
    let key = KeyPair::generate().unwrap();
    Signed { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// As of a workload, with these URIs.
fn params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    dated(params, 2020, 2090)
}

fn used_for(id: &str, usages: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let mut params = params(&[id]);
    params.extended_key_usages = usages.to_vec();
    params
}

fn authority(id: &str) -> CertificateParams {
    let mut params = params(&[id]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn dated(mut params: CertificateParams, from: i32, to: i32) -> CertificateParams {
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    params
}

/// What a gateway holds on disk.
pub fn identity(text: &str) -> Identity {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).take(2).collect();
    let key = PrivateKey::from_pem(text).unwrap();
    Identity::new(KeyedCertificate::new(chain, &key).unwrap()).unwrap()
}

/// Believes everybody.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
