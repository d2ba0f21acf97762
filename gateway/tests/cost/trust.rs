//! The identities of two clusters' gateways in the GNS, and what both believe.

use identity::ca::{GnsCa, IssuingCa, Lifetimes, Territory};
use identity::{Identity, KeyedCertificate, PrivateKey, Role, SigningRequest, SpiffeId, TrustDomain, pem};
use serde_json::{Value, json};
use time::OffsetDateTime;

const GNS: &str = "shop";
const DOMAIN: &str = "shop.internal";
const MESH: &str = "mesh";

/// The authority of the GNS.
pub struct Trust(GnsCa);

impl Trust {
    /// A new one.
    pub fn new() -> Self {
        let domain = TrustDomain::global_namespace(GNS, MESH).unwrap();
        Trust(GnsCa::create(domain, &Lifetimes::default(), OffsetDateTime::now_utc()).unwrap())
    }

    /// Whom to believe.
    pub fn fact(&self) -> Value {
        json!({"trust": {
            "globalNamespace": GNS,
            "trustDomain": self.0.domain().to_string(),
            "roots": [pem::encode_certificates([self.0.certificate()])],
            "labels": {"north": label("north"), "south": label("south")}}})
    }

    /// Who the gateway of a cluster is.
    pub fn gateway(&self, cluster: &str) -> Identity {
        let role = Role::Gateway { cluster: cluster.into(), name: "gw".into() };
        let (request, key) = request(SpiffeId::new(self.0.domain().clone(), role).unwrap());
        let issued = self.issuing(cluster).issue_gateway(
            &request,
            [label(cluster).as_str()],
            &Lifetimes::default(),
            OffsetDateTime::now_utc(),
        );
        Identity::new(KeyedCertificate::new(issued.unwrap(), &key).unwrap()).unwrap()
    }

    fn issuing(&self, cluster: &str) -> IssuingCa {
        let role = Role::Agent { cluster: cluster.into() };
        let (request, key) = request(SpiffeId::new(TrustDomain::mesh(MESH).unwrap(), role).unwrap());
        let label = label(cluster);
        let territory = Territory { label: &label, domain: DOMAIN };
        let issued = self.0.issue_issuing(&request, territory, &Lifetimes::default(), OffsetDateTime::now_utc());
        IssuingCa::new(issued.unwrap(), key).unwrap()
    }
}

/// The opaque name that a cluster's gateways bear in the GNS.
fn label(cluster: &str) -> String {
    format!("{cluster}.tunnel.internal")
}

fn request(id: SpiffeId) -> (SigningRequest, PrivateKey) {
    let key = PrivateKey::generate().unwrap();
    let request = SigningRequest::check(&SigningRequest::make(&id, &key).unwrap(), &id).unwrap();
    (request, key)
}
