use crate::resource::{HealthCheck, HealthProtocol, Span};

use super::Faults;

const LEAST_INTERVAL: Span = Span::from_millis(100);
const MOST_INTERVAL: Span = Span::from_millis(3_600_000);
const LEAST_TIMEOUT: Span = Span::from_millis(10);

pub(super) fn check(check: &HealthCheck, faults: &mut Faults) {
    let at = |field: &str| format!("spec.healthCheck.{field}");
    match check.protocol {
        HealthProtocol::Http => path(&check.path, faults),
        HealthProtocol::Tcp | HealthProtocol::Grpc if check.path != "/" => {
            faults.add(at("path"), "only an HTTP check has a path", "remove it, or write protocol: http");
        }
        HealthProtocol::Tcp | HealthProtocol::Grpc => {}
    }
    if let Some(port) = check.port {
        faults.port(at("port"), port);
    }
    if !(LEAST_INTERVAL..=MOST_INTERVAL).contains(&check.interval) {
        let remedy = format!("write {LEAST_INTERVAL} to {MOST_INTERVAL}");
        faults.add(at("interval"), format!("{} is out of range", check.interval), remedy);
    }
    // A longer one would let checks of the same instance overlap.
    if !(LEAST_TIMEOUT..=check.interval).contains(&check.timeout) {
        let remedy = format!("write {LEAST_TIMEOUT} to {}, the interval", check.interval);
        faults.add(at("timeout"), format!("{} is out of range", check.timeout), remedy);
    }
    let thresholds = [("unhealthyThreshold", check.unhealthy_threshold), ("healthyThreshold", check.healthy_threshold)];
    for (field, threshold) in thresholds {
        if !(1..=10).contains(&threshold) {
            faults.add(at(field), format!("{threshold} is out of range"), "write 1 to 10");
        }
    }
}

/// Unlike a route's path this one may have a query.
fn path(path: &str, faults: &mut Faults) {
    if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        let remedy = "write an absolute path of visible ASCII characters, as in /healthz";
        faults.add("spec.healthCheck.path", format!("{path:?} is not a path"), remedy);
    }
}
