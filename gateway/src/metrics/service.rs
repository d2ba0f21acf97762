//! What is counted by service.

use config::resource::Name;
use decide::health::Fault;
use prometheus::{Error, Histogram, IntCounter, IntGauge};

use super::{BUCKETS, Registrar, SERVICE, Services};

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The handles of one service.
pub struct ServiceMetrics {
    by_class: [IntCounter; 5],
    faults: [IntCounter; Fault::ALL.len()],
    in_flight: IntGauge,
    /// Streams that were connected.
    pub streams: IntCounter,
    /// From the request's head to the end of its answer, in seconds.
    pub duration: Histogram,
    /// Bytes of requests' bodies.
    pub bytes_in: IntCounter,
    /// Bytes of answers' bodies.
    pub bytes_out: IntCounter,
    /// Attempts after the first.
    pub retries: IntCounter,
    /// Choices of an instance or a cluster that isn't known to be well.
    pub panics: IntCounter,
    /// Instances of this cluster put out for a while by the evidence of requests.
    pub ejections: IntCounter,
    /// Those that are so now.
    pub ejected: IntGauge,
    /// Healthy instances of this cluster.
    pub healthy: IntGauge,
}

impl ServiceMetrics {
    pub(super) fn new(all: &Services, global_namespace: &Name, name: &Name) -> Self {
        let (gns, name) = (global_namespace.as_str(), name.as_str());
        let both = [gns, name];
        ServiceMetrics {
            by_class: CLASSES.map(|class| all.requests.with_label_values(&[gns, name, class])),
            faults: Fault::ALL.map(|fault| all.faults.with_label_values(&[gns, name, fault.code()])),
            streams: all.streams.with_label_values(&both),
            in_flight: all.in_flight.with_label_values(&both),
            duration: all.durations.with_label_values(&both),
            bytes_in: all.bytes_in.with_label_values(&both),
            bytes_out: all.bytes_out.with_label_values(&both),
            retries: all.retries.with_label_values(&both),
            panics: all.panics.with_label_values(&both),
            ejections: all.ejections.with_label_values(&both),
            ejected: all.ejected.with_label_values(&both),
            healthy: all.healthy.with_label_values(&both),
        }
    }

    /// Counts a request by the first digit of its status.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(counter) = self.by_class.get(class) {
            counter.inc();
        }
    }

    /// Counts a failure of one of its instances.
    pub fn fault(&self, fault: Fault) {
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.inc();
        }
    }

    /// A request is under way until the guard is dropped.
    pub fn begin(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }
}

/// A request to a service that is under way.
#[must_use]
pub struct InFlight<'a>(&'a IntGauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Services {
    pub(super) fn register(to: &mut Registrar<'_>) -> Result<Self, Error> {
        let with = |label| [SERVICE[0], SERVICE[1], label];
        Ok(Services {
            requests: to.counters(
                "tombolo_requests_total",
                "Requests to services, by the class of their status",
                &with("class"),
            )?,
            durations: to.histograms(
                "tombolo_request_duration_seconds",
                "From a request's head to its answer's end",
                &SERVICE,
                &BUCKETS,
            )?,
            streams: to.counters("tombolo_streams_total", "Streams that were connected to services", &SERVICE)?,
            in_flight: to.gauges("tombolo_requests_in_flight", "Requests to services that are under way", &SERVICE)?,
            bytes_in: to.counters("tombolo_request_bytes_total", "Bytes of requests' bodies", &SERVICE)?,
            bytes_out: to.counters("tombolo_response_bytes_total", "Bytes of answers' bodies", &SERVICE)?,
            retries: to.counters("tombolo_retries_total", "Attempts after a request's first", &SERVICE)?,
            panics: to.counters("tombolo_panic_choices_total", "Choices of what isn't known to be well", &SERVICE)?,
            faults: to.counters("tombolo_instance_failures_total", "Failures of instances, by kind", &with("kind"))?,
            ejections: to.counters("tombolo_ejections_total", "Instances put out for what they answered", &SERVICE)?,
            ejected: to.gauges("tombolo_ejected_instances", "Instances that are put out so now", &SERVICE)?,
            healthy: to.gauges("tombolo_healthy_instances", "Healthy instances of this cluster", &SERVICE)?,
        })
    }

    pub(super) fn forget(&self, global_namespace: &Name, name: &Name) {
        let (gns, name) = (global_namespace.as_str(), name.as_str());
        let both = [gns, name];
        // What is absent already needs no removal.
        for class in CLASSES {
            self.requests.remove_label_values(&[gns, name, class]).ok();
        }
        for fault in Fault::ALL {
            self.faults.remove_label_values(&[gns, name, fault.code()]).ok();
        }
        self.durations.remove_label_values(&both).ok();
        for counters in [&self.streams, &self.bytes_in, &self.bytes_out, &self.retries, &self.panics, &self.ejections] {
            counters.remove_label_values(&both).ok();
        }
        for gauges in [&self.in_flight, &self.ejected, &self.healthy] {
            gauges.remove_label_values(&both).ok();
        }
    }
}
