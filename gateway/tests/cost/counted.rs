//! A gateway that runs on a thread of its own, so that what the thread allocates is what the gateway does.

use std::net::SocketAddr;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use gateway::runtime::Handle;
use gateway::settings::AccessLog;
use gateway::workers::Layout;
use gateway::{Gateway, Limits, Settings, connections, overload};
use prometheus::Registry;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::world::{Feed, Site, name};

/// A gateway with its tunnels is ready within this time, on the slowest machine.
const LATE: Duration = Duration::from_secs(30);

/// A running gateway with one door. It stops when this is dropped.
pub struct Counted {
    handle: Handle,
    laps: Option<mpsc::Sender<()>>,
    counts: std_mpsc::Receiver<AllocationInfo>,
    thread: Option<JoinHandle<()>>,
    _log: TempDir,
}

impl Counted {
    /// Starts it with the door that is opened, and waits until it knows of a healthy instance, here or behind a tunnel.
    pub fn start(site: Site, open: impl FnOnce(&mut Settings)) -> Self {
        let (log, feed) = (tempfile::tempdir().unwrap(), site.feed());
        let mut settings = settings(AccessLog::File(log.path().join("access.log")));
        open(&mut settings);
        let (laps, asked) = mpsc::channel(1);
        let (count, counts) = std_mpsc::channel();
        let (ready, started) = std_mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            ready.send(runtime.block_on(begin(settings, &feed))).unwrap();
            count_laps(&runtime, asked, &count);
        });
        let handle = started.recv().unwrap();
        Counted { handle, laps: Some(laps), counts, thread: Some(thread), _log: log }
    }

    /// Where its door is.
    pub fn address(&self) -> SocketAddr {
        self.handle.sockets().all()[0].local_addr().unwrap()
    }

    /// What it has allocated since the last lap.
    pub fn lap(&self) -> AllocationInfo {
        self.laps.as_ref().unwrap().blocking_send(()).unwrap();
        self.counts.recv().unwrap()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        drop(self.laps.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the gateway has panicked");
    }
}

/// As gateways are started when nobody says otherwise, but that no request is turned away on a slow machine.
fn settings(access_log: AccessLog) -> Settings {
    Settings {
        name: name("gw"),
        http: None,
        https: None,
        east_west: None,
        mesh: None,
        proxy_protocol_from: Vec::new(),
        access_log,
        limits: Limits::default(),
        trusted_hops: Vec::new(),
        drain_wait: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        max_age: Some(Duration::from_secs(3_600)),
        connections: connections::Limits::default(),
        overload: overload::Limits { requests: Some(25_000), lag: None },
        workers: Layout::Caller,
    }
}

async fn begin(settings: Settings, feed: &Feed) -> Handle {
    let gateway = Gateway::build(settings, feed.inputs.clone(), Default::default(), &Registry::new()).unwrap();
    let handle = gateway.handle();
    tokio::spawn(gateway.run(CancellationToken::new(), None));
    let began = Instant::now();
    while !serves(&handle) {
        assert!(began.elapsed() < LATE, "not ready: {:?}, {:?}", handle.view(), handle.rejected());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle
}

fn serves(handle: &Handle) -> bool {
    let view = handle.view();
    let mut healthy = view.services.values().flat_map(|services| services.values()).flat_map(|of| of.values());
    !handle.sockets().all().is_empty() && healthy.any(|healthy| *healthy > 0)
}

/// The gateway makes progress only in here, and everything it does is counted.
fn count_laps(runtime: &Runtime, mut asked: mpsc::Receiver<()>, counts: &std_mpsc::Sender<AllocationInfo>) {
    let mut more = true;
    while more {
        let count = measure(|| more = runtime.block_on(asked.recv()).is_some());
        // Nobody waits for what came after the last lap.
        _ = counts.send(count);
    }
}
