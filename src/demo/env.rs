//! The demo's environment file: what load tests need to know of it. Its lines are described in `loadtest/README.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::layout::{Cluster, ECHO_HOST, HTTPS, Layout, MESH_HOST, PUBLIC_HOST, SERVICE};
use super::processes::{Part, Processes};

/// Writes it, whole.
pub fn write(layout: &Layout, processes: &Processes) -> anyhow::Result<()> {
    let (path, half) = (layout.env_file(), layout.state.join(".env.new"));
    std::fs::write(&half, text(layout, processes)?)?;
    std::fs::rename(half, path)?;
    Ok(())
}

/// The demo is over.
pub fn remove(layout: &Layout) {
    if let Err(error) = std::fs::remove_file(layout.env_file()) {
        tracing::debug!(%error, "no environment file to remove");
    }
}

fn text(layout: &Layout, processes: &Processes) -> anyhow::Result<String> {
    let names: Vec<_> = layout.clusters().iter().map(|cluster| cluster.name.as_str()).collect();
    let gateways: Vec<IpAddr> = layout.clusters().iter().flat_map(Cluster::gateways).map(|(_, ip)| ip).collect();
    let mut text = String::new();
    writeln!(text, "DEMO_PID={}", std::process::id())?;
    writeln!(text, "CLUSTERS={}", names.join(","))?;
    writeln!(text, "SSL_CERT_FILE={}", layout.ca().display())?;
    writeln!(text, "TOMBOLO_CONTEXT={}", layout.context().display())?;
    writeln!(text, "TARGET=https://{PUBLIC_HOST}:{HTTPS}/")?;
    writeln!(text, "HOSTS={}", doors(PUBLIC_HOST, &gateways))?;
    writeln!(text, "ECHO_TARGET=https://{ECHO_HOST}:{HTTPS}/")?;
    writeln!(text, "ECHO_HOSTS={}", doors(ECHO_HOST, &gateways))?;
    writeln!(text, "MESH_TARGET=http://{MESH_HOST}:{SERVICE}/")?;
    if let Some(caller) = layout.clusters().first() {
        writeln!(text, "MESH_HOSTS={}", doors(MESH_HOST, &caller.gateways().map(|(_, ip)| ip)))?;
        writeln!(text, "MESH_SOURCE={}", caller.workload())?;
    }
    writeln!(text, "VICTIM=west")?;
    for cluster in layout.clusters() {
        writeln!(text, "HOSTS_{}={}", cluster.name, doors(PUBLIC_HOST, &cluster.gateways().map(|(_, ip)| ip)))?;
        for (name, ip) in cluster.gateways() {
            writeln!(text, "HOSTS_{}_{}={}", cluster.name, name.replace('-', "_"), doors(PUBLIC_HOST, &[ip]))?;
        }
    }
    for (victim, pids) in victims(processes) {
        writeln!(text, "PIDS_{victim}={}", pids.join(","))?;
    }
    Ok(text)
}

/// The gateways at which a host is reached: `name=ip,name=ip`.
fn doors(host: &str, gateways: &[IpAddr]) -> String {
    gateways.iter().map(|ip| format!("{host}={ip}")).collect::<Vec<_>>().join(",")
}

/// Each process by its own name, and each cluster by its gateways and instances together.
fn victims(processes: &Processes) -> BTreeMap<String, Vec<String>> {
    let mut victims: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, process) in processes.all() {
        let Some(pid) = process.pid() else { continue };
        let own = name.replace(['/', '-'], "_");
        victims.entry(own).or_default().push(pid.to_string());
        if let (Some(cluster), Part::Gateway | Part::Instance) = (&process.cluster, process.part) {
            victims.entry(cluster.clone()).or_default().push(pid.to_string());
        }
    }
    victims
}
