use std::collections::BTreeMap;
use std::fmt;

use crate::resource::{Instance, Port, ServiceSpec, Version};

use super::{Faults, health_check};

pub(super) fn check(spec: &ServiceSpec, faults: &mut Faults) {
    ports(&spec.ports, faults);
    let names = spec.versions.iter().map(|version| &version.name);
    faults.doubles(names, |i| format!("spec.versions[{i}].name"), "give each version its own name");
    for (i, version) in spec.versions.iter().enumerate() {
        self::version(version, i, &spec.ports, faults);
    }
    doubles(spec, faults);
    if let Some(check) = &spec.health_check {
        health_check::check(check, faults);
    }
}

fn ports(ports: &[Port], faults: &mut Faults) {
    if ports.is_empty() {
        faults.add("spec.ports", "there is no port", "write at least one, as in {name: http, port: 80}");
    }
    faults.doubles(ports.iter().map(|p| &p.name), |i| format!("spec.ports[{i}].name"), "give each port its own name");
    faults.doubles(ports.iter().map(|p| p.port), |i| format!("spec.ports[{i}].port"), "give each port its own number");
    for (i, port) in ports.iter().enumerate() {
        faults.port(format_args!("spec.ports[{i}].port"), port.port);
        if let Some(target) = port.target_port {
            faults.port(format_args!("spec.ports[{i}].targetPort"), target);
        }
        if port.proxy_protocol.is_some() && !port.protocol.is_stream() {
            let what = format!("a port of protocol {} tells who called in x-forwarded-for", port.protocol.as_str());
            faults.add(format_args!("spec.ports[{i}].proxyProtocol"), what, "remove it, or write protocol: tcp or tls");
        }
    }
}

fn version(version: &Version, index: usize, ports: &[Port], faults: &mut Faults) {
    for (i, instance) in version.instances.iter().enumerate() {
        self::instance(instance, format_args!("spec.versions[{index}].instances[{i}]"), ports.len(), faults);
    }
}

/// Instances that are reached in the same place are one.
fn doubles(spec: &ServiceSpec, faults: &mut Faults) {
    let target = spec.ports.first().map(Port::target);
    let mut seen = BTreeMap::new();
    for (v, version) in spec.versions.iter().enumerate() {
        for (i, instance) in version.instances.iter().enumerate() {
            let place = (instance.address, instance.port.or(target));
            let Some(other) = seen.insert(place, &version.name) else { continue };
            let what = format!("this instance is already one of version {other}");
            let remedy = "an instance runs one version and counts once: remove a line";
            faults.add(format_args!("spec.versions[{v}].instances[{i}]"), what, remedy);
        }
    }
}

fn instance(instance: &Instance, path: fmt::Arguments<'_>, ports: usize, faults: &mut Faults) {
    faults.address(format_args!("{path}.address"), instance.address);
    if let Some(port) = instance.port {
        faults.port(format_args!("{path}.port"), port);
        if ports > 1 {
            let what = "the service has several ports, so one port cannot stand for all of them";
            faults.add(format_args!("{path}.port"), what, "remove it, and write targetPort at each port");
        }
    }
    if let Some(weight) = instance.weight.filter(|weight| *weight != 1) {
        faults.unsupported(
            format_args!("{path}.weight"),
            format!("an instance's weight of {weight}"),
            "remove the line",
        );
    }
}
