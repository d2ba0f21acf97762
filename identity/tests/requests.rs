//! Certificate signing requests: only the key of a request can get into a certificate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

extern crate tombolo_identity as identity;

use identity::csr::CsrError;
use identity::{PrivateKey, SigningRequest, SpiffeId};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, SanType};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

fn id() -> SpiffeId {
    "spiffe://shop.mesh/cluster/south/gateway/gw-1".parse().unwrap()
}

/// What checking says of a right request but for the edit.
fn check(edit: impl FnOnce(&mut CertificateParams)) -> Result<SigningRequest, CsrError> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id().to_string().try_into().unwrap())];
    edit(&mut params);
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    SigningRequest::check(request.der(), &id())
}

#[test]
fn a_right_request_passes_with_every_allowed_key() {
    let key = PrivateKey::generate().unwrap();
    assert!(SigningRequest::check(&SigningRequest::make(&id(), &key).unwrap(), &id()).is_ok());
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let key = PrivateKey::from_pem(&key.serialize_pem()).unwrap();
        assert!(SigningRequest::check(&SigningRequest::make(&id(), &key).unwrap(), &id()).is_ok());
    }
}

#[test]
fn wrong_names_are_refused() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let other = uri("spiffe://shop.mesh/cluster/north/gateway/gw-1");
    let dns = SanType::DnsName("shop.example".try_into().unwrap());
    let refused = |names: Vec<SanType>| check(|p| p.subject_alt_names = names).unwrap_err();
    assert!(matches!(refused(vec![other.clone()]), CsrError::NotEntitled { .. }));
    assert_eq!(refused(vec![]), CsrError::Names);
    assert_eq!(refused(vec![uri(&id().to_string()), other]), CsrError::Names);
    assert_eq!(refused(vec![uri(&id().to_string()), dns]), CsrError::Names);
}

#[test]
fn wishes_beyond_a_name_are_refused() {
    assert!(check(|p| p.is_ca = IsCa::ExplicitNoCa).is_ok());
    let authority = check(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(authority.unwrap_err(), CsrError::Authority);
    let unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    assert_eq!(check(|p| p.custom_extensions = vec![unknown]).unwrap_err(), CsrError::Extension);
}

/// The most bytes that algorithm and signature have behind what is signed: 12 + 2 + 1 + 72.
const SIGNATURE: usize = 87;

#[test]
fn broken_requests_are_refused() {
    let key = PrivateKey::generate().unwrap();
    let good = SigningRequest::make(&id(), &key).unwrap().to_vec();
    // Outside of what is signed, a byte may be without effect (the parameters of the algorithm); none may panic.
    let signed = good.len() - SIGNATURE;
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x55;
        let checked = SigningRequest::check(&bad, &id());
        assert!(checked.is_err() || position >= signed, "byte {position} does not matter");
        assert!(SigningRequest::check(&good[..position], &id()).is_err());
    }
    let mut longer = good;
    longer.push(0);
    assert_eq!(SigningRequest::check(&longer, &id()).unwrap_err(), CsrError::NotARequest);
    assert_eq!(SigningRequest::check(&vec![0x30; 9000], &id()).unwrap_err(), CsrError::NotARequest);
}

#[test]
fn rsa_is_refused() {
    let agent: SpiffeId = "spiffe://mesh/cluster/south/agent".parse().unwrap();
    let request = CertificateSigningRequestDer::from_pem_slice(include_bytes!("rsa-request.pem")).unwrap();
    assert_eq!(SigningRequest::check(&request, &agent).unwrap_err(), CsrError::Key);
    assert!(PrivateKey::from_pem(include_str!("rsa-key.pem")).is_err());
}
