//! A small mesh: the service `web` of the GNS `shop`, published as `shop.example.com`, and what its gateways are fed.

use std::net::SocketAddr;
use std::sync::Arc;

use config::compile::compile;
use config::live::{self, Publisher};
use config::manifest::{self, Defaults};
use config::resource::{Name, SecretRef};
use config::snapshot::{Place, Snapshot};
use config::wire::{RevisionPair, Secret};
use config::world::{Fact, World};
use gateway::{Identities, Inputs, Secrets};
use identity::{Identity, PrivateKey};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

/// The host by which the public knows the service.
pub const PUBLIC_HOST: &str = "shop.example.com";
/// The name by which workloads know it.
pub const MESH_HOST: &str = "web.shop.internal";

const MANIFESTS: &str = "
apiVersion: tombolo.dev/v1alpha1
kind: GlobalNamespace
metadata: {name: shop}
spec:
  domain: shop.internal
  members:
    - {cluster: {exact: north}, namespace: {exact: shop}}
    - {cluster: {exact: south}, namespace: {exact: shop}}
---
apiVersion: tombolo.dev/v1alpha1
kind: Cluster
metadata: {name: north}
spec: {workloads: [{cidr: 127.0.0.0/8, namespace: shop}]}
";

const PUBLIC_SERVICE: &str = "
apiVersion: tombolo.dev/v1alpha1
kind: PublicService
metadata: {name: web}
spec:
  globalNamespace: shop
  service: web
  port: PORT
  hosts: [{name: shop.example.com}]
  tls: TLS
  serviceInfo: true
";

/// The health check is real, but comes once an hour: requests are what is counted.
const SERVICE: &str = "
apiVersion: tombolo.dev/v1alpha1
kind: Service
metadata: {name: web, cluster: CLUSTER, namespace: shop}
spec:
  ports: [{name: http, port: PORT, protocol: http}]
  versions: [{name: v1, instances: [{address: 127.0.0.1}]}]
  healthCheck: {protocol: http, path: /healthz, interval: 1h, timeout: 5s}
";

/// What a cluster's gateways are fed, and the ends by which it could change: without those, gateways let go.
pub struct Feed {
    /// What a gateway is built with.
    pub inputs: Inputs,
    _ends: (Publisher<Snapshot>, Publisher<Secrets>, Publisher<Identities>),
}

/// What a cluster knows.
pub struct Site {
    cluster: &'static str,
    facts: Vec<Fact>,
    secrets: Secrets,
    identities: Identities,
}

impl Site {
    /// A cluster in which the service has an instance; its port is the service's, too.
    pub fn new(cluster: &'static str, instance: SocketAddr) -> Self {
        let mut site = Site::without_instances(cluster);
        let service = SERVICE.replace("CLUSTER", cluster).replace("PORT", &instance.port().to_string());
        site.facts.extend(resources(&service));
        site
    }

    /// A cluster in which nobody serves.
    pub fn without_instances(cluster: &'static str) -> Self {
        Site { cluster, facts: resources(MANIFESTS), secrets: Secrets::default(), identities: Identities::default() }
    }

    /// Publishes the service over HTTP.
    pub fn publish_http(&mut self, port: u16) {
        self.publish(port, "{mode: http}");
    }

    /// Publishes it over HTTPS; returns the certificate that clients believe.
    pub fn publish_https(&mut self, port: u16) -> CertificateDer<'static> {
        self.publish(port, "{mode: https, certificate: selfSigned}");
        let key = PrivateKey::generate().unwrap().to_pem();
        let params = rcgen::CertificateParams::new([PUBLIC_HOST.to_owned()]).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::from_pem(&key).unwrap()).unwrap();
        let secret = Secret::new(SecretRef { key_sha256: "ab".repeat(32).into() }, key);
        self.add(json!({"hostCertificate": {
            "globalNamespace": "shop", "publicService": "web",
            "chain": certificate.pem(), "secretRef": secret.reference()}}));
        self.secrets.insert(secret.reference().clone(), secret);
        certificate.der().clone()
    }

    fn publish(&mut self, port: u16, tls: &str) {
        self.facts.extend(resources(&PUBLIC_SERVICE.replace("PORT", &port.to_string()).replace("TLS", tls)));
    }

    /// Adds what no manifest says.
    pub fn add(&mut self, fact: Value) {
        self.facts.push(serde_json::from_value(fact).unwrap());
    }

    /// Gives its gateways an identity in the GNS.
    pub fn identify(&mut self, identity: Identity) {
        self.identities.insert(name("shop"), Arc::new(identity));
    }

    /// Feeds a gateway.
    pub fn feed(self) -> Feed {
        let mut world = World { revision: RevisionPair { global: 1, ..RevisionPair::default() }, ..World::default() };
        world.facts.extend(self.facts.into_iter().map(|fact| (fact.key().to_string(), fact)));
        let snapshot = compile(&world, &Place { cluster: name(self.cluster) }, None);
        assert_eq!(snapshot.rejected, []);
        let (snapshots, snapshot) = live::channel(Arc::new(snapshot));
        let (keys, secrets) = live::channel(Arc::new(self.secrets));
        let (own, identities) = live::channel(Arc::new(self.identities));
        Feed { inputs: Inputs { snapshot, secrets, identities }, _ends: (snapshots, keys, own) }
    }
}

/// A name that is one.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn resources(manifests: &str) -> Vec<Fact> {
    let manifests = manifest::read(manifests, "cost", &Defaults::default()).unwrap();
    manifests.into_iter().map(|manifest| Fact::Resource(Arc::new(manifest.resource))).collect()
}
