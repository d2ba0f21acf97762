//! The ports of services, on which this cluster's workloads reach them: opened and closed as plans come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::doors::{self, Purpose};
use crate::plan::Plan;
use crate::runtime::Core;

/// A port that is in use is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the ports of the plan open, until this future is dropped.
pub async fn serve(core: Arc<Core>) {
    let Some(ip) = core.settings.mesh else { return };
    let mut plans = core.plan.clone();
    let mut mesh = Mesh { core, ip, open: BTreeMap::new(), next: 0, missing: BTreeSet::new() };
    loop {
        // No plan is held in between: taking a large one apart is for the thread that makes the next.
        mesh.reconcile(&plans.get());
        tokio::select! {
            next = plans.changed() => if next.is_none() { return },
            () = tokio::time::sleep(AGAIN), if !mesh.missing.is_empty() => {}
        }
    }
}

struct Mesh {
    core: Arc<Core>,
    ip: IpAddr,
    open: BTreeMap<u16, DropGuard>,
    /// The worker that accepts at the next port.
    next: usize,
    /// The ports that cannot be bound.
    missing: BTreeSet<u16>,
}

impl Mesh {
    fn reconcile(&mut self, plan: &Plan) {
        self.open.retain(|port, _| plan.mesh.contains_key(port));
        self.missing.retain(|port| plan.mesh.contains_key(port));
        for port in plan.mesh.keys() {
            if !self.open.contains_key(port) {
                self.open(*port);
            }
        }
    }

    fn open(&mut self, port: u16) {
        let (worker, at) = (self.next, SocketAddr::new(self.ip, port));
        let workers = &self.core.workers;
        match workers.open_at(worker, || self.core.sockets.open(at, "a service's port")) {
            Ok(listening) => {
                let stop = CancellationToken::new();
                workers.run(worker, doors::serve(self.core.clone(), listening, Purpose::Mesh, stop.clone()));
                self.open.insert(port, stop.drop_guard());
                self.missing.remove(&port);
                self.next = self.next.wrapping_add(1);
            }
            Err(error) if self.missing.insert(port) => {
                tracing::warn!(%error, "services on this port cannot be reached through this gateway for now");
            }
            Err(_) => {}
        }
    }
}
