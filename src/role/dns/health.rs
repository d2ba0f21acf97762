//! Follows the health streams of the cluster's own gateways, and joins them into what the DNS server answers by. So
//! answers follow health while the agent is away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, Bytes, BytesMut};
use config::live::{Live, Publisher};
use config::resource::Name;
use config::snapshot::Snapshot;
use dns::{GatewayState, Health};
use gateway::view::View;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Gateways;

/// Silence for so long means that the gateway is dead or hangs.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Before a gateway is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// A view may be so large, in bytes.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// What each gateway said last; nothing from one that is silent.
type Views = Arc<Mutex<BTreeMap<Name, Option<View>>>>;

/// Follows the gateways that the snapshot has, until told to stop.
pub(super) async fn follow(
    mut snapshots: Live<Snapshot>,
    port: u16,
    publisher: Publisher<Health>,
    stop: CancellationToken,
) {
    let views: Views = Arc::default();
    let publisher = Arc::new(publisher);
    let mut running: BTreeMap<Name, (SocketAddr, CancellationToken)> = BTreeMap::new();
    let mut snapshot = snapshots.get();
    loop {
        let own = snapshot.place.cluster.clone();
        let wanted = gateways(&snapshot);
        running.retain(|name, (at, token)| {
            let keep = wanted.get(name).is_some_and(|ip| at.ip() == *ip);
            if !keep {
                token.cancel();
                lock(&views).remove(name);
            }
            keep
        });
        for (name, ip) in wanted {
            if !running.contains_key(&name) {
                let (at, token) = (SocketAddr::new(ip, port), stop.child_token());
                running.insert(name.clone(), (at, token.clone()));
                let one = follow_one(name, at, own.clone(), views.clone(), publisher.clone());
                tokio::spawn(token.run_until_cancelled_owned(one));
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

fn lock(views: &Views) -> std::sync::MutexGuard<'_, BTreeMap<Name, Option<View>>> {
    views.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow_one(name: Name, at: SocketAddr, own: Name, views: Views, publisher: Arc<Publisher<Health>>) {
    loop {
        let said = |view| {
            let mut views = lock(&views);
            views.insert(name.clone(), view);
            publisher.publish(Arc::new(join(&own, &views)));
        };
        let mut heard = false;
        let ended = read(at, |view| {
            heard = true;
            said(Some(view));
        });
        match ended.await {
            // Whoever took over from it is there at once.
            Ok(()) if heard => continue,
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(gateway = %name, error = format!("{error:#}"), "a gateway's health stream ended");
            }
        }
        said(None);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the gateway ends the stream.
async fn read(at: SocketAddr, mut said: impl FnMut(View)) -> anyhow::Result<()> {
    let stream = tokio::time::timeout(SILENCE, TcpStream::connect(at)).await??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/v1/health/follow").header("host", at.to_string()).body(Empty::<Bytes>::new())?;
    let mut body = tokio::time::timeout(SILENCE, sender.send_request(request)).await??.into_body();
    let mut buffer = BytesMut::new();
    while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await.context("it is silent")? {
        let Ok(data) = frame?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end);
            buffer.advance(1);
            if !line.is_empty() {
                said(serde_json::from_slice(&line)?);
            }
        }
        anyhow::ensure!(buffer.len() <= MAX_LINE, "its view is longer than {MAX_LINE} bytes");
    }
    Ok(())
}

/// One gateway that sees a peer live is enough; a count is the greatest that any sees.
fn join(own: &Name, views: &BTreeMap<Name, Option<View>>) -> Health {
    let mut health = Health::default();
    for (name, view) in views {
        let state = GatewayState { live: view.is_some(), draining: view.as_ref().is_some_and(|view| view.draining) };
        health.gateways.entry(own.clone()).or_default().insert(name.clone(), state);
        let Some(view) = view else { continue };
        for (cluster, gateways) in &view.gateways {
            for (gateway, live) in gateways {
                let known = health.gateways.entry(cluster.clone()).or_default();
                let state = known.entry(gateway.clone()).or_insert(GatewayState { live: false, draining: false });
                state.live |= live;
            }
        }
        for (gns, services) in &view.services {
            for (service, clusters) in services {
                let counts = health.services.entry(gns.clone()).or_default().entry(service.clone()).or_default();
                for (cluster, healthy) in clusters {
                    let count = counts.entry(cluster.clone()).or_default();
                    *count = (*count).max(*healthy);
                }
            }
        }
    }
    health
}
