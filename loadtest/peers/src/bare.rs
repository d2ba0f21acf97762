//! The proxy library's own loop and nothing else: no log, no metrics, no checks. What of Tombolo's cost is ours shows
//! against this.

use std::net::SocketAddr;

use anyhow::Context;
use async_trait::async_trait;
use bench_peers::flags::Flags;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streams at once on one connection to the origin; the library's default is one.
const STREAMS: usize = 100;

struct Bare {
    upstream: SocketAddr,
    http2: bool,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        if self.http2 {
            peer.options.alpn = ALPN::H2;
            peer.options.max_h2_streams = STREAMS;
        }
        Ok(Box::new(peer))
    }
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::of_process()?;
    let upstream = flags.need("upstream")?;
    let http2 = flags.get("http2")?.unwrap_or(false);
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream, http2 });
    service.add_tcp(&flags.need::<String>("http")?);
    if let Some(https) = flags.get::<String>("https")? {
        let (chain, key): (String, String) = (flags.need("chain")?, flags.need("key")?);
        let mut settings = TlsSettings::intermediate(&chain, &key).context("the certificate")?;
        settings.enable_h2();
        service.add_tls_with_settings(&https, None, settings);
    }
    server.add_service(service);
    server.run_forever()
}
