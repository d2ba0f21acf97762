//! The DNS server as others build and run it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use config::explain;
use config::live::Live;
use config::snapshot::Snapshot;
use config::wire::RevisionPair;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::health::Health;
use crate::message::Responder;
use crate::metrics::Metrics;
use crate::{tcp, udp};

/// How often another port is tried when port 0 was asked for and the one that UDP got is taken for TCP.
const PORT_ATTEMPTS: usize = 16;

/// What a DNS server is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen, over UDP and TCP. Port 0 takes one that is free for both. On a machine with several addresses
    /// name one: answers to questions to `0.0.0.0` or `::` leave from the address that the routing table prefers.
    pub listen: SocketAddr,
}

/// Why a DNS server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is taken, foreign, or not allowed.
    #[error(
        "cannot listen for DNS on {address} over {protocol}: {source}; stop what listens there, or choose another \
         address (ports below 1024 need the capability CAP_NET_BIND_SERVICE)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Something else in the registry has the same name.
    #[error("cannot register the metrics of the DNS server: {0}; give each DNS server a registry of its own")]
    Metrics(#[from] prometheus::Error),
}

/// Why a DNS server could not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve DNS on {address}: {source}; is the limit of open files reached?")]
pub struct RunError {
    address: SocketAddr,
    source: io::Error,
}

/// An authoritative DNS server for the names of one cluster's snapshot.
pub struct DnsServer {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
    responder: Arc<Responder>,
    told_ready: AtomicBool,
}

impl DnsServer {
    /// Binds both sockets, and registers `tombolo_dns_queries_total{rcode}` and `tombolo_dns_dropped_total{reason}`.
    ///
    /// # Errors
    /// An address that can't be listened on, or a registry that has these metrics already.
    pub fn build(
        settings: Settings,
        snapshot: Live<Snapshot>,
        health: Live<Health>,
        registry: &Registry,
    ) -> Result<Self, BuildError> {
        let (udp, tcp, address) = bind(settings.listen)?;
        let metrics = Metrics::register(registry)?;
        let own = Some(address.ip()).filter(|ip: &IpAddr| !ip.is_unspecified());
        let responder = Arc::new(Responder { snapshot, health, address: own, metrics });
        Ok(DnsServer { udp, tcp, address, responder, told_ready: AtomicBool::new(false) })
    }

    /// Where it listens, over UDP and TCP.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether it knows a world: a snapshot of some revision, or one of which [`mark_ready`](Self::mark_ready) says
    /// that it is whole. Until then every question is refused, so that resolvers ask another server.
    pub fn ready(&self) -> bool {
        let known = self.responder.snapshot.load().revision != RevisionPair::default();
        known || self.told_ready.load(Ordering::Relaxed)
    }

    /// What the name means here, and whether anybody listens on the port at its addresses.
    pub async fn explain(&self, name: &str, port: u16) -> explain::Answer {
        let Responder { snapshot, health, address, .. } = &*self.responder;
        crate::explain::name(&snapshot.get(), &health.get(), *address, (name, port)).await
    }

    /// Says that the snapshot is whole though it has no revision, as when it was read from files.
    pub fn mark_ready(&self) {
        self.told_ready.store(true, Ordering::Relaxed);
    }

    /// Serves until shutdown; must be called in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The system gives no descriptor or thread, or the runtime can't watch the sockets.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), RunError> {
        let failed = |source| RunError { address: self.address, source };
        let udp = self.udp.try_clone().map_err(failed)?;
        let tcp = self.tcp.try_clone().and_then(tokio::net::TcpListener::from_std).map_err(failed)?;
        info!(address = %self.address, "DNS server started");
        // The first ends at shutdown, the other never.
        let served = tokio::select! {
            served = udp::serve(udp, self.responder.clone(), shutdown) => served.map_err(failed),
            () = tcp::serve(tcp, self.responder.clone()) => Ok(()),
        };
        info!(address = %self.address, "DNS server stopped");
        served
    }
}

fn bind(listen: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), BuildError> {
    let mut attempts = if listen.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_once(listen) {
            Err(BuildError::Listen { source, .. }) if attempts > 0 && source.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
}

fn bind_once(listen: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), BuildError> {
    let failed = |address, protocol| move |source| BuildError::Listen { address, protocol, source };
    let udp = UdpSocket::bind(listen).map_err(failed(listen, "UDP"))?;
    let address = udp.local_addr().map_err(failed(listen, "UDP"))?;
    let tcp = TcpListener::bind(address).map_err(failed(address, "TCP"))?;
    udp.set_nonblocking(true).map_err(failed(address, "UDP"))?;
    tcp.set_nonblocking(true).map_err(failed(address, "TCP"))?;
    Ok((udp, tcp, address))
}

#[cfg(test)]
mod tests;
