//! `tombolo check peering`: whether the gateways of one cluster reach those of another, step by step.

use std::collections::BTreeSet;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use config::explain::{Explanation, Step, Verdict};
use config::resource::Name;
use tokio::time::timeout;

use crate::command::api::Api;
use crate::command::output::{Format, note, printable, show};
use crate::command::table::Table;
use crate::command::{context, verdict};

/// The gateways have so long for all steps; and after so long it is said that they are waited for.
const LONGEST: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(1);

/// Has each gateway of one cluster test each step towards the gateways of another: who it is itself, where they are, whether
/// they answer, who they are, whether they take tunnels, and what they say of themselves.
///
/// Takes up to 5 s. The other way round is a test of its own.
#[derive(clap::Args)]
#[command(after_help = verdict::CODES)]
pub struct Args {
    /// The cluster whose gateways dial
    from: Name,
    /// The cluster whose gateways are dialled
    to: Name,
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and shows.
pub async fn run(args: &Args) -> Result<ExitCode> {
    verdict::conclude(ask(args).await, |tested| {
        show(args.output, tested, || table(tested))?;
        let remedies: BTreeSet<String> = tested.steps.iter().filter_map(remedy).collect();
        remedies.iter().for_each(note);
        Ok(())
    })
}

async fn ask(args: &Args) -> Result<Explanation> {
    let Args { from, to, .. } = args;
    let api = Api::open(&args.context)?;
    let mut asking = pin!(api.peering(from, to));
    if let Ok(tested) = timeout(SOON, &mut asking).await {
        return tested;
    }
    note(format_args!("the gateways of {from} test each step to those of {to}: at most {LONGEST:?}"));
    asking.await
}

fn table(tested: &Explanation) -> String {
    let mut table = Table::new(["GATEWAY", "STEP", "VERDICT", "WHAT"]);
    for Step { hop, verdict, what, by, .. } in &tested.steps {
        table.row([by.as_deref().unwrap_or("controller"), hop.as_str(), verdict.as_str(), &printable(what)]);
    }
    table.to_string()
}

/// `Cluster/west: start its gateways`.
fn remedy(step: &Step) -> Option<String> {
    let remedy = step.remedy.as_deref().filter(|_| step.verdict != Verdict::Ok)?;
    let about = step.resource.as_ref().map(|resource| format!("{resource}: ")).unwrap_or_default();
    Some(printable(&format!("{about}{remedy}")))
}

#[cfg(test)]
mod tests {
    use config::explain::Hop;

    use super::*;

    #[test]
    fn each_step_is_told_and_what_to_do_about_those_that_fail() {
        let ok = Step::ok(Hop::Tunnel, "south/gw-a takes connections").by("north/gw-a").remedy("nothing");
        let failed =
            Step::failed(Hop::Tls, "it is another").by("north/gw-a").about("Cluster/south").remedy("correct it");
        let tested = Explanation::of(vec![ok, failed]);
        let expected = "GATEWAY     STEP    VERDICT  WHAT\n\
                        north/gw-a  tunnel  ok       south/gw-a takes connections\n\
                        north/gw-a  tls     failed   it is another\n";
        assert_eq!(table(&tested), expected);
        let remedies: Vec<_> = tested.steps.iter().filter_map(remedy).collect();
        assert_eq!(remedies, ["Cluster/south: correct it"]);
    }
}
