#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

const GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/observability.md"));

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

/// The names of metrics in the first columns of the tables below a heading.
fn documented(heading: &str) -> BTreeSet<&'static str> {
    let (_, section) = GUIDE.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).filter(|name| name.starts_with("tombolo_")).collect()
}

#[test]
fn the_guide_lists_exactly_the_metrics_that_there_are() {
    let registry = Registry::new();
    let mut registrar = Registrar::new(&registry);
    Metrics::register(&mut registrar).unwrap();
    assert_eq!(documented("Metrics of gateways"), registrar.names.into_iter().collect());
}

#[test]
fn a_request_is_in_flight_until_its_guard_is_dropped() {
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let service = metrics.service(&"shop".parse().unwrap(), &"cart".parse().unwrap());
    let guard = service.begin();
    assert_eq!(metrics.services.in_flight.with_label_values(&["shop", "cart"]).get(), 1);
    drop(guard);
    assert_eq!(metrics.services.in_flight.with_label_values(&["shop", "cart"]).get(), 0);
}
