//! Large worlds, and one change to each kind of thing in them.

use std::sync::Arc;

use config::resource::{Name, Resource, SecretRef, Spec};
use config::wire::Secret;
use config::world::{Fact, HostCertificate, World};
use gateway::Secrets;
use identity::PrivateKey;
use serde_json::{Value, json};

/// Where the plans are made: one of ten clusters.
pub const CLUSTER: &str = "c0";
/// A host that needs no certificate, of the first service.
pub const PLAIN_HOST: &str = "plain.example.com";
const OTHERS: usize = 9;
const HOSTS: usize = 5_000;

/// A world, and the keys of its certificates.
pub struct Large {
    /// What is known.
    pub world: World,
    /// The keys.
    pub secrets: Secrets,
    /// Its services in [`CLUSTER`], by their keys.
    services: Vec<String>,
    spare: HostCertificate,
}

impl Large {
    /// So many services of so many instances each, parts of them in nine other clusters, and 5,000 hosts with a
    /// certificate each.
    pub fn new(services: usize, instances: usize) -> Self {
        let (made, spare) = (certificate("made"), certificate("spare"));
        let mut facts = vec![namespace()];
        facts.extend((0..services).map(|at| service(at, instances)));
        facts.extend((0..services).flat_map(|at| (1..=OTHERS).map(move |cluster| remote(at, cluster, instances))));
        facts.extend((0..HOSTS).flat_map(|at| [public_service(at, services), host_certificate(at, &made.0)]));
        facts.push(plain_service());
        let facts = facts.into_iter().map(|fact| serde_json::from_value::<Fact>(fact).unwrap());
        let mut world = World { facts: facts.map(|fact| (fact.key().to_string(), fact)).collect(), ..World::default() };
        world.revision.global = 1;
        let keys = world.facts.keys().filter(|key| key.starts_with("Service/")).map(str::to_owned).collect();
        let Fact::HostCertificate(spare_fact) = serde_json::from_value::<Fact>(host_certificate(0, &spare.0)).unwrap()
        else {
            unreachable!("it was made as one")
        };
        let secrets = [made.1, spare.1].into_iter().map(|secret| (secret.reference().clone(), secret)).collect();
        Large { world, secrets, services: keys, spare: HostCertificate::clone(&spare_fact) }
    }

    /// The last instance of a service in the middle moves to another address.
    pub fn move_instance(&mut self, round: usize) {
        let key = self.services[self.services.len() / 2].clone();
        self.change(&key, |spec| {
            let Spec::Service(service) = spec else { return };
            let instance = service.versions.last_mut().and_then(|version| version.instances.last_mut());
            instance.unwrap().address = address(60_000 + round % 2).parse().unwrap();
        });
    }

    /// A host goes to another port of its service, or back.
    pub fn turn_host(&mut self, round: usize) {
        self.change("PublicService/shop/p2500", |spec| {
            let Spec::PublicService(public) = spec else { return };
            public.service_info = round.is_multiple_of(2);
        });
    }

    /// A host gets another certificate, or its old one back.
    pub fn replace_certificate(&mut self, _round: usize) {
        let Some(Fact::HostCertificate(now)) = self.world.facts.get_mut("hostCertificate/shop/p2500") else { return };
        let next = HostCertificate { public_service: now.public_service.clone(), ..self.spare.clone() };
        self.spare = HostCertificate::clone(now);
        *now = Arc::new(next);
        self.world.revision.global += 1;
    }

    fn change(&mut self, key: &str, change: impl FnOnce(&mut Spec)) {
        let Some(Fact::Resource(resource)) = self.world.facts.get_mut(key) else { panic!("{key} is not there") };
        let mut next = Resource::clone(resource);
        change(&mut next.spec);
        *resource = Arc::new(next);
        self.world.revision.global += 1;
    }
}

/// A name that is one.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Loopback, where nothing listens.
fn address(number: usize) -> String {
    format!("127.110.{}.{}", number / 250, number % 250 + 1)
}

fn namespace() -> Value {
    json!({"resource": {"id": "GlobalNamespace/shop", "spec": {"GlobalNamespace": {
        "domain": "shop.internal", "members": [{"cluster": {"prefix": "c"}, "namespace": {"exact": "shop"}}]}}}})
}

fn service(at: usize, instances: usize) -> Value {
    let instances = at * instances..(at + 1) * instances;
    let instances: Vec<Value> = instances.map(|number| json!({"address": address(number)})).collect();
    json!({"resource": {"id": format!("Service/{CLUSTER}/shop/s{at}"), "spec": {"Service": {
        "ports": [{"name": "http", "port": 8080}], "versions": [{"name": "v1", "instances": instances}],
        "healthCheck": {"interval": "1h"}}}}})
}

fn remote(at: usize, cluster: usize, instances: usize) -> Value {
    json!({"remote": {"cluster": format!("c{cluster}"), "namespace": "shop", "name": format!("s{at}"),
        "ports": [{"name": "http", "port": 8080}], "versions": {"v1": instances}}})
}

fn public_service(at: usize, services: usize) -> Value {
    json!({"resource": {"id": format!("PublicService/shop/p{at}"), "spec": {"PublicService": {
        "globalNamespace": "shop", "service": format!("s{}", at % services), "port": 8080,
        "hosts": [{"name": format!("h{at}.example.com")}], "tls": {"certificate": "selfSigned"}}}}})
}

fn plain_service() -> Value {
    json!({"resource": {"id": "PublicService/shop/plain", "spec": {"PublicService": {
        "globalNamespace": "shop", "service": "s0", "port": 8080,
        "hosts": [{"name": PLAIN_HOST}], "tls": {"mode": "http"}}}}})
}

fn certificate(of: &str) -> (HostCertificate, Secret) {
    let key = PrivateKey::generate().unwrap().to_pem();
    let params = rcgen::CertificateParams::new(["*.example.com".to_owned()]).unwrap();
    let chain = params.self_signed(&rcgen::KeyPair::from_pem(&key).unwrap()).unwrap().pem();
    let secret_ref = SecretRef { key_sha256: of.into() };
    let secret = Secret::new(secret_ref.clone(), key);
    (
        HostCertificate { global_namespace: name("shop"), public_service: name(of), chain: chain.into(), secret_ref },
        secret,
    )
}

fn host_certificate(at: usize, made: &HostCertificate) -> Value {
    let public_service = name(&format!("p{at}"));
    json!({"hostCertificate": HostCertificate { public_service, ..made.clone() }})
}
