//! How metrics are made: registered, and known by their names.

use prometheus::core::Collector;
use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Registers metrics, and remembers their names: a registry shows only those that have been counted.
pub(super) struct Registrar<'r> {
    registry: &'r Registry,
    pub(super) names: Vec<&'static str>,
}

impl<'r> Registrar<'r> {
    pub(super) fn new(registry: &'r Registry) -> Self {
        Registrar { registry, names: Vec::new() }
    }

    fn add<M: Collector + Clone + 'static>(&mut self, name: &'static str, metric: M) -> Result<M, Error> {
        self.registry.register(Box::new(metric.clone()))?;
        self.names.push(name);
        Ok(metric)
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Result<IntCounter, Error> {
        self.add(name, IntCounter::new(name, help)?)
    }

    pub(super) fn counters(&mut self, name: &'static str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(name, IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Result<IntGauge, Error> {
        self.add(name, IntGauge::new(name, help)?)
    }

    pub(super) fn gauges(&mut self, name: &'static str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.add(name, IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, Error> {
        self.add(name, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }
}
