//! The gateway's metrics. Names are stable; `docs/guides/observability.md` lists them. Handles are made ahead, so that a
//! request formats and looks up nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use config::resource::Name;
use config::wire::PeerReport;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::connections::Shed;

/// Upper bounds of the duration histogram, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The gateway's metrics.
pub struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    streams: IntCounterVec,
    refusals: IntCounterVec,
    refusal_handles: Mutex<HashMap<&'static str, IntCounter>>,
    floods: IntCounterVec,
    /// Attempts after the first.
    pub retries: IntCounter,
    /// Choices made among instances none of which is healthy.
    pub panics: IntCounter,
    /// Tunnels that could not be opened, or broke.
    pub tunnel_failures: IntCounter,
    /// Handshakes that failed.
    pub handshake_failures: IntCounter,
    /// Lines that the access log could not take in time.
    pub log_drops: IntCounter,
    /// Open connections.
    pub connections: IntGauge,
    shed: [IntCounter; 3],
    /// By how many milliseconds work waits for its turn, as last measured.
    pub lag: IntGauge,
    tunnels: IntGaugeVec,
    healthy: IntGaugeVec,
    /// The revision that the plan was made of.
    pub revision: IntGauge,
}

/// The handles of one service.
pub struct ServiceMetrics {
    by_class: [IntCounter; 5],
    /// From the request's head to the end of its answer, in seconds.
    pub duration: Histogram,
    /// Streams that were connected.
    pub streams: IntCounter,
    /// Healthy instances of this cluster.
    pub healthy: IntGauge,
}

impl ServiceMetrics {
    /// Counts a request by the first digit of its status.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(counter) = self.by_class.get(class) {
            counter.inc();
        }
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// When the registry has one of the names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let service = ["global_namespace", "service"];
        let vec = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let options =
            HistogramOpts::new("tombolo_request_duration_seconds", "From a request's head to its answer's end")
                .buckets(BUCKETS.to_vec());
        let durations = HistogramVec::new(options, &service)?;
        registry.register(Box::new(durations.clone()))?;
        let shed =
            vec("tombolo_connections_shed_total", "Connections that were closed as soon as they came", &["limit"])?;
        Ok(Metrics {
            shed: Shed::ALL.map(|shed_by| shed.with_label_values(&[shed_by.code()])),
            lag: gauge("tombolo_lag_milliseconds", "How long work waits for its turn")?,
            requests: vec(
                "tombolo_requests_total",
                "Requests to services, by the class of their status",
                &["global_namespace", "service", "class"],
            )?,
            durations,
            streams: vec("tombolo_streams_total", "Streams that were connected to services", &service)?,
            refusals: vec("tombolo_refusals_total", "Requests that the gateway itself refused", &["reason"])?,
            refusal_handles: Mutex::default(),
            floods: vec("tombolo_http2_floods_total", "Connections closed for a flood of frames", &["kind"])?,
            retries: counter("tombolo_retries_total", "Attempts after a request's first")?,
            panics: counter("tombolo_panic_choices_total", "Choices among instances none of which is healthy")?,
            tunnel_failures: counter("tombolo_tunnel_failures_total", "Tunnels that could not be opened, or broke")?,
            handshake_failures: counter("tombolo_handshake_failures_total", "TLS handshakes that failed")?,
            log_drops: counter("tombolo_access_log_dropped_total", "Lines that the access log could not take in time")?,
            connections: gauge("tombolo_connections", "Open connections to this gateway")?,
            tunnels: gauges("tombolo_tunnels", "Live tunnels to a peer", &["global_namespace", "cluster", "gateway"])?,
            healthy: gauges("tombolo_healthy_instances", "Healthy instances of this cluster", &service)?,
            revision: gauge("tombolo_revision", "The controller's revision that this gateway acts on")?,
        })
    }

    /// The handles of a service.
    pub fn service(&self, global_namespace: &Name, name: &Name) -> ServiceMetrics {
        let (gns, name) = (global_namespace.as_str(), name.as_str());
        ServiceMetrics {
            by_class: CLASSES.map(|class| self.requests.with_label_values(&[gns, name, class])),
            duration: self.durations.with_label_values(&[gns, name]),
            streams: self.streams.with_label_values(&[gns, name]),
            healthy: self.healthy.with_label_values(&[gns, name]),
        }
    }

    /// The service is no more: it isn't shown any longer.
    pub fn forget(&self, global_namespace: &Name, name: &Name) {
        let (gns, name) = (global_namespace.as_str(), name.as_str());
        // What is absent already needs no removal.
        for class in CLASSES {
            self.requests.remove_label_values(&[gns, name, class]).ok();
        }
        self.durations.remove_label_values(&[gns, name]).ok();
        self.streams.remove_label_values(&[gns, name]).ok();
        self.healthy.remove_label_values(&[gns, name]).ok();
    }

    /// Shows how many tunnels to each peer are up.
    pub fn show_tunnels(&self, peers: impl Iterator<Item = PeerReport>) {
        self.tunnels.reset();
        for PeerReport { global_namespace, cluster, gateway, tunnels, .. } in peers {
            let labels = [global_namespace.as_str(), cluster.as_str(), gateway.as_str()];
            self.tunnels.with_label_values(&labels).set(tunnels.into());
        }
    }

    /// Counts a connection that was closed as soon as it came.
    pub fn shed(&self, shed: Shed) {
        if let Some(counter) = self.shed.get(shed as usize) {
            counter.inc();
        }
    }

    /// Counts a refusal. Refusals are rare, and their codes few: a small map behind a lock does.
    pub fn refused(&self, code: &'static str) {
        let mut handles = self.refusal_handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.entry(code).or_insert_with(|| self.refusals.with_label_values(&[code])).inc();
    }

    /// Counts a connection that is closed for a flood. It is the last that is done for it.
    pub fn flooded(&self, kind: &'static str) {
        self.floods.with_label_values(&[kind]).inc();
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_forgotten_service_is_not_shown() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let (gns, cart, web) = ("shop".parse().unwrap(), "cart".parse().unwrap(), "web".parse().unwrap());
        let [forgotten, kept] = [&cart, &web].map(|name| metrics.service(&gns, name));
        metrics.forget(&gns, &cart);
        metrics.forget(&gns, &cart);
        [forgotten, kept].iter().for_each(|service| service.count(200));
        let shown = format!("{:?}", registry.gather());
        assert!(shown.contains("web") && !shown.contains("cart"), "{shown}");
    }
}
