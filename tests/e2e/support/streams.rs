//! Instances of services that are no HTTP, and what talks with them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConnection, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certs::Issued;
use super::holds;
use super::http::{Outcome, connect};

/// An instance that says who it is before it is asked (`NAME\n`), sends back what it gets, and says `bye` once there is no
/// more. It dies when dropped, its connections too.
pub struct Instance(JoinHandle<()>);

impl Instance {
    /// Dies now: once this comes back, nobody listens there.
    pub async fn die(mut self) {
        self.0.abort();
        _ = (&mut self.0).await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts one.
pub async fn instance(at: SocketAddr, name: &str) -> Instance {
    let (listener, greeting) = (TcpListener::bind(at).await.unwrap(), format!("{name}\n"));
    Instance(tokio::spawn(async move {
        let mut talks = tokio::task::JoinSet::new();
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let greeting = greeting.clone();
            talks.spawn(async move { _ = talk(io, greeting.as_bytes()).await });
        }
    }))
}

/// Starts one that speaks TLS.
pub async fn tls_instance(at: SocketAddr, name: &str, issued: &Issued) -> Instance {
    let (listener, greeting) = (TcpListener::bind(at).await.unwrap(), format!("{name}\n"));
    let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    Instance(tokio::spawn(async move {
        let mut talks = tokio::task::JoinSet::new();
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let (acceptor, greeting) = (acceptor.clone(), greeting.clone());
            talks.spawn(async move {
                if let Ok(io) = acceptor.accept(io).await {
                    _ = talk(io, greeting.as_bytes()).await;
                }
            });
        }
    }))
}

async fn talk(io: impl AsyncRead + AsyncWrite, greeting: &[u8]) -> std::io::Result<()> {
    let (mut from, mut to) = tokio::io::split(io);
    to.write_all(greeting).await?;
    to.flush().await?;
    tokio::io::copy(&mut from, &mut to).await?;
    to.write_all(b"bye").await?;
    to.shutdown().await
}

/// A caller of such an instance.
pub struct Caller<Io>(Io);

impl Caller<TcpStream> {
    /// Connects from an address.
    pub async fn connect(from: IpAddr, at: SocketAddr) -> Outcome<Caller<TcpStream>> {
        Ok(Caller(connect(from, at).await.map_err(|error| format!("{at} from {from}: {error}"))?))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Caller<Io> {
    /// Over a connection that is there.
    pub fn over(io: Io) -> Self {
        Caller(io)
    }

    /// Who serves it.
    pub async fn greeting(&mut self) -> Outcome<String> {
        let mut name = Vec::new();
        loop {
            match self.0.read_u8().await.map_err(|error| format!("after {name:?}: {error}"))? {
                b'\n' => return Ok(String::from_utf8(name).unwrap()),
                byte => name.push(byte),
            }
        }
    }

    /// Sends something, and waits for its echo.
    pub async fn echoes(&mut self, text: &[u8]) -> Outcome<()> {
        let mut echo = vec![0; text.len()];
        let exchange = async {
            self.0.write_all(text).await?;
            self.0.flush().await?;
            self.0.read_exact(&mut echo).await
        };
        exchange.await.map_err(|error| error.to_string())?;
        holds(echo == text, || format!("{text:?} came back as {echo:?}"))
    }

    /// Says that it has nothing more to send; the far end must then say so too.
    pub async fn ends(&mut self) -> Outcome<()> {
        let mut last = Vec::new();
        let exchange = async {
            self.0.shutdown().await?;
            self.0.read_to_end(&mut last).await
        };
        exchange.await.map_err(|error| error.to_string())?;
        holds(last == b"bye", || format!("it ended with {last:?}"))
    }

    /// The connection itself.
    pub fn into_inner(self) -> Io {
        self.0
    }
}

/// Writes a manifest where a cluster's agent finds it: a service with one port, of a protocol.
pub fn register(services: &Path, cluster: &str, name: &str, port: &str, instances: &[SocketAddr]) {
    let half = services.join(format!(".{name}.new"));
    std::fs::write(&half, service(cluster, name, port, instances)).unwrap();
    std::fs::rename(half, services.join(format!("{name}.yaml"))).unwrap();
}

/// The manifest of a service in namespace `shop`; `port` is as in `port: 5432, protocol: tcp`.
pub fn service(cluster: &str, name: &str, port: &str, instances: &[SocketAddr]) -> String {
    let instance = |at: &SocketAddr| format!("        - {{address: \"{}\", port: {}}}\n", at.ip(), at.port());
    format!(
        "apiVersion: tombolo.dev/v1alpha1\n\
         kind: Service\n\
         metadata: {{name: {name}, namespace: shop, cluster: {cluster}}}\n\
         spec:\n  ports: [{{name: it, {port}}}]\n  versions:\n    - name: v1\n      instances:\n{}",
        instances.iter().map(instance).collect::<String>()
    )
}

/// A TLS client's first flight, each byte of its ClientHello in a record of its own (RFC 8446 section 5.1).
pub fn one_byte_a_record(connection: &mut ClientConnection) -> Vec<u8> {
    let mut flight = Vec::new();
    connection.write_tls(&mut flight).unwrap();
    let [kind, major, minor, high, low] = flight[..5] else { unreachable!() };
    assert_eq!(flight.len(), 5 + usize::from(u16::from_be_bytes([high, low])), "one record");
    flight[5..].iter().flat_map(|byte| [kind, major, minor, 0, 1, *byte]).collect()
}

/// Sends each byte in a segment of its own.
pub fn one_byte_a_segment(to: &mut std::net::TcpStream, bytes: &[u8]) {
    to.set_nodelay(true).unwrap();
    bytes.chunks(1).for_each(|byte| to.write_all(byte).unwrap());
}
