//! What a name means here, and whether anybody is there: by the same `answer` that questions over the network get.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::explain::{self, Hop, Step};
use config::snapshot::Snapshot;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{Answer, Data, Question, QuestionType, answer};
use crate::health::Health;

/// An address has so long to take a connection.
const PATIENCE: Duration = Duration::from_millis(400);
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
    let closed = closed(&addresses, port).await;
    let addresses = addresses.into_iter().collect();
    explain::Answer { at: snapshot.revision, steps, addresses, closed, onward: Vec::new() }
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
async fn closed(addresses: &BTreeSet<IpAddr>, port: u16) -> Vec<IpAddr> {
    let mut tries = JoinSet::new();
    for address in addresses.iter().take(MOST).copied() {
        tries.spawn(async move {
            let connected = timeout(PATIENCE, TcpStream::connect(SocketAddr::new(address, port))).await;
            (!matches!(connected, Ok(Ok(_)))).then_some(address)
        });
    }
    let mut closed: Vec<_> = tries.join_all().await.into_iter().flatten().collect();
    closed.sort_unstable();
    closed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_on_which_nobody_listens_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(closed(&addresses.into(), port).await, [addresses[1]]);
    }
}
