//! The gateway's metrics. Names are stable; `docs/guides/observability.md` lists them, and a test holds it to that.
//! Handles are made ahead, so that a request formats and looks up nothing.

mod registrar;
mod service;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use config::resource::Name;
use config::wire::PeerReport;
use prometheus::{Error, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::connections::Shed;
use registrar::Registrar;
pub use service::{InFlight, ServiceMetrics};

/// Upper bounds of the duration histogram, in seconds. Objectives are written in such figures; the last is where the
/// gateway gives up on an instance.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The labels of what is counted by service.
const SERVICE: [&str; 2] = ["global_namespace", "service"];

/// The gateway's metrics.
pub struct Metrics {
    services: Services,
    refusals: Reasons,
    turned_away: Reasons,
    floods: Reasons,
    /// Tunnels that could not be opened, or broke.
    pub tunnel_failures: IntCounter,
    handshakes: Reasons,
    /// Lines that the access log could not take in time.
    pub log_drops: IntCounter,
    /// Open connections.
    pub connections: IntGauge,
    shed: [IntCounter; Shed::ALL.len()],
    /// By how many milliseconds work waits for its turn, as last measured.
    pub lag: IntGauge,
    opened: IntCounterVec,
    tunnels: IntGaugeVec,
    /// The revision that the plan was made of.
    pub revision: IntGauge,
}

/// What is counted by service.
struct Services {
    requests: IntCounterVec,
    durations: HistogramVec,
    streams: IntCounterVec,
    in_flight: IntGaugeVec,
    bytes_in: IntCounterVec,
    bytes_out: IntCounterVec,
    retries: IntCounterVec,
    panics: IntCounterVec,
    faults: IntCounterVec,
    ejections: IntCounterVec,
    ejected: IntGaugeVec,
    healthy: IntGaugeVec,
}

/// What is counted by one of few reasons: a small map of handles, which is only read once each has been counted.
struct Reasons {
    all: IntCounterVec,
    handles: RwLock<HashMap<&'static str, IntCounter>>,
}

impl Reasons {
    fn new(all: IntCounterVec) -> Self {
        Reasons { all, handles: RwLock::default() }
    }

    fn count(&self, code: &'static str) {
        if let Some(counter) = self.handles.read().unwrap_or_else(PoisonError::into_inner).get(code) {
            return counter.inc();
        }
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        handles.entry(code).or_insert_with(|| self.all.with_label_values(&[code])).inc();
    }
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// When the registry has one of the names already.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        Metrics::register(&mut Registrar::new(registry))
    }

    fn register(to: &mut Registrar<'_>) -> Result<Self, Error> {
        let shed = to.counters(
            "tombolo_connections_shed_total",
            "Connections that were closed as soon as they came",
            &["limit"],
        )?;
        Ok(Metrics {
            shed: Shed::ALL.map(|shed_by| shed.with_label_values(&[shed_by.code()])),
            lag: to.gauge("tombolo_lag_milliseconds", "How long work waits for its turn")?,
            services: Services::register(to)?,
            refusals: Reasons::new(to.counters(
                "tombolo_refusals_total",
                "Requests that the gateway itself refused, or ended",
                &["reason"],
            )?),
            turned_away: Reasons::new(to.counters(
                "tombolo_refused_connections_total",
                "Connections that were closed before they brought a request, or for what they did",
                &["reason"],
            )?),
            floods: Reasons::new(to.counters(
                "tombolo_http2_floods_total",
                "Connections closed for a flood of frames",
                &["kind"],
            )?),
            tunnel_failures: to
                .counter("tombolo_tunnel_failures_total", "Tunnels that could not be opened, or broke")?,
            handshakes: Reasons::new(to.counters(
                "tombolo_handshakes_total",
                "TLS handshakes, by how they ended",
                &["result"],
            )?),
            log_drops: to
                .counter("tombolo_access_log_dropped_total", "Lines that the access log could not take in time")?,
            connections: to.gauge("tombolo_connections", "Open connections to this gateway")?,
            opened: to.counters(
                "tombolo_connections_opened_total",
                "Connections that were ready for requests, or for a stream",
                &["door", "protocol"],
            )?,
            tunnels: to.gauges(
                "tombolo_tunnels",
                "Live tunnels to a peer",
                &["global_namespace", "cluster", "gateway"],
            )?,
            revision: to.gauge("tombolo_revision", "The controller's revision that this gateway acts on")?,
        })
    }

    /// The handles of a service.
    pub fn service(&self, global_namespace: &Name, name: &Name) -> ServiceMetrics {
        ServiceMetrics::new(&self.services, global_namespace, name)
    }

    /// The service is no more: it isn't shown any longer.
    pub fn forget(&self, global_namespace: &Name, name: &Name) {
        self.services.forget(global_namespace, name);
    }

    /// Shows how many tunnels to each peer are up.
    pub fn show_tunnels(&self, peers: impl Iterator<Item = PeerReport>) {
        self.tunnels.reset();
        for PeerReport { global_namespace, cluster, gateway, tunnels, .. } in peers {
            let labels = [global_namespace.as_str(), cluster.as_str(), gateway.as_str()];
            // Those for calls from other GNSs count, too.
            self.tunnels.with_label_values(&labels).add(tunnels.into());
        }
    }

    /// Counts a connection that was closed as soon as it came.
    pub fn shed(&self, shed: Shed) {
        if let Some(counter) = self.shed.get(shed as usize) {
            counter.inc();
        }
    }

    /// Counts a request that the gateway refused.
    pub fn refused(&self, code: &'static str) {
        self.refusals.count(code);
    }

    /// Counts a connection that the gateway refused. [`Log::turned_away`](crate::record::Log::turned_away) does it.
    pub fn turned_away(&self, code: &'static str) {
        self.turned_away.count(code);
    }

    /// Counts a connection that is closed for a flood. It is the last that is done for it.
    pub fn flooded(&self, kind: &'static str) {
        self.floods.count(kind);
    }

    /// Counts a handshake by its end: `ok`, or the code of its error.
    pub fn handshake(&self, result: &'static str) {
        self.handshakes.count(result);
    }

    /// Counts a connection by its door and by what it speaks: `http/1.1` or `h2` by ALPN, `stream`, else `clear`.
    pub fn opened(&self, door: &'static str, protocol: &'static str) {
        self.opened.with_label_values(&[door, protocol]).inc();
    }
}

/// Counts a connection for as long as it lives.
pub struct Open(Arc<Metrics>);

impl Open {
    /// One more.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Open(metrics.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

#[cfg(test)]
mod tests;
