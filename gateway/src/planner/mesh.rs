//! Who is reached on which port of the mesh address. Requests say which service they are for, so that all HTTP services
//! may share a port; a stream says nothing, so its port is its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use config::wire::Rejection;

use super::service::{Change, Services};
use crate::plan::{MeshPort, Plan, PlannedService};

/// The ports, and who lost one. While every service that changed has the ports that it had, all stay as they are.
pub(super) fn ports(
    previous: &Plan,
    services: &Services,
    changes: &[Change],
) -> (BTreeMap<u16, MeshPort>, Vec<Rejection>) {
    if !changes.iter().all(Change::keeps_its_ports) {
        return shared_out(services);
    }
    let mut mesh = previous.mesh.clone();
    for Change { before, now, .. } in changes {
        let (Some(before), Some(now)) = (before, now) else { continue };
        for number in numbers(now, true) {
            if let Some(MeshPort::Stream(holder)) = mesh.get_mut(&number)
                && Arc::ptr_eq(holder, before)
            {
                *holder = now.clone();
            }
        }
    }
    (mesh, previous.kept.clashes.clone())
}

impl Change {
    fn keeps_its_ports(&self) -> bool {
        let ports = |service: &Arc<PlannedService>| [false, true].map(|streams| numbers(service, streams));
        self.before.is_some() && self.before.as_ref().map(ports) == self.now.as_ref().map(ports)
    }
}

/// The numbers of a service's ports for streams, or of the others.
fn numbers(service: &PlannedService, streams: bool) -> Vec<u16> {
    let ports = service.ports.iter().filter(|(_, port)| port.protocol.is_stream() == streams);
    ports.map(|(number, _)| *number).collect()
}

/// HTTP keeps a port from streams; of several streams the first by GNS and name has it. The others are named.
fn shared_out(services: &Services) -> (BTreeMap<u16, MeshPort>, Vec<Rejection>) {
    let all = || services.values().flat_map(BTreeMap::values);
    let mut clashes = Vec::new();
    let mut mesh: BTreeMap<u16, MeshPort> =
        all().flat_map(|service| numbers(service, false)).map(|number| (number, MeshPort::Http)).collect();
    for service in all() {
        for number in numbers(service, true) {
            match mesh.entry(number) {
                Entry::Vacant(free) => drop(free.insert(MeshPort::Stream(service.clone()))),
                Entry::Occupied(taken) => clashes.push(clash(service, number, taken.get())),
            }
        }
    }
    (mesh, clashes)
}

fn clash(service: &PlannedService, number: u16, taken: &MeshPort) -> Rejection {
    let name = |service: &PlannedService| format!("{}/{}", service.service.global_namespace, service.service.name);
    let holder = match taken {
        MeshPort::Http => "HTTP services".to_owned(),
        MeshPort::Stream(holder) => format!("service {}", name(holder)),
    };
    let reason = format!(
        "workloads of this cluster cannot reach service {} on port {number}, which is that of {holder}: \
         a stream says nothing of whom it is for, so give it a port of its own",
        name(service)
    );
    Rejection { key: format!("service/{}", name(service)), reason }
}
