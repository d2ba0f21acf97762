//! `tombolo peers`: the tunnels between the clusters' gateways.

use std::process::ExitCode;

use anyhow::Result;
use config::wire::PeerReport;
use controller::global::PeerRow;
use serde_json::json;

use super::api::Api;
use super::context;
use super::output::{Format, note, show};
use super::table::Table;

/// Lists how each gateway sees the gateways of other clusters.
#[derive(clap::Args)]
pub struct Args {
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and shows.
pub async fn run(args: Args) -> Result<ExitCode> {
    let peers = Api::open(&args.context)?.peers().await?;
    show(args.output, &json!({ "items": peers }), || table(&peers))?;
    if peers.is_empty() {
        note("no gateway sees another: tunnels need a global namespace with gateways in two clusters");
    }
    Ok(ExitCode::SUCCESS)
}

fn table(peers: &[PeerRow]) -> String {
    let mut table = Table::new(["FROM", "GNS", "TO", "ADDRESS", "TUNNELS", "FAULT"]);
    for PeerRow { from_cluster, from_gateway, report } in peers {
        let from = format!("{from_cluster}/{from_gateway}");
        let to = format!("{}/{}", report.cluster, report.gateway);
        let (tunnels, fault) = (report.tunnels.to_string(), fault(report));
        let gns = match &report.from {
            Some(calling) => format!("{calling}>{}", report.global_namespace),
            None => report.global_namespace.to_string(),
        };
        table.row([&from, &gns, &to, &report.address, &tunnels, &fault]);
    }
    table.to_string()
}

fn fault(report: &PeerReport) -> String {
    match (&report.fault, &report.answered_by) {
        (Some(fault), _) => fault.clone(),
        (None, Some(other)) => format!("{}/{other} answers in its place", report.cluster),
        (None, None) if report.draining => "it drains".to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::from_value;

    use super::*;

    #[test]
    fn a_peer_without_tunnels_or_in_the_place_of_another_has_a_fault() {
        let row = |gateway: &str, tunnels: u32, fault: Option<&str>| {
            json!({"fromCluster": "north", "fromGateway": "gw1", "globalNamespace": "shop", "cluster": "south",
                "gateway": gateway, "address": "127.0.2.1:7445", "tunnels": tunnels, "fault": fault})
        };
        let mut misplaced = row("gw3", 2, None);
        misplaced["answeredBy"] = "gw1".into();
        let peers: Vec<PeerRow> =
            from_value(json!([row("gw1", 2, None), row("gw2", 0, Some("refused")), misplaced])).unwrap();
        let expected = "FROM       GNS   TO         ADDRESS         TUNNELS  FAULT\n\
                        north/gw1  shop  south/gw1  127.0.2.1:7445  2        -\n\
                        north/gw1  shop  south/gw2  127.0.2.1:7445  0        refused\n\
                        north/gw1  shop  south/gw3  127.0.2.1:7445  2        south/gw1 answers in its place\n";
        assert_eq!(table(&peers), expected);
    }
}
