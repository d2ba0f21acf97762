//! One attempt: a connection to an instance, or a tunnel through which a peer gateway has made one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use decide::health::Shown;
use decide::proxy_header::{self, Header};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Order;
use crate::choose::Destination;
use crate::health::Target;
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::dial::{self, Secured, TunnelError};
use crate::tunnel::metadata::Received;
use crate::tunnel::pool::{Means, Peer, PeerKey};
use crate::tunnel::stream::{Asked, Verdict};
use crate::upstream::CallError;
use crate::upstream::secure::{Inside, Wire};

/// A peer gateway has made its own attempts by then.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream's way on.
pub(super) struct Connected {
    pub(super) upstream: Upstream,
    /// By whom it is served, as `CLUSTER/VERSION/INSTANCE`.
    pub(super) served_by: String,
}

pub(super) enum Upstream {
    Instance(Wire),
    Peer(Box<TlsStream<TcpStream>>),
}

/// Why an attempt failed. The instance was sent nothing of the stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Connect(CallError),
    #[error("it broke off before it was told who called: {0}")]
    Header(io::Error),
    #[error("{0}")]
    Tunnel(#[from] TunnelError),
    #[error("the peer gave no verdict: {0}")]
    NoVerdict(io::Error),
    #[error("refused: {0}")]
    Refused(String),
}

impl Failure {
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Failure::Refused(_) => Refusal::NoInstance,
            _ => Refusal::ConnectFailed,
        }
    }
}

/// Connects to the destination.
pub(super) async fn connect(
    core: &Core,
    plan: &Plan,
    order: &Order,
    destination: &Destination,
) -> Result<Connected, Failure> {
    match destination {
        Destination::Instance(target) => to_instance(core, order, target).await,
        Destination::Peer(peer, _) => to_peer(plan, order, peer).await,
    }
}

async fn to_instance(core: &Core, order: &Order, target: &Arc<Target>) -> Result<Connected, Failure> {
    let mut io = match target.connections.security.open(target.connections.address, Inside::Stream).await {
        Ok(io) => io,
        Err(error) => {
            let shown = match &error {
                CallError::Unreachable(_) => Some(Shown::Connect),
                CallError::Slow(_) => Some(Shown::ConnectTimeout),
                _ => None,
            };
            if let Some(shown) = shown {
                core.checker.shown(&order.wanted.service, &target.health, shown);
            }
            return Err(Failure::Connect(error));
        }
    };
    if order.tells_client() {
        let header = Header { addresses: Some(order.between), extras: Vec::new() };
        io.write_all(&proxy_header::write(&header)).await.map_err(Failure::Header)?;
        io.flush().await.map_err(Failure::Header)?;
    }
    let served_by = String::from_utf8_lossy(target.served_by.as_bytes()).into_owned();
    Ok(Connected { upstream: Upstream::Instance(io), served_by })
}

impl Order {
    /// Whether the instance is told who called.
    fn tells_client(&self) -> bool {
        self.wanted.service.ports.get(&self.wanted.port).is_some_and(|port| port.proxy_header)
    }
}

async fn to_peer(plan: &Plan, order: &Order, peer: &Arc<Peer>) -> Result<Connected, Failure> {
    let PeerKey { global_namespace, from, cluster, .. } = &peer.key;
    let dialling = plan.tunnel_client(global_namespace, from.as_ref(), cluster);
    let means = Means { place: peer.place(), tls: dialling.map(|dialling| dialling.stream.clone()) };
    // Whoever the tunnels lead to is taken at once: no stream looks for another.
    let Secured { mut io, .. } = dial::secure(&means, &peer.reached()).await?;
    let asked = Asked {
        wanted: Received {
            cluster: peer.key.cluster.clone(),
            service: order.wanted.service.service.name.clone(),
            port: order.wanted.port,
            version: order.wanted.version.clone(),
        },
        between: order.between,
        source: order.caller.as_ref().map(|caller| caller.id.to_string()),
    };
    let asking = async {
        io.write_all(&asked.write()).await?;
        io.flush().await?;
        Verdict::read(&mut io).await
    };
    let verdict = timeout(VERDICT_TIMEOUT, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match verdict.map_err(Failure::NoVerdict)? {
        Verdict::Accepted(served_by) => Ok(Connected { upstream: Upstream::Peer(Box::new(io)), served_by }),
        Verdict::Refused(code) => Err(Failure::Refused(code)),
    }
}
