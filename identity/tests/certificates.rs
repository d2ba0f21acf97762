//! What the authorities make, and what is read of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

extern crate tombolo_identity as identity;

use identity::ca::{CaError, ControlCa, GnsCa, IssuingCa, Lifetimes, Territory, TopLevelCa};
use identity::keyed::KeyedError;
use identity::{Facts, Identity, KeyedCertificate, PrivateKey, SigningRequest, TrustDomain, pem};
use time::{Duration, OffsetDateTime};

const RSA_KEY: &str = include_str!("rsa-key.pem");
const RSA_CERTIFICATE: &str = include_str!("rsa-certificate.pem");

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
}

fn request(id: &str, key: &PrivateKey) -> SigningRequest {
    SigningRequest::own(id.parse().unwrap(), key).unwrap()
}

fn gns(created: OffsetDateTime) -> GnsCa {
    let domain = TrustDomain::global_namespace("shop", "mesh").unwrap();
    GnsCa::create(domain, &Lifetimes::default(), created).unwrap()
}

fn issuing(gns: &GnsCa, at: OffsetDateTime) -> Result<IssuingCa, CaError> {
    let key = PrivateKey::generate().unwrap();
    let territory = Territory { label: "t-1", domain: "shop.internal" };
    let agent = request("spiffe://mesh/cluster/south/agent", &key);
    IssuingCa::new(gns.issue_issuing(&agent, territory, &Lifetimes::default(), at)?, key)
}

#[test]
fn lives_nest_and_are_thirds() {
    let gns = gns(now());
    let issuing = issuing(&gns, now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let gateway = request("spiffe://shop.mesh/cluster/south/gateway/gw-1", &key);
    let leaf = issuing.issue_gateway(&gateway, ["t-1"], &Lifetimes::default(), now()).unwrap();
    let leaf = Facts::read(&leaf[0]).unwrap();
    let life = |f: &Facts| f.not_after - f.not_before;
    assert_eq!(life(gns.facts()), Duration::days(90));
    assert_eq!(life(issuing.facts()), Duration::days(30));
    assert_eq!(life(&leaf), Duration::hours(24));
    assert!(leaf.not_before <= now() - Duration::seconds(59), "not backdated");
    assert!(leaf.uris == ["spiffe://shop.mesh/cluster/south/gateway/gw-1"] && leaf.dns_names == ["t-1"]);
}

#[test]
fn nothing_outlives_its_issuer() {
    let start = now();
    let gns = gns(start);
    let late = issuing(&gns, start + Duration::days(85)).unwrap();
    assert_eq!(late.facts().not_after, gns.facts().not_after);
    assert!(matches!(issuing(&gns, start + Duration::days(90)), Err(CaError::NotAlive(_))));
    assert!(matches!(issuing(&gns, start - Duration::days(1)), Err(CaError::NotAlive(_))));
}

#[test]
fn an_agent_of_another_mesh_gets_no_issuing_ca() {
    let key = PrivateKey::generate().unwrap();
    let territory = Territory { label: "t-1", domain: "shop.internal" };
    let agent = request("spiffe://other/cluster/south/agent", &key);
    let refused = gns(now()).issue_issuing(&agent, territory, &Lifetimes::default(), now());
    assert!(matches!(refused, Err(CaError::NotOurs(_))));
}

#[test]
fn a_renewed_certificate_of_the_same_key_has_another_serial() {
    let top = TopLevelCa::create("mesh", now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let agent = request("spiffe://mesh/cluster/south/agent", &key);
    let serial = || Facts::read(&top.issue_agent(&agent, now()).unwrap()[0]).unwrap().serial;
    assert_ne!(serial(), serial());
}

#[test]
fn authorities_survive_export() {
    let gns = gns(now());
    let issuing = issuing(&gns, now()).unwrap();
    let back = IssuingCa::import(&issuing.export()).unwrap();
    assert_eq!((back.cluster(), back.domain()), ("south", gns.domain()));
    assert_eq!(back.facts(), issuing.facts());
    assert_eq!(GnsCa::import(&gns.export()).unwrap().certificate(), gns.certificate());
    let control = ControlCa::create("mesh", "south", now()).unwrap();
    assert_eq!(ControlCa::import(&control.export()).unwrap().facts(), control.facts());
    assert!(ControlCa::create("mesh", "So/uth", now()).is_err());
    let (key, certificate) = (PrivateKey::generate().unwrap().to_pem(), pem::encode_certificates([gns.certificate()]));
    let torn = format!("{certificate}{}", key.as_str());
    assert!(matches!(GnsCa::import(&torn), Err(CaError::Mismatch)));
    assert!(!format!("{gns:?} {issuing:?} {control:?}").contains("PRIVATE"));
}

#[test]
fn the_cross_signature_is_of_the_same_subject_and_key() {
    let top = TopLevelCa::create("mesh", now()).unwrap();
    let gns = gns(now());
    let cross = Facts::read(&top.cross_sign(&gns).unwrap()).unwrap();
    assert_eq!(cross.subject, gns.facts().subject);
    assert_eq!((cross.not_before, cross.not_after), (gns.facts().not_before, gns.facts().not_after));
    assert_ne!(cross.fingerprint, gns.facts().fingerprint);
}

#[test]
fn public_certificates_cover_their_hosts() {
    let top = TopLevelCa::create("mesh", now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let chain = top.issue_public(["*.shop.example", "Shop.example", "192.0.2.1"], &key, now()).unwrap();
    let keyed = KeyedCertificate::new(chain, &key).unwrap();
    let facts = keyed.facts();
    for host in ["shop.example", "a.shop.example", "A.Shop.Example.", "192.0.2.1", "*.shop.example"] {
        assert!(facts.covers(host), "{host}");
    }
    for host in ["a.b.shop.example", "example", "192.0.2.2", "", "*.example"] {
        assert!(!facts.covers(host), "{host}");
    }
    assert!(facts.uris.is_empty() && Identity::new(keyed).is_err());
}

#[test]
fn uploads_must_be_pairs() {
    let keyed = KeyedCertificate::from_pem(RSA_CERTIFICATE, RSA_KEY).unwrap();
    assert!(keyed.facts().covers("a.shop.example") && keyed.facts().valid_at(now()));
    assert!(!keyed.facts().valid_at(now() + Duration::days(40_000)));
    let other = PrivateKey::generate().unwrap().to_pem();
    assert!(matches!(KeyedCertificate::from_pem(RSA_CERTIFICATE, &other), Err(KeyedError::Mismatch(_))));
    assert!(matches!(KeyedCertificate::from_pem("", RSA_KEY), Err(KeyedError::Pem(_))));
    assert!(matches!(KeyedCertificate::from_pem(RSA_CERTIFICATE, "nonsense"), Err(KeyedError::Pem(_))));
    assert!(matches!(KeyedCertificate::from_pem(RSA_KEY, RSA_CERTIFICATE), Err(KeyedError::Pem(_))));
}
