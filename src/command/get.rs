//! `tombolo get`: lists resources.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use config::resource::{Name, ResourceId};

use super::api::Api;
use super::context;
use super::item::{self, Item};
use super::kind::Selection;
use super::output::{Format, note, show};
use super::table::Table;

/// Lists resources, and whether they are ready. What YAML and JSON show can be applied again.
#[derive(clap::Args)]
pub struct Args {
    /// A kind (Cluster, gns, ps, …), KIND/…/NAME for one resource, or all
    #[arg(value_name = "KIND", default_value = "all", value_parser = Selection::read)]
    what: Selection,
    /// Only those of this name
    name: Option<Name>,
    /// Only those of this global namespace
    #[arg(short, long, value_name = "GNS")]
    global_namespace: Option<Name>,
    /// As they were in this revision, without their conditions
    #[arg(long, value_name = "REVISION")]
    revision: Option<u64>,
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and shows.
pub async fn run(args: Args) -> Result<ExitCode> {
    let (api, gns, revision) = (Api::open(&args.context)?, args.global_namespace.as_ref(), args.revision);
    let items = match args.what.named(args.name)? {
        Selection::One(id) => {
            let item = one(&api, &id, revision).await?;
            show(args.output, item.manifest(), || table(std::slice::from_ref(&item)))?;
            return Ok(ExitCode::SUCCESS);
        }
        Selection::All => api.list_at(revision, None, gns).await?,
        Selection::Kind(kind, None) => api.list_at(revision, Some(kind), gns).await?,
        Selection::Kind(kind, Some(name)) => {
            let mut items = api.list_at(revision, Some(kind), gns).await?;
            items.retain(|item| item.name() == name.as_str());
            if items.is_empty() {
                bail!("there is no {kind} named {name}; `tombolo get {kind}` lists those that there are");
            }
            items
        }
    };
    show(args.output, &item::list(&items), || table(&items))?;
    if items.is_empty() {
        note("there are no such resources");
    }
    Ok(ExitCode::SUCCESS)
}

async fn one(api: &Api, id: &ResourceId, revision: Option<u64>) -> Result<Item> {
    let Some(revision) = revision else { return api.get(id).await };
    let items = api.list_at(Some(revision), Some(id.kind()), None).await?;
    let found = items.into_iter().find(|item| item.id() == id.to_string());
    found.with_context(|| format!("there was no {id} in revision {revision}"))
}

fn table(items: &[Item]) -> String {
    let mut table = Table::new(["KIND", "NAME", "SCOPE", "READY", "REASON"]);
    for item in items {
        let ready = item.ready();
        let (status, reason) =
            ready.as_ref().map_or(("", ""), |ready| (item::word(ready.status), ready.reason.as_str()));
        table.row([item.kind(), item.name(), &item.scope(), status, reason]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn what_is_wanted_says_whether_it_is_ready_and_what_is_seen_does_not() {
        let ready = json!({"type": "Ready", "status": "False", "reason": "UnknownService", "message": "…"});
        let items: Vec<Item> = from_value(json!([
            {"kind": "PublicService", "metadata": {"name": "web"}, "spec": {"globalNamespace": "shop"},
             "status": {"revision": 3, "conditions": [ready], "managedBy": "api", "newer": true}},
            {"kind": "Service", "metadata": {"name": "cart", "cluster": "north", "namespace": "shop"}, "spec": {}},
            {"kind": "Sidecar"},
        ]))
        .unwrap();
        let expected = "KIND           NAME  SCOPE       READY  REASON\n\
                        PublicService  web   shop        False  UnknownService\n\
                        Service        cart  north/shop  -      -\n\
                        Sidecar        -     -           -      -\n";
        assert_eq!(table(&items), expected);
    }
}
