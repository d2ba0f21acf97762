//! TLS 1.3 to a proxy, with one cipher suite, so that all do the same.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::Context;
use bench_peers::flags::Flags;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A connection inside TLS.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Where to, and whom to trust: `--at --host --ca`.
pub struct Target {
    at: SocketAddr,
    name: ServerName<'static>,
    roots: Arc<RootCertStore>,
}

impl Target {
    /// Reads the flags.
    pub fn read(flags: &Flags) -> anyhow::Result<Target> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(flags.need::<String>("ca")?).context("--ca")?)?;
        let name = ServerName::try_from(flags.need::<String>("host")?)?;
        Ok(Target { at: flags.need("at")?, name, roots: Arc::new(roots) })
    }

    /// A client's configuration; one that resumes remembers sessions of its own.
    pub fn config(&self, resume: bool) -> anyhow::Result<Arc<ClientConfig>> {
        let suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = rustls::crypto::CryptoProvider { cipher_suites: suites, ..ring::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.resumption = if resume { Resumption::in_memory_sessions(4) } else { Resumption::disabled() };
        Ok(Arc::new(config))
    }

    /// Connects; the handshake is done with the first request.
    pub fn connect(&self, config: &Arc<ClientConfig>) -> anyhow::Result<Stream> {
        let stream = TcpStream::connect(self.at)?;
        stream.set_nodelay(true)?;
        Ok(StreamOwned::new(ClientConnection::new(config.clone(), self.name.clone())?, stream))
    }
}
