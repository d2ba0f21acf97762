//! Who is reached on which port of the mesh address. Requests say which service they are for, so that all HTTP services
//! may share a port; a stream says nothing, so its port is its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use config::resource::Name;
use config::wire::Rejection;

use crate::plan::{MeshPort, PlannedService};

/// The ports. HTTP keeps a port from streams; of several streams the first by GNS and name has it. The others are named.
pub(super) fn ports(
    services: &BTreeMap<Name, BTreeMap<Name, Arc<PlannedService>>>,
    rejected: &mut Vec<Rejection>,
) -> BTreeMap<u16, MeshPort> {
    let all = || services.values().flat_map(BTreeMap::values);
    let numbers = |service: &Arc<PlannedService>, streams: bool| {
        let ports = service.ports.iter().filter(move |(_, port)| port.protocol.is_stream() == streams);
        ports.map(|(number, _)| *number).collect::<Vec<_>>()
    };
    let mut mesh: BTreeMap<u16, MeshPort> =
        all().flat_map(|service| numbers(service, false)).map(|number| (number, MeshPort::Http)).collect();
    for service in all() {
        for number in numbers(service, true) {
            match mesh.entry(number) {
                Entry::Vacant(free) => drop(free.insert(MeshPort::Stream(service.clone()))),
                Entry::Occupied(taken) => rejected.push(clash(service, number, taken.get())),
            }
        }
    }
    mesh
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
