//! A controller in this process, and clients that call it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use config::resource::Address;
use controller::global::{AdminContext, Controller, Handle, Settings, read_admin_context};
use controller::http::client::{CallError, Client};
use controller::http::message::{ErrorItem, Join, Joined};
use controller::http::token::Token;
use controller::http::{CLIENT_ALPN, csr};
use controller::vault::SealKeys;
use http::StatusCode;
use identity::pem::decode_certificates;
use identity::tls::{control_client_config, enrolment_client_config};
use identity::{
    Accept, Identity, KeyedCertificate, Pinned, PrivateKey, Role, RoleKind, SpiffeId, TrustBundle, TrustDomain,
};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::connection::Kept;

pub const MESH: &str = "mesh.example";

pub struct Running {
    pub handle: Handle,
    pub admin: AdminContext,
    pub address: Address,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

pub fn domain() -> TrustDomain {
    MESH.parse().unwrap()
}

pub fn settings(directory: &Path) -> Settings {
    Settings {
        state_dir: directory.join("state"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertised: vec![],
        mesh: MESH.to_owned(),
        admin_context: Some(directory.join("config/admin.json")),
        seal_keys: SealKeys::default(),
        history: controller::store::HISTORY,
    }
}

/// Starts a controller, and returns when it answers.
pub async fn start(directory: &TempDir) -> Running {
    let settings = settings(directory.path());
    let admin = settings.admin_context.clone().unwrap();
    let controller = tokio::task::spawn_blocking(move || Controller::build(settings)).await.unwrap().unwrap();
    let (handle, mut ready, shutdown) = (controller.handle(), controller.ready(), CancellationToken::new());
    let run = controller.run(shutdown.clone());
    let task = tokio::spawn(async move { run.await.unwrap() });
    ready.wait_for(|ready| *ready).await.unwrap();
    let (admin, address) = (read_admin_context(&admin).unwrap(), handle.address().clone());
    Running { handle, admin, address, shutdown, task }
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    fn pinned(&self) -> Arc<Pinned> {
        let roots = decode_certificates(&self.admin.ca).unwrap();
        Arc::new(Pinned::new(domain(), TrustBundle::new(roots).unwrap()))
    }

    /// A caller that shows nothing.
    pub fn stranger(&self) -> Client {
        self.client(None)
    }

    fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        let accept = Accept::new(domain(), [RoleKind::Controller]);
        control_client_config(identity, self.pinned(), accept, CLIENT_ALPN).unwrap()
    }

    pub fn client(&self, identity: Option<&Identity>) -> Client {
        Client::fixed(self.address.clone(), self.tls(identity))
    }

    pub async fn kept(&self, identity: &Identity) -> Kept {
        Kept::open(&self.address, self.tls(Some(identity))).await
    }

    pub fn admin(&self) -> Client {
        self.stranger().with_bearer(self.admin.token.clone())
    }

    pub async fn apply(&self, manifests: Value) -> Result<Value, CallError> {
        self.admin().post("/v1alpha1/apply", &json!({ "manifests": manifests })).await
    }

    pub async fn token(&self, cluster: &str) -> Token {
        let body = json!({ "cluster": cluster });
        let answer: Value = self.admin().post("/v1alpha1/tokens", &body).await.unwrap();
        answer["token"].as_str().unwrap().parse().unwrap()
    }

    /// Joins as a machine does that knows nothing but the token.
    pub async fn join(&self, token: &Token, cluster: &str, replace: bool) -> Result<Identity, CallError> {
        let (request, key) = join_request(token, cluster, replace);
        let tls = enrolment_client_config(domain(), RoleKind::Controller, &token.ca_sha256, CLIENT_ALPN).unwrap();
        let client = Client::fixed(token.address.clone(), tls);
        let joined: Joined = client.post("/v1alpha1/join", &request).await?;
        assert_eq!((joined.mesh.as_str(), &joined.ca), (MESH, &self.admin.ca));
        let chain = decode_certificates(&joined.certificate).unwrap();
        Ok(Identity::new(KeyedCertificate::new(chain, &key).unwrap()).unwrap())
    }
}

pub fn agent_id(cluster: &str) -> SpiffeId {
    SpiffeId::new(domain(), Role::Agent { cluster: cluster.to_owned() }).unwrap()
}

fn join_request(token: &Token, cluster: &str, replace: bool) -> (Join, PrivateKey) {
    let key = PrivateKey::generate().unwrap();
    let csr = csr::make(&agent_id(cluster), &key).unwrap();
    let labels = [("region".to_owned(), "eu".to_owned())].into();
    let cluster = cluster.parse().unwrap();
    (Join { secret: token.secret.to_string(), cluster, csr, labels, replace }, key)
}

/// What a refusal says.
pub fn refused<T: std::fmt::Debug>(result: Result<T, CallError>) -> (StatusCode, Vec<ErrorItem>) {
    match result {
        Err(CallError::Refused { status, errors, .. }) => (status, errors),
        other => panic!("not refused: {other:?}"),
    }
}

pub fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub fn shop(clusters: &[&str]) -> Value {
    let rows: Vec<Value> =
        clusters.iter().map(|c| json!({"cluster": {"exact": c}, "namespace": {"exact": "shop"}})).collect();
    manifest("GlobalNamespace", "shop", json!({"domain": "shop.internal", "members": rows}))
}

pub fn web(host: &str, certificate: Value) -> Value {
    manifest(
        "PublicService",
        "web",
        json!({"globalNamespace": "shop", "service": "cart", "port": 80, "hosts": [{"name": host}],
            "tls": {"certificate": certificate}}),
    )
}
