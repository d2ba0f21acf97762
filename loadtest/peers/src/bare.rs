//! The proxy library's own loop and nothing else: no log, no metrics, no checks. What of Tombolo's cost is ours shows
//! against this. Two of them, the first with `--tunnel`, the second with `--clients`, make a tunnel with mutual TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use bench_peers::flags::Flags;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use pingora_core::utils::tls::CertKey;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streams at once on one connection; the library's default is one.
const STREAMS: usize = 100;

struct Bare {
    upstream: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::read(std::env::args().skip(1))?;
    let conf = ServerConf { threads: 1, ca_file: flags.get("ca")?, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream: upstream(&flags)? });
    service.add_tcp(&flags.need::<String>("http")?);
    if let Some(https) = flags.get::<String>("https")? {
        service.add_tls_with_settings(&https, None, tls(&flags)?);
    }
    server.add_service(service);
    server.run_forever()
}

/// `--upstream=ADDRESS`: without TLS, over HTTP/2 if `--http2=true`; or through a tunnel to the name of `--tunnel`.
fn upstream(flags: &Flags) -> anyhow::Result<HttpPeer> {
    let address: SocketAddr = flags.need("upstream")?;
    let name = flags.get::<String>("tunnel")?;
    let mut peer = match &name {
        None => HttpPeer::new(address, false, String::new()),
        Some(name) => HttpPeer::new_mtls(address, name.clone(), Arc::new(identity(flags)?)),
    };
    if name.is_some() || flags.get("http2")?.unwrap_or(false) {
        peer.options.alpn = ALPN::H2;
        peer.options.max_h2_streams = STREAMS;
    }
    Ok(peer)
}

/// The listener's certificate; clients need one of the authority `--clients`, if that is given.
fn tls(flags: &Flags) -> anyhow::Result<TlsSettings> {
    let (chain, key): (String, String) = (flags.need("chain")?, flags.need("key")?);
    let mut settings = TlsSettings::intermediate(&chain, &key).context("the certificate")?;
    settings.enable_h2();
    if let Some(authority) = flags.get::<String>("clients")? {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).context("--clients")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        settings.set_client_cert_verifier(verifier);
    }
    Ok(settings)
}

fn identity(flags: &Flags) -> anyhow::Result<CertKey> {
    let chain = CertificateDer::from_pem_file(flags.need::<String>("chain")?).context("--chain")?;
    let key = PrivateKeyDer::from_pem_file(flags.need::<String>("key")?).context("--key")?;
    Ok(CertKey::new(vec![chain.to_vec()], key.secret_der().to_vec()))
}
