//! Workloads with certificates, such as the agent of their cluster would sign: callers, and instances.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::ca::{IssuingCa, Lifetimes};
use identity::{
    Accept, Identity, KeyedCertificate, Pinned, PrivateKey, Role, RoleKind, SigningRequest, SpiffeId, Trust,
    TrustBundle, TrustDomain, pem,
};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::demo::{CLUSTERS, Demo};
use super::http::{Connection, Outcome, Protocol, connect};
use super::{eventually, holds};

/// A cluster's part in a GNS: who signs there, and who is believed.
pub struct Member {
    pub cluster: &'static str,
    pub domain: TrustDomain,
    /// The issuing CA's certificate and key, in PEM.
    pub issuing: String,
    roots: Vec<CertificateDer<'static>>,
}

impl Member {
    /// As the cluster's agent has it on disk, once it has.
    pub async fn of(demo: &Demo, cluster: u8, gns: &str) -> Member {
        let cluster = CLUSTERS[usize::from(cluster)];
        let agent = demo.state.join(cluster).join("agent");
        let read = || std::future::ready(Member::read(agent.clone(), cluster, gns));
        eventually(&format!("{cluster} has an issuing CA in {gns}"), read).await
    }

    fn read(agent: PathBuf, cluster: &'static str, gns: &str) -> Outcome<Member> {
        let text = |path: &str| std::fs::read_to_string(agent.join(path)).map_err(|error| format!("{path}: {error}"));
        let issuing = text(&format!("issuing/{gns}.pem"))?;
        let world = text("world.json")?;
        let world: Value = serde_json::from_str(world.lines().next().unwrap()).unwrap();
        let trust = &world["entries"][format!("trust/{gns}")]["trust"];
        let roots = trust["roots"].as_array().ok_or("no roots yet")?;
        let roots = roots.iter().flat_map(|root| pem::decode_certificates(root.as_str().unwrap()).unwrap()).collect();
        let domain = trust["trustDomain"].as_str().unwrap().parse().unwrap();
        Ok(Member { cluster, domain, issuing, roots })
    }

    /// One of whom only is known whom it believes.
    pub fn believing(cluster: &'static str, domain: &str, bundle: &str) -> Member {
        let roots = pem::decode_certificates(bundle).unwrap();
        Member { cluster, domain: domain.parse().unwrap(), issuing: String::new(), roots }
    }

    /// The issuing CA.
    pub fn ca(&self) -> IssuingCa {
        IssuingCa::import(&self.issuing).unwrap()
    }

    /// The SPIFFE ID of a workload.
    pub fn id(&self, namespace: &str, service: &str) -> SpiffeId {
        let [cluster, namespace, service] = [self.cluster, namespace, service].map(str::to_owned);
        SpiffeId::new(self.domain.clone(), Role::Workload { cluster, namespace, service }).unwrap()
    }

    /// A workload's certificate and key.
    pub fn workload(&self, namespace: &str, service: &str) -> Identity {
        let (id, key) = (self.id(namespace, service), PrivateKey::generate().unwrap());
        let request = SigningRequest::check(&SigningRequest::make(&id, &key).unwrap(), &id).unwrap();
        let chain = self.ca().issue_workload(&request, &Lifetimes::default(), SystemTime::now().into()).unwrap();
        Identity::new(KeyedCertificate::new(chain, &key).unwrap()).unwrap()
    }

    fn trust(&self) -> Arc<dyn Trust> {
        Arc::new(Pinned::new(self.domain.clone(), TrustBundle::new(self.roots.clone()).unwrap()))
    }

    /// Gateways of this cluster, and nobody else.
    fn gateways(&self) -> Accept {
        Accept::new(self.domain.clone(), [RoleKind::Gateway]).only_cluster(self.cluster)
    }
}

/// A workload that calls by mutual TLS, believing in the gateways of its own cluster in the GNS that it calls.
pub struct Caller {
    identity: Identity,
    from: IpAddr,
}

impl Caller {
    /// It connects from this address.
    pub fn new(identity: Identity, from: IpAddr) -> Caller {
        Caller { identity, from }
    }

    fn config(&self, gateway: &Member, alpn: &[u8]) -> ClientConfig {
        identity::tls::control_client_config(Some(&self.identity), gateway.trust(), gateway.gateways(), &[alpn])
            .unwrap()
    }

    /// A TLS connection that asks for this name, with a gateway of this GNS.
    pub async fn tls(
        &self,
        at: SocketAddr,
        name: &str,
        gateway: &Member,
        alpn: &[u8],
    ) -> Outcome<TlsStream<TcpStream>> {
        let tcp = connect(self.from, at).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(self.config(gateway, alpn)));
        connector.connect(name, tcp).await.map_err(|error| format!("TLS with {at}: {error}"))
    }

    /// A connection for requests.
    pub async fn http(&self, at: SocketAddr, host: &str, gateway: &Member, protocol: Protocol) -> Outcome<Connection> {
        let alpn: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
        let stream = self.tls(at, host, gateway, alpn).await?;
        holds(stream.get_ref().1.alpn_protocol() == Some(alpn), || "another protocol was chosen".to_owned())?;
        let mut connection = Connection::over(stream, protocol, "https").await?;
        connection.authority = format!("{host}:{}", at.port());
        Ok(connection)
    }
}

/// What an instance speaks inside mutual TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    Http1,
    Http2,
    /// It says its name and a line's end first, then echoes.
    Bytes,
}

/// An instance that speaks mutual TLS, and with gateways of its own GNS and cluster only. It answers with its name. Lives
/// as long as the test's runtime.
pub async fn serve(at: SocketAddr, member: &Member, identity: &Identity, inside: Inside, name: &'static str) {
    let alpn: &[u8] = match inside {
        Inside::Http1 => b"http/1.1",
        Inside::Http2 => b"h2",
        Inside::Bytes => b"tombolo/1",
    };
    let config = identity::tls::gateway_server_config(identity, member.trust(), member.gateways(), &[alpn]).unwrap();
    let (listener, acceptor) = (TcpListener::bind(at).await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(accept(listener, acceptor, inside, name));
}

/// One in plain text, with a name likewise.
pub async fn serve_plain(at: SocketAddr, name: &'static str) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(answer(name))));
        }
    });
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, inside: Inside, name: &'static str) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            match inside {
                Inside::Http1 => {
                    _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service_fn(answer(name))).await;
                }
                Inside::Http2 => {
                    let server = http2::Builder::new(TokioExecutor::new());
                    _ = server.serve_connection(TokioIo::new(tls), service_fn(answer(name))).await;
                }
                Inside::Bytes => {
                    _ = tls.write_all(format!("{name}\n").as_bytes()).await;
                    _ = tls.flush().await;
                    let (mut from, mut to) = tokio::io::split(tls);
                    _ = tokio::io::copy(&mut from, &mut to).await;
                    _ = to.write_all(b"bye").await;
                    _ = to.shutdown().await;
                }
            }
        });
    }
}

type Answered = std::future::Ready<Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible>>;

/// A POST gets its body back as it comes, all else the name.
fn answer(name: &'static str) -> impl Fn(Request<Incoming>) -> Answered + Copy {
    move |request| {
        let body = match *request.method() {
            Method::POST => request.into_body().boxed(),
            _ => Full::from(name).map_err(|never| match never {}).boxed(),
        };
        std::future::ready(Ok(Response::new(body)))
    }
}

/// The manifest of a service: `version` is as in `tls: mesh, instances: […]`.
pub fn service(cluster: &str, namespace: &str, name: &str, port: &str, tls: &str, at: &[SocketAddr]) -> String {
    let instances: Vec<_> = at.iter().map(|at| format!("{{address: {}, port: {}}}", at.ip(), at.port())).collect();
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: Service\n\
         metadata: {{name: {name}, namespace: {namespace}, cluster: {cluster}}}\n\
         spec:\n  ports: [{{name: it, {port}}}]\n  versions: [{{name: v1, tls: {tls}, instances: [{}]}}]\n\
         \x20 healthCheck: {{protocol: tcp, interval: 250ms, timeout: 250ms}}\n",
        instances.join(", ")
    )
}

/// Gives a cluster's agent manifests to find, in a file of that name.
pub fn register(demo: &Demo, cluster: u8, file: &str, manifests: &[String]) {
    let services = demo.state.join(CLUSTERS[usize::from(cluster)]).join("services");
    let half = services.join(format!(".{file}.new"));
    std::fs::write(&half, manifests.join("---\n")).unwrap();
    std::fs::rename(half, services.join(format!("{file}.yaml"))).unwrap();
}
