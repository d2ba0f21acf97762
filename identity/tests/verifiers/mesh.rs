//! A mesh of two global namespaces and two clusters, and a forger who holds every key in it.

use std::sync::Arc;

use identity::ca::{GnsCa, IssuingCa, Lifetimes, Territory, TopLevelCa};
use identity::{
    Identity, KeyedCertificate, PrivateKey, Role, SigningRequest, SpiffeId, TrustBundle, TrustDomain, TrustView, pem,
};
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

pub(crate) fn domain(gns: &str) -> TrustDomain {
    TrustDomain::global_namespace(gns, "mesh").unwrap()
}

pub(crate) fn mesh_domain() -> TrustDomain {
    TrustDomain::mesh("mesh").unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub(crate) fn label(gns: &str, cluster: &str) -> String {
    format!("t-{gns}-{cluster}")
}

/// A request that was made and checked as in life.
pub(crate) fn request(id: &SpiffeId, key: &PrivateKey) -> SigningRequest {
    SigningRequest::check(&SigningRequest::make(id, key).unwrap(), id).unwrap()
}

pub(crate) fn agent_id(cluster: &str) -> SpiffeId {
    SpiffeId::new(mesh_domain(), Role::Agent { cluster: cluster.into() }).unwrap()
}

/// One global namespace with its issuing CAs.
pub(crate) struct Gns {
    pub(crate) name: &'static str,
    pub(crate) ca: GnsCa,
    pub(crate) north: IssuingCa,
    pub(crate) south: IssuingCa,
}

impl Gns {
    fn new(name: &'static str) -> Self {
        let ca = GnsCa::create(domain(name), &Lifetimes::default(), now()).unwrap();
        let [north, south] = ["north", "south"].map(|cluster| issuing(&ca, name, cluster));
        Self { name, ca, north, south }
    }

    pub(crate) fn gateway(&self, cluster: &str) -> Identity {
        let ca = if cluster == "north" { &self.north } else { &self.south };
        let name = Role::Gateway { cluster: cluster.into(), name: "gw-1".into() };
        let id = SpiffeId::new(domain(self.name), name).unwrap();
        let key = PrivateKey::generate().unwrap();
        let chain = ca
            .issue_gateway(&request(&id, &key), [label(self.name, cluster).as_str()], &Lifetimes::default(), now())
            .unwrap();
        holder(chain, &key)
    }

    pub(crate) fn workload(&self) -> Identity {
        let id = id(&format!("spiffe://{}/cluster/south/ns/default/svc/cart", domain(self.name)));
        let key = PrivateKey::generate().unwrap();
        let chain = self.south.issue_workload(&request(&id, &key), &Lifetimes::default(), now()).unwrap();
        holder(chain, &key)
    }
}

pub(crate) fn holder(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Identity {
    Identity::new(KeyedCertificate::new(chain, key).unwrap()).unwrap()
}

pub(crate) fn issuing(ca: &GnsCa, gns: &str, cluster: &str) -> IssuingCa {
    let key = PrivateKey::generate().unwrap();
    let (label, domain) = (label(gns, cluster), format!("{gns}.internal"));
    let territory = Territory { label: &label, domain: &domain };
    let certificate =
        ca.issue_issuing(&request(&agent_id(cluster), &key), territory, &Lifetimes::default(), now()).unwrap();
    IssuingCa::new(certificate, key).unwrap()
}

pub(crate) struct Mesh {
    pub(crate) top: TopLevelCa,
    pub(crate) shop: Gns,
    pub(crate) bank: Gns,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self { top: TopLevelCa::create("mesh", now()).unwrap(), shop: Gns::new("shop"), bank: Gns::new("bank") }
    }

    /// What everyone knows when all is well.
    pub(crate) fn view(&self) -> TrustView {
        let gns = [&self.shop, &self.bank];
        TrustView {
            bundles: gns.iter().map(|g| (domain(g.name), bundle([g.ca.certificate()]))).collect(),
            members: gns.iter().flat_map(|g| ["north", "south"].map(|c| (domain(g.name), c.to_owned()))).collect(),
            revoked: [].into(),
            revoked_ids: [].into(),
        }
    }
}

pub(crate) fn bundle<'c>(roots: impl IntoIterator<Item = &'c CertificateDer<'static>>) -> TrustBundle {
    TrustBundle::new(roots.into_iter().cloned()).unwrap()
}

/// An authority in the forger's hands, from what any CA exports.
pub(crate) struct Forger {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// A chain with its key, not necessarily sound.
#[derive(Clone)]
pub(crate) struct Forged {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<str>,
}

impl Forged {
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::from(KeyPair::from_pem(&self.key).unwrap());
        Arc::new(CertifiedKey::new(self.chain.clone(), any_supported_type(&key).unwrap()))
    }

    pub(crate) fn authority(&self) -> Forger {
        Forger { certificate: self.chain[0].clone(), key: KeyPair::from_pem(&self.key).unwrap() }
    }

    /// With the certificates `more` behind those that are there.
    pub(crate) fn and(mut self, more: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.chain.extend(more);
        self
    }
}

impl Forger {
    pub(crate) fn new(exported: &str) -> Self {
        let certificate = pem::decode_certificates(exported).unwrap().remove(0);
        let key = exported.find("-----BEGIN PRIVATE KEY").unwrap();
        Self { certificate, key: KeyPair::from_pem(&exported[key..]).unwrap() }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// Sign anything, alone.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Forged {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Forged { chain: vec![leaf.into()], key: key.serialize_pem().into() }
    }

    /// A right gateway leaf of shop in the south, but for the edit, with this authority's certificate behind it.
    pub(crate) fn leaf(&self, edit: impl FnOnce(&mut CertificateParams)) -> Forged {
        let mut params = leaf_params();
        edit(&mut params);
        self.sign(&params).and([self.certificate()])
    }
}

/// The parameters of a right gateway leaf of shop in the south.
pub(crate) fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = now() - Duration::minutes(1);
    params.not_after = now() + Duration::hours(1);
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = both();
    params.subject_alt_names = names("spiffe://shop.mesh/cluster/south/gateway/gw-1", &label("shop", "south"));
    params
}

pub(crate) fn both() -> Vec<ExtendedKeyUsagePurpose> {
    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
}

pub(crate) fn names(uri: &str, dns: &str) -> Vec<SanType> {
    vec![SanType::DnsName(dns.try_into().unwrap()), SanType::URI(uri.try_into().unwrap())]
}
