//! Follows the health streams of the cluster's own gateways, and joins them into what the DNS server answers by. So
//! answers follow health while the agent is away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use config::live::{Live, Publisher};
use config::resource::Name;
use config::snapshot::Snapshot;
use dns::Health;
use gateway::view::{Line, Lines, SeenError};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::join::Joined;
use super::Gateways;

mod join;

/// Silence for so long means that the gateway is dead or hangs.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Before a gateway is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Where the health of a gateway is followed.
const PATH: &str = "/v1/health/follow?changes";

/// What the gateways say, and who is told what follows from it.
struct Listening {
    joined: Mutex<Joined>,
    publisher: Publisher<Health>,
}

impl Listening {
    /// Takes something in, and publishes what follows from it, if anything does: as the change says.
    fn take(&self, change: impl FnOnce(&mut Joined) -> bool) {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut joined) {
            self.publisher.publish(Arc::new(joined.health().clone()));
        }
    }

    fn heard(&self, gateway: &Name, lines: Vec<Line>) -> Result<(), SeenError> {
        let mut taken = Ok(());
        self.take(|joined| {
            let mut news = false;
            taken = lines.into_iter().try_for_each(|line| {
                news |= joined.heard(gateway, line)?;
                Ok(())
            });
            news
        });
        taken
    }
}

/// Follows the gateways that the snapshot has, until told to stop.
pub(super) async fn follow(
    mut snapshots: Live<Snapshot>,
    port: u16,
    publisher: Publisher<Health>,
    stop: CancellationToken,
) {
    let joined = Mutex::new(Joined::new(snapshots.load().place.cluster.clone()));
    let listening = Arc::new(Listening { joined, publisher });
    let mut running: BTreeMap<Name, (SocketAddr, CancellationToken)> = BTreeMap::new();
    let mut snapshot = snapshots.get();
    loop {
        let wanted = gateways(&snapshot);
        running.retain(|name, (at, token)| {
            let keep = wanted.get(name).is_some_and(|ip| at.ip() == *ip);
            if !keep {
                token.cancel();
                listening.take(|joined| joined.forget(name));
            }
            keep
        });
        for (name, ip) in wanted {
            if !running.contains_key(&name) {
                let (at, token) = (SocketAddr::new(ip, port), stop.child_token());
                running.insert(name.clone(), (at, token.clone()));
                listening.take(|joined| {
                    joined.expect(&name);
                    false
                });
                tokio::spawn(token.run_until_cancelled_owned(follow_one(name, at, listening.clone())));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            next = snapshots.changed() => match next {
                Some(next) => snapshot = next,
                None => return,
            },
        }
    }
}

fn gateways(snapshot: &Snapshot) -> Gateways {
    let own = snapshot.gateways.get(&snapshot.place.cluster);
    let own = own.into_iter().flat_map(|gateways| gateways.iter());
    own.filter_map(|gateway| Some((gateway.name.clone(), gateway.mesh.or(gateway.public)?))).collect()
}

async fn follow_one(name: Name, at: SocketAddr, listening: Arc<Listening>) {
    loop {
        let mut heard = false;
        match read(&name, at, &listening, &mut heard).await {
            // Whoever took over from it is there at once.
            Ok(()) if heard => continue,
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(gateway = %name, error = format!("{error:#}"), "a gateway's health stream ended");
            }
        }
        listening.take(|joined| joined.silent(&name));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the gateway ends the stream.
async fn read(name: &Name, at: SocketAddr, listening: &Listening, heard: &mut bool) -> anyhow::Result<()> {
    let stream = tokio::time::timeout(SILENCE, TcpStream::connect(at)).await??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(PATH).header("host", at.to_string()).body(Empty::<Bytes>::new())?;
    let mut body = tokio::time::timeout(SILENCE, sender.send_request(request)).await??.into_body();
    let mut lines = Lines::default();
    while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await.context("it is silent")? {
        let Ok(data) = frame?.into_data() else { continue };
        let news = lines.push(&data)?;
        *heard |= !news.is_empty();
        listening.heard(name, news)?;
    }
    Ok(())
}
