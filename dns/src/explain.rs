//! What a name means here, and whether anybody is there: by the same `answer` that questions over the network get.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::explain::{self, Hop, Step};
use config::snapshot::Snapshot;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, Data, Question, QuestionType, answer};
use crate::health::Health;

/// An address has so long to take a connection, and is tried once more when half of it has passed: a packet may be lost.
const PATIENCE: Duration = Duration::from_millis(800);
/// Where clusters are drawn by weight, and where there are more addresses than one answer tells, so many draws show them.
const DRAWS: u64 = 16;
/// No more addresses are tried.
const MOST: usize = 32;

/// The name's addresses, and which of them are closed on the port.
pub(crate) async fn name(
    snapshot: &Snapshot,
    health: &Health,
    server: Option<IpAddr>,
    (name, port): (&str, u16),
) -> explain::Answer {
    let (steps, addresses) = match meaning(snapshot, health, server, name) {
        Ok(addresses) => {
            let listed = addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
            (vec![Step::ok(Hop::Dns, format!("{name} means {listed}"))], addresses)
        }
        Err(failed) => (vec![failed], BTreeSet::new()),
    };
    let Tried { closed, silent } = tried(&addresses, port).await;
    let addresses = addresses.into_iter().collect();
    explain::Answer { at: snapshot.revision, steps, addresses, closed, silent, onward: Vec::new() }
}

fn meaning(snapshot: &Snapshot, health: &Health, server: Option<IpAddr>, name: &str) -> Result<BTreeSet<IpAddr>, Step> {
    let mut addresses = BTreeSet::new();
    for kind in [QuestionType::A, QuestionType::Aaaa] {
        for turn in 0..DRAWS {
            match answer(snapshot, health, &Question::new(name, kind), server, turn) {
                Answer::Records { data, .. } => addresses.extend(data.into_iter().filter_map(|data| match data {
                    Data::Address(address) => Some(address),
                    Data::Soa(_) | Data::Ns(_) | Data::Minimal => None,
                })),
                Answer::NoData(_) => {}
                Answer::NoName(_) => return Err(absent(name)),
                Answer::Unknown => return Err(nowhere(snapshot, name)),
                Answer::Refused => return Err(foreign(snapshot, name)),
            }
        }
    }
    if addresses.is_empty() { Err(nowhere(snapshot, name)) } else { Ok(addresses) }
}

fn absent(name: &str) -> Step {
    Step::failed(Hop::Dns, format!("{name} does not exist (NXDOMAIN)"))
        .remedy("correct the name, or start the service in a member namespace of its global namespace")
}

fn nowhere(snapshot: &Snapshot, name: &str) -> Step {
    Step::failed(Hop::Dns, format!("{name} exists, but no gateway with an address for it is known"))
        .about(format_args!("Cluster/{}", snapshot.place.cluster))
        .remedy("start a gateway, or correct spec.gateways of the Cluster")
}

fn foreign(snapshot: &Snapshot, name: &str) -> Step {
    let cluster = &snapshot.place.cluster;
    Step::failed(Hop::Dns, format!("{name} is in no zone of cluster {cluster}: this server refuses it"))
        .about(format_args!("Cluster/{cluster}"))
        .remedy("let a member row of the GlobalNamespace match the cluster, or correct the name")
}

/// The addresses that take no connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tried {
    closed: Vec<IpAddr>,
    /// Those of them that don't refuse it either.
    silent: Vec<IpAddr>,
}

async fn tried(addresses: &BTreeSet<IpAddr>, port: u16) -> Tried {
    let mut tries = JoinSet::new();
    for address in addresses.iter().take(MOST).copied() {
        tries.spawn(async move { (address, connect(SocketAddr::new(address, port)).await) });
    }
    let mut tried = Tried::default();
    for (address, connected) in tries.join_all().await {
        let Err(error) = connected else { continue };
        tried.closed.push(address);
        if !is_word(error.kind()) {
            tried.silent.push(address);
        }
    }
    tried.closed.sort_unstable();
    tried.silent.sort_unstable();
    tried
}

async fn connect(at: SocketAddr) -> io::Result<TcpStream> {
    let again = async {
        sleep(PATIENCE / 2).await;
        TcpStream::connect(at).await
    };
    let either = async {
        tokio::select! {
            connected = TcpStream::connect(at) => connected,
            connected = again => connected,
        }
    };
    timeout(PATIENCE, either).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Whether somebody says that nobody is there.
fn is_word(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(kind, ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_on_which_nobody_listens_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
        let closed = Tried { closed: vec![addresses[1]], silent: vec![] };
        assert_eq!(tried(&addresses.into(), port).await, closed);
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_is_not_one_that_refuses() {
        // Its queue is full, and nobody takes what is in it: further packets are dropped.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = timeout(PATIENCE / 4, TcpStream::connect(at)).await {
            queued.push(stream);
        }
        let silent = Tried { closed: vec![at.ip()], silent: vec![at.ip()] };
        assert_eq!(tried(&[at.ip()].into(), at.port()).await, silent);
    }
}
