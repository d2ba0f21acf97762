//! A controller that does only what an agent needs of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Json, Router};
use config::resource::{Name, SecretRef};
use config::wire::{Ack, Entries, Hello, Observed, Order, RevisionPair, Secret};
use config::world::patch;
use controller::http::message::{Certified, Certify, Errors, ISSUING, JOIN, Join, Joined};
use controller::http::token::Token;
use controller::http::{ClientCertificate, SERVER_ALPN, csr, server};
use controller::sync::relay;
use controller::sync::secrets::reference_of;
use controller::sync::{self, Feed, Published, Refusal, Session, Source};
use identity::ca::{GnsCa, Lifetimes, Territory, TopLevelCa};
use identity::pem::encode_certificates;
use identity::tls::control_server_config;
use identity::{
    Accept, Identity, KeyedCertificate, Pinned, PrivateKey, Role, RoleKind, SigningRequest, SpiffeId, TrustBundle,
    TrustDomain,
};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const LABEL: &str = "l1.mesh.example";

/// What outlives the controller's process.
pub(crate) struct Fake {
    pub(crate) top: TopLevelCa,
    pub(crate) gns: GnsCa,
    pub(crate) world: watch::Sender<Arc<Published>>,
    pub(crate) seen: watch::Sender<Entries>,
    pub(crate) ack: watch::Sender<Ack>,
    pub(crate) hosts_key: PrivateKey,
    /// Further roots of the GNS, in PEM.
    pub(crate) further_roots: Mutex<Vec<String>>,
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn agent_id(cluster: &Name) -> SpiffeId {
    SpiffeId::new("mesh.example".parse().unwrap(), Role::Agent { cluster: cluster.to_string() }).unwrap()
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        let domain = TrustDomain::global_namespace("shop", "mesh.example").unwrap();
        let fake = Fake {
            top: TopLevelCa::create("mesh.example", now()).unwrap(),
            gns: GnsCa::create(domain, &Lifetimes::default(), now()).unwrap(),
            world: watch::Sender::default(),
            seen: watch::Sender::default(),
            ack: watch::Sender::default(),
            hosts_key: PrivateKey::generate().unwrap(),
            further_roots: Mutex::default(),
        };
        fake.publish(1, "north");
        Arc::new(fake)
    }

    /// What north is to hold.
    pub(crate) fn order(&self) -> Order {
        Order { root: self.gns.facts().fingerprint.clone(), ..Order::default() }
    }

    pub(crate) fn reference(&self) -> SecretRef {
        reference_of(&self.hosts_key.to_pem()).unwrap()
    }

    /// A world with a GNS, a host certificate with its key, and a cluster of that name.
    pub(crate) fn publish(&self, global: u64, cluster: &str) {
        let mut roots = vec![encode_certificates([self.gns.certificate()])];
        roots.extend(self.further_roots.lock().unwrap().iter().cloned());
        let members = json!([{"cluster": {"exact": "north"}, "namespace": {"exact": "shop"}}]);
        let gns = json!({"resource": {"id": "GlobalNamespace/shop", "labels": {},
            "spec": {"GlobalNamespace": {"domain": "shop.internal", "members": members}}}});
        let trust = json!({"trust": {"globalNamespace": "shop", "trustDomain": "shop.mesh.example",
            "roots": roots, "labels": {"north": LABEL}, "orders": {"north": self.order()}}});
        let certificate = json!({"hostCertificate": {"globalNamespace": "shop", "publicService": "web",
            "chain": "PEM", "secretRef": self.reference()}});
        let entries = Entries::from([
            ("trust/shop".to_owned(), trust.into()),
            ("GlobalNamespace/shop".to_owned(), gns.into()),
            ("hostCertificate/shop/web".to_owned(), certificate.into()),
            (
                format!("Cluster/{cluster}"),
                json!({"resource": {"id": format!("Cluster/{cluster}"), "spec": {"Cluster": {}}}}).into(),
            ),
        ]);
        let secret = |key: SecretRef| (key.clone(), Secret::new(key, self.hosts_key.to_pem()));
        // The second says that it is another key than it is.
        let secrets = BTreeMap::from([secret(self.reference()), secret(SecretRef { key_sha256: "ab".into() })]);
        let revision = RevisionPair { global, ..RevisionPair::default() };
        self.world.send_replace(Arc::new(Published {
            revision,
            entries: Arc::new(entries),
            secrets: Arc::new(secrets),
            ..Published::default()
        }));
    }

    pub(crate) fn token(&self, address: SocketAddr) -> Token {
        Token {
            address: address.to_string().parse().unwrap(),
            mesh: "mesh.example".into(),
            cluster: "north".parse().unwrap(),
            ca_sha256: self.top.facts().fingerprint.clone(),
            secret: String::from("admit").into(),
        }
    }

    /// Serves until the token is cancelled.
    pub(crate) async fn serve(self: &Arc<Self>, address: &str) -> (SocketAddr, CancellationToken) {
        self.serve_as(address, sync::server::handler(Arc::new(FakeSource(self.clone())))).await
    }

    /// The same, with streams of another kind.
    pub(crate) async fn serve_as(
        self: &Arc<Self>,
        address: &str,
        stream: MethodRouter,
    ) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route(JOIN, post(join))
            .route(ISSUING, post(issuing))
            .with_state(self.clone())
            .route(sync::PATH, stream);
        let shutdown = CancellationToken::new();
        let tls = watch::Sender::new(Arc::new(self.tls()));
        let (ended, receiver) = (shutdown.clone(), tls.subscribe());
        tokio::spawn(async move { server::serve(listener, receiver, router, ended).await });
        (address, shutdown)
    }

    fn tls(&self) -> rustls::ServerConfig {
        let key = PrivateKey::generate().unwrap();
        let domain = self.top.domain().clone();
        let id = SpiffeId::new(domain.clone(), Role::Controller).unwrap();
        let request = SigningRequest::own(id, &key).unwrap();
        let chain = self.top.issue_controller(&request, ["127.0.0.1"], now()).unwrap();
        let identity = Identity::new(KeyedCertificate::new(chain, &key).unwrap()).unwrap();
        let roots = TrustBundle::new([self.top.certificate().clone()]).unwrap();
        let accept = Accept::new(domain.clone(), [RoleKind::Agent]);
        control_server_config(&identity, Arc::new(Pinned::new(domain, roots)), accept, SERVER_ALPN).unwrap()
    }
}

async fn join(State(fake): State<Arc<Fake>>, Json(ask): Json<Join>) -> Result<Json<Joined>, Response> {
    if ask.secret != "admit" {
        return Err((StatusCode::FORBIDDEN, Json(Errors::one("this token was used before"))).into_response());
    }
    let request = csr::check(&ask.csr, &agent_id(&ask.cluster)).unwrap();
    let chain = fake.top.issue_agent(&request, now()).unwrap();
    let (certificate, ca) = (encode_certificates(&chain), encode_certificates([fake.top.certificate()]));
    Ok(Json(Joined { certificate, ca, mesh: "mesh.example".into(), order: Order::default() }))
}

async fn issuing(State(fake): State<Arc<Fake>>, Json(ask): Json<Certify>) -> Json<Certified> {
    let request = csr::check(&ask.csr, &agent_id(&"north".parse().unwrap())).unwrap();
    let territory = Territory { label: LABEL, domain: "shop.internal" };
    let certificate: CertificateDer<'static> =
        fake.gns.issue_issuing(&request, territory, &Lifetimes::default(), now()).unwrap();
    Json(Certified { chain: encode_certificates([&certificate]), order: fake.order() })
}

struct FakeSource(Arc<Fake>);

impl Source for FakeSource {
    fn mesh(&self) -> String {
        "mesh.example".into()
    }

    fn open(&self, peer: &ClientCertificate, hello: &Hello) -> Result<Feed, Refusal> {
        assert_eq!(peer.id, agent_id(&hello.name));
        let seen = Mutex::new(self.0.seen.borrow().clone());
        let session = Box::new(FakeSession(self.0.clone(), seen));
        let (_, questions) = relay::line(hello);
        Ok(Feed { world: self.0.world.subscribe(), session, questions, end: CancellationToken::new() })
    }
}

struct FakeSession(Arc<Fake>, Mutex<Entries>);

impl Session for FakeSession {
    fn observed(&mut self, step: Observed) -> Result<(), Refusal> {
        let mut entries = self.1.lock().unwrap();
        patch(&mut entries, step.reset, &step.replaces, step.entries);
        self.0.seen.send_replace(entries.clone());
        Ok(())
    }

    fn seen(&self) -> Entries {
        self.1.lock().unwrap().clone()
    }

    fn acknowledged(&mut self, ack: Arc<Ack>) {
        self.0.ack.send_replace((*ack).clone());
    }
}
