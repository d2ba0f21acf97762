//! What the network loses between clusters, in namespaces of its own: `loadtest/faults.py` makes them, and has the load.

use std::process::Command;

use crate::support::cli::said;
use crate::support::process::TOMBOLO;

/// Whether this machine lets the tests make network namespaces.
fn can_make_namespaces() -> bool {
    let ran =
        |command: &str| Command::new("sh").args(["-c", command]).output().is_ok_and(|output| output.status.success());
    let name = format!("tombolo-probe-{}", std::process::id());
    ran("command -v python3")
        && ran(&format!(
            "ip netns add {name} && ip -n {name} link add a type veth peer name b && \
             ip -n {name} rule add from 10.77.3.0/24 blackhole; done=$?; ip netns del {name}; exit $done"
        ))
}

#[test]
fn partitions_in_either_direction_cost_no_request_and_heal() {
    if !can_make_namespaces() {
        eprintln!("SKIPPED: network namespaces need root, `ip` and python3");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/loadtest/faults.py");
    // How fast is measured elsewhere, on a quiet machine.
    let mut command = Command::new("python3");
    command.args([script, TOMBOLO, "partition: cluster", "one-way"]).env("BOUND", "60").env("LASTS", "3");
    let said = said(command.env("RATE", "80"));
    assert!(said.ok && said.stdout.contains("| partition: cluster |"), "{said:?}");
    assert_eq!(
        said.stdout.matches("| one-way: ").count(),
        4,
        "each is told once at its end and once in the table: {said:?}"
    );
}
