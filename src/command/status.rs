//! `tombolo status`: how the mesh is doing.

use std::process::ExitCode;

use anyhow::Result;
use config::wire::{MemberReport, MemberRole};
use controller::global::{ClusterStatus, MemberStatus, MeshStatus, Rotation};

use super::api::Api;
use super::certs;
use super::context;
use super::output::{Format, printable, show};
use super::table::Table;

/// Tells how the mesh is doing. LAG is how many revisions somebody is behind, and for how long.
#[derive(clap::Args)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and shows.
pub async fn run(args: Args) -> Result<ExitCode> {
    let api = Api::open(&args.context)?;
    let status = api.status().await?;
    show(args.output, &status, || text(&api.address(), &status))?;
    Ok(ExitCode::SUCCESS)
}

fn text(address: &str, status: &MeshStatus) -> String {
    let counts = status.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ");
    let mut text = format!("controller  {address}, reachable\nmesh        {}\n", printable(&status.mesh));
    text +=
        &format!("revision    {}\nresources   {}\n", status.revision, if counts.is_empty() { "none" } else { &counts });
    if let Some(fault) = &status.fault {
        text += &format!("fault       {}\n", printable(fault));
    }
    if status.clusters.is_empty() {
        return text + "\nno cluster yet; `tombolo token create --cluster NAME` lets one join\n";
    }
    let clusters_and_members = clusters(&status.clusters) + "\n" + &members(&status.clusters);
    text + "\n" + &clusters_and_members + &rejections(&status.clusters) + &rotations(&status.rotations)
}

fn clusters(clusters: &[ClusterStatus]) -> String {
    let mut table = Table::new(["CLUSTER", "AGENT", "VERSION", "REVISION", "LAG", "SERVICES", "INSTANCES"]);
    for cluster in clusters {
        let figures = [cluster.at.global.to_string(), lag_text(cluster.lag, cluster.lag_ms)];
        let [at, lag] = figures.map(|figure| if cluster.silent_for_ms.is_some() { figure } else { String::new() });
        let [services, instances] = [cluster.services, cluster.instances].map(|count| count.to_string());
        table.row([cluster.name.as_str(), &agent(cluster), &cluster.version, &at, &lag, &services, &instances]);
    }
    table.to_string()
}

fn agent(cluster: &ClusterStatus) -> String {
    match cluster {
        ClusterStatus { enrolled: false, .. } => "not joined".to_owned(),
        ClusterStatus { connected: true, .. } => "connected".to_owned(),
        ClusterStatus { silent_for_ms: Some(silent), .. } => format!("silent for {}", age(*silent)),
        ClusterStatus { silent_for_ms: None, .. } => "silent since the controller started".to_owned(),
    }
}

fn members(clusters: &[ClusterStatus]) -> String {
    if all_members(clusters).next().is_none() {
        return "no gateway or DNS server yet; each is started with the member.token of its cluster's agent\n"
            .to_owned();
    }
    let mut table = Table::new(["CLUSTER", "MEMBER", "ROLE", "STATE", "REVISION", "LAG", "REJECTED"]);
    for (cluster, MemberStatus { report, lag, lag_ms, local_lag }) in all_members(clusters) {
        let state = match report {
            MemberReport { connected: true, draining: true, .. } => "draining".to_owned(),
            MemberReport { connected: true, .. } => "connected".to_owned(),
            MemberReport { absent: true, silent_for_ms, .. } => format!("left, silent for {}", age(*silent_for_ms)),
            MemberReport { silent_for_ms, .. } => format!("silent for {}", age(*silent_for_ms)),
        };
        let (at, rejected) = (report.at.global.to_string(), report.rejected.len().to_string());
        let lag = match local_lag {
            0 => lag_text(*lag, *lag_ms),
            local => format!("{}, {local} local", lag_text(*lag, *lag_ms)),
        };
        table.row([cluster.name.as_str(), report.name.as_str(), role(report.role), &state, &at, &lag, &rejected]);
    }
    table.to_string()
}

/// `2 (14 s)`: so many revisions, for so long.
fn lag_text(revisions: u64, millis: Option<u64>) -> String {
    match millis.filter(|_| revisions > 0) {
        Some(millis) => format!("{revisions} ({})", age(millis)),
        None => revisions.to_string(),
    }
}

/// What members couldn't act on, and why.
fn rejections(clusters: &[ClusterStatus]) -> String {
    let rejections = all_members(clusters).flat_map(|(cluster, MemberStatus { report, .. })| {
        let line = |rejection: &config::wire::Rejection| {
            printable(&format!("{}/{} rejects {}: {}", cluster.name, report.name, rejection.key, rejection.reason))
                + "\n"
        };
        report.rejected.iter().map(line)
    });
    let lines: String = rejections.chain(clusters.iter().flat_map(of_agent)).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// What the controller couldn't act on of what an agent says, and what that agent cannot do.
fn of_agent(cluster: &ClusterStatus) -> impl Iterator<Item = String> {
    let refused = cluster.refused.iter().map(|refused| {
        format!("the controller refuses {}, which the agent of {} sees: {}", refused.key, cluster.name, refused.reason)
    });
    let fault = cluster.control_fault.iter();
    let fault = fault.map(|fault| format!("{} cannot go on replacing its control CA: {fault}", cluster.name));
    refused.chain(fault).map(|line| printable(&line) + "\n")
}

/// What is being replaced, and for whom it waits.
fn rotations(rotations: &[Rotation]) -> String {
    if rotations.is_empty() { String::new() } else { format!("\n{}", certs::table_of(rotations)) }
}

fn all_members(clusters: &[ClusterStatus]) -> impl Iterator<Item = (&ClusterStatus, &MemberStatus)> {
    clusters.iter().flat_map(|cluster| cluster.members.iter().map(move |member| (cluster, member)))
}

fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Agent => "agent",
        MemberRole::Gateway => "gateway",
        MemberRole::Dns => "dns",
    }
}

fn age(millis: u64) -> String {
    match millis / 1000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    fn status(clusters: &serde_json::Value) -> MeshStatus {
        let counts = json!({"Cluster": 1, "PublicService": 2});
        from_value(json!({"mesh": "demo", "revision": 7, "clusters": clusters, "counts": counts, "authorities": []}))
            .unwrap()
    }

    #[test]
    fn who_is_behind_or_silent_or_refuses_is_told() {
        let at = |global: u64| json!({"global": global, "agent": {"incarnation": 1, "sequence": 1}});
        let well = json!({"name": "gw1", "role": "gateway", "connected": true, "silentForMs": 20, "at": at(7), "lag": 0,
            "rejected": [{"key": "trust/shop", "reason": "no\nsense"}]});
        let silent = json!({"name": "dns1", "role": "dns", "connected": false, "silentForMs": 150_000, "at": at(5), "lag": 2, "lagMs": 150_000, "localLag": 1});
        let north = json!({"name": "north", "labels": {}, "enrolled": true, "connected": true, "silentForMs": 5,
            "version": "0.1.0", "at": at(7), "lag": 0, "members": [well, silent], "services": 2, "instances": 6,
            "refused": [{"key": "Service/north/shop/x", "reason": "newer"}], "controlFault": "no room"});
        let west = json!({"name": "west", "labels": {}, "enrolled": false, "connected": false, "version": "", "at": at(0),
            "lag": 7, "members": [], "services": 0, "instances": 0});
        let expected = "\
controller  127.0.0.1:7443, reachable
mesh        demo
revision    7
resources   1 Cluster, 2 PublicService

CLUSTER  AGENT       VERSION  REVISION  LAG  SERVICES  INSTANCES
north    connected   0.1.0    7         0    2         6
west     not joined  -        -         -    0         0

CLUSTER  MEMBER  ROLE     STATE             REVISION  LAG                 REJECTED
north    gw1     gateway  connected         7         0                   1
north    dns1    dns      silent for 2 min  5         2 (2 min), 1 local  0

north/gw1 rejects trust/shop: no sense
the controller refuses Service/north/shop/x, which the agent of north sees: newer
north cannot go on replacing its control CA: no room
";
        assert_eq!(text("127.0.0.1:7443", &status(&json!([north, west]))), expected);
    }

    #[test]
    fn an_empty_mesh_says_how_to_begin() {
        assert!(text("127.0.0.1:7443", &status(&json!([]))).contains("tombolo token create"));
    }
}
