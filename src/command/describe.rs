//! `tombolo describe`: everything about resources, for people.

use std::process::ExitCode;

use anyhow::Result;
use config::resource::{ResourceId, Status};
use serde_json::Value;

use super::api::Api;
use super::item::{self, Item};
use super::output::{print, printable, yaml};
use super::table::Table;
use super::{context, kind};

/// Tells everything about resources, with the reasons of their conditions.
#[derive(clap::Args)]
pub struct Args {
    /// Cluster/NAME, GlobalNamespace/NAME, PublicService/GNS/NAME, Certificate/GNS/NAME, AccessPolicy/GNS/NAME,
    /// Node/CLUSTER/NAME or Service/CLUSTER/NAMESPACE/NAME
    #[arg(value_name = "KIND/…/NAME", required = true, value_parser = kind::id)]
    ids: Vec<ResourceId>,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and tells.
pub async fn run(args: Args) -> Result<ExitCode> {
    let api = Api::open(&args.context)?;
    for (i, id) in args.ids.iter().enumerate() {
        let item = api.get(id).await?;
        print(format_args!("{}{}", if i > 0 { "\n" } else { "" }, description(&item)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn description(item: &Item) -> Result<String> {
    let mut text = format!("{}\n", printable(&item.id()));
    let manifest = item.manifest();
    if let Some(labels) = manifest.pointer("/metadata/labels").and_then(Value::as_object) {
        let labels = labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        text += &format!("  labels: {}\n", printable(&labels.collect::<Vec<_>>().join(", ")));
    }
    match (item.status(), item.managed_by()) {
        (Some(status), by) if status.revision > 0 => {
            let by = by.map(|by| format!(", written by {}", printable(by))).unwrap_or_default();
            text += &format!("  last changed in revision {}{by}\n", status.revision);
            text += &acting(&status);
        }
        _ => text += "  as its cluster's agent sees it\n",
    }
    text += &conditions(item);
    text += &format!("spec:\n{}", indented(&yaml(manifest.get("spec").unwrap_or(&Value::Null))?));
    Ok(text)
}

/// Which revision of it is acted on, and by whom perhaps an older one.
fn acting(status: &Status) -> String {
    let observed = match status.observed_generation {
        Some(observed) if observed < status.revision => format!("  all act on revision {observed} at least\n"),
        _ => String::new(),
    };
    match status.stale.is_empty() {
        true => observed,
        false => observed + &format!("  left, and may act on an older one: {}\n", printable(&status.stale.join(", "))),
    }
}

fn conditions(item: &Item) -> String {
    let conditions = item.status().unwrap_or_default().conditions;
    if conditions.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["CONDITION", "STATUS", "REASON", "MESSAGE"]);
    for condition in &conditions {
        table.row([&condition.kind, item::word(condition.status), &condition.reason, &condition.message]);
    }
    format!("conditions:\n{}", indented(&table.to_string()))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}").trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_resource_is_told_with_its_reasons() {
        let ready = json!({"type": "Ready", "status": "True", "reason": "Serving", "message": "4 act on it"});
        let item: Item = from_value(json!({
            "kind": "GlobalNamespace", "metadata": {"name": "shop", "labels": {"team": "a"}},
            "spec": {"domain": "shop.internal"},
            "status": {"revision": 3, "conditions": [ready], "managedBy": "api"},
        }))
        .unwrap();
        let expected = "GlobalNamespace/shop\n  labels: team=a\n  last changed in revision 3, written by api\n\
                        conditions:\n  CONDITION  STATUS  REASON   MESSAGE\n  Ready      True    Serving  4 act on it\n\
                        spec:\n  domain: shop.internal\n";
        assert_eq!(description(&item).unwrap(), expected);
        let seen: Item = from_value(json!({"kind": "Node", "metadata": {"name": "n1", "cluster": "north"}})).unwrap();
        assert!(description(&seen).unwrap().starts_with("Node/north/n1\n  as its cluster's agent sees it\nspec:\n"));
    }
}
