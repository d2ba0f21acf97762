use crate::resource::ClusterSpec;

use super::Faults;

pub(super) fn check(spec: &ClusterSpec, faults: &mut Faults) {
    let names = spec.gateways.iter().map(|gateway| &gateway.name);
    faults.doubles(names, |i| format!("spec.gateways[{i}].name"), "give each gateway of the cluster its own name");
    for (i, gateway) in spec.gateways.iter().enumerate() {
        for (field, address) in [("public", gateway.public), ("mesh", gateway.mesh)] {
            if let Some(address) = address {
                faults.address(format_args!("spec.gateways[{i}].{field}"), address);
            }
        }
    }
    let ranges = spec.workloads.iter().map(|row| row.cidr);
    faults.doubles(ranges, |i| format!("spec.workloads[{i}].cidr"), "a range belongs to one namespace: remove a row");
}
