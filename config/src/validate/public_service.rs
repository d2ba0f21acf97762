use std::fmt;

use crate::resource::{HostEntry, PublicRoute, PublicServiceSpec, PublicTls, RoutePath, Scheme, Span, TlsMode};

use super::{Faults, health_check};

const MOST_TTL: Span = Span::from_millis(86_400_000);
/// So that sums of weights stay far from overflow.
const MOST_WEIGHT: u32 = 1_000_000;

pub(super) fn check(spec: &PublicServiceSpec, faults: &mut Faults) {
    faults.port("spec.port", spec.port);
    routes(&spec.routes, faults);
    if spec.hosts.is_empty() {
        faults.add("spec.hosts", "there is no host", "write at least one, as in {name: shop.example.com}");
    }
    let names = spec.hosts.iter().map(|host| &host.name);
    faults.doubles(names, |i| format!("spec.hosts[{i}].name"), "remove one of them");
    for (i, entry) in spec.hosts.iter().enumerate() {
        host(entry, format_args!("spec.hosts[{i}]"), faults);
    }
    tls(&spec.tls, faults);
    if spec.tls.mode == TlsMode::Passthrough {
        passthrough(spec, faults);
    }
    if let Some(check) = &spec.health_check {
        health_check::check(check, faults);
    }
}

fn routes(routes: &[PublicRoute], faults: &mut Faults) {
    let paths = routes.iter().map(|route| match &route.path {
        RoutePath::Path(path) => format!("path {path}"),
        RoutePath::PathPrefix(prefix) => format!("pathPrefix {prefix}"),
    });
    faults.doubles(paths, |i| format!("spec.routes[{i}]"), "a path has one route: remove one of them");
    for (i, route) in routes.iter().enumerate() {
        faults.port(format_args!("spec.routes[{i}].port"), route.port);
        let (field, path) = match &route.path {
            RoutePath::Path(path) => ("path", path),
            RoutePath::PathPrefix(prefix) => ("pathPrefix", prefix),
        };
        if let Some(why) = path_fault(path) {
            let remedy = "write it as it is after normalisation, as in /api/v1";
            faults.add(format_args!("spec.routes[{i}].{field}"), format!("{path:?} would never match: {why}"), remedy);
        }
    }
}

/// Requests' paths are matched after normalisation, so a path that no normalised one is like is a slip of the pen.
fn path_fault(path: &str) -> Option<&'static str> {
    match path {
        path if !path.starts_with('/') => Some("it does not start with '/'"),
        path if path.contains(['?', '#']) => Some("it has a query or a fragment"),
        path if !path.bytes().all(|b| b.is_ascii_graphic()) => Some("it has a character that stands percent-encoded"),
        path if path.contains("//") => Some("it has an empty segment"),
        path if path.split('/').any(|segment| segment == "." || segment == "..") => Some("it has a dot segment"),
        _ => None,
    }
}

fn host(entry: &HostEntry, path: fmt::Arguments<'_>, faults: &mut Faults) {
    faults.not_numeric(format_args!("{path}.name"), &entry.name);
    if entry.ttl > MOST_TTL || entry.ttl.duration().subsec_millis() != 0 {
        let remedy = format!("write whole seconds, {MOST_TTL} at most");
        faults.add(format_args!("{path}.ttl"), format!("{} cannot stand in a DNS answer", entry.ttl), remedy);
    }
    scheme(&entry.scheme, format_args!("{path}.scheme"), faults);
}

fn scheme(scheme: &Scheme, path: fmt::Arguments<'_>, faults: &mut Faults) {
    match scheme {
        Scheme::RoundRobin => {}
        Scheme::Weighted(weights) => {
            let path = format!("{path}.weighted");
            if weights.values().all(|weight| *weight == 0) {
                faults.add(&path, "no cluster has a weight above 0", "give at least one cluster a weight");
            }
            for (cluster, weight) in weights.iter().filter(|(_, weight)| **weight > MOST_WEIGHT) {
                let remedy = format!("write {MOST_WEIGHT} at most");
                faults.add(format_args!("{path}.{cluster}"), format!("{weight} is out of range"), remedy);
            }
        }
        Scheme::ActivePassive(clusters) => {
            let path = format!("{path}.activePassive");
            if clusters.is_empty() {
                faults.add(&path, "there is no cluster", "name at least one");
            }
            faults.doubles(clusters, |i| format!("{path}[{i}]"), "name each cluster once");
        }
    }
}

fn tls(tls: &PublicTls, faults: &mut Faults) {
    match (tls.mode, &tls.certificate) {
        (TlsMode::Http, Some(_)) => {
            let remedy = "remove it, or write mode: https";
            faults.add("spec.tls.certificate", "plain HTTP uses no certificate", remedy);
        }
        (TlsMode::Passthrough, Some(_)) => {
            let remedy = "remove it, or write mode: https";
            faults.add("spec.tls.certificate", "with passthrough the instances have their own", remedy);
        }
        (TlsMode::Https | TlsMode::Redirect, None) => {
            let remedy = "write certificate: selfSigned, or {uploaded: NAME} with the name of a Certificate";
            faults.add("spec.tls.certificate", "HTTPS needs a certificate", remedy);
        }
        _ => {}
    }
}

/// What a gateway does to requests, it cannot do to bytes that it cannot read.
fn passthrough(spec: &PublicServiceSpec, faults: &mut Faults) {
    if !spec.routes.is_empty() {
        faults.add("spec.routes", "with passthrough no path can be read", "remove them, or write mode: https");
    }
    if spec.service_info {
        let remedy = "remove the line, or write mode: https";
        faults.add("spec.serviceInfo", "with passthrough nothing can be added to responses", remedy);
    }
}
