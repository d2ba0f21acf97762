//! Waiting until resources are ready.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use config::resource::{ConditionStatus, ResourceId};
use controller::global::{Awaited, Readiness};
use tokio::time::{Instant, sleep};

use super::api::Api;
use super::item::{Item, sentence};
use super::output::note;

/// So often a controller of the release before is asked, which tells no news by itself.
const PAUSE: Duration = Duration::from_millis(250);
/// For so long the controller is let wait for news.
const NEWS: Duration = Duration::from_secs(5);

/// Only after so long it is told for whom one waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// The exit code when a resource is rejected, or not ready at the end: somebody has to do something.
const NOT_READY: u8 = 3;
/// Some member cannot act on it, and says so.
const REJECTED: &str = "Rejected";

/// The exit code when it could not be told in time.
const UNKNOWN: u8 = 4;

/// Waits until each resource is ready or rejected by somebody, for so long at most: whatever else it lacks (a service, a
/// gateway) may come meanwhile.
///
/// # Errors
/// When the controller can no longer be asked.
pub async fn until_ready(api: &Api, ids: &[ResourceId], limit: Duration) -> Result<ExitCode> {
    let (began, mut waiting, mut known) = (Instant::now(), BTreeMap::new(), None::<String>);
    let end = began + limit;
    loop {
        let quiet = PATIENCE.saturating_sub(began.elapsed());
        let patience = if quiet.is_zero() { NEWS } else { quiet };
        let Awaited { items, seen } = news(api, ids, known.as_deref(), patience.min(end - Instant::now())).await?;
        let verdict = Verdict::of(&items);
        if verdict.is_final() || Instant::now() >= end {
            return Ok(verdict.tell(ids.len()));
        }
        if began.elapsed() >= PATIENCE {
            verdict.say_new(&mut waiting);
        }
        known = Some(seen);
    }
}

/// Whether the resources are ready, at the latest after so long; sooner, if that is something else than what was seen.
async fn news(api: &Api, ids: &[ResourceId], seen: Option<&str>, patience: Duration) -> Result<Awaited> {
    if let Some(awaited) = api.readiness(ids, seen, patience).await? {
        return Ok(awaited);
    }
    if seen.is_some() {
        sleep(PAUSE.min(patience)).await;
    }
    let items = api.list(None, None).await?;
    let items: BTreeMap<String, &Item> = items.iter().map(|item| (item.id(), item)).collect();
    let ready = |id: &ResourceId| items.get(&id.to_string()).and_then(|item| item.ready());
    let items = ids.iter().map(|id| Readiness { id: id.clone(), ready: ready(id) }).collect();
    Ok(Awaited { items, seen: String::new() })
}

/// Which resources are not ready, and why.
#[derive(Default)]
struct Verdict {
    rejected: Vec<Open>,
    not_ready: Vec<Open>,
    unknown: Vec<Open>,
}

/// A resource that is not ready.
struct Open {
    id: String,
    /// One word.
    reason: String,
    sentence: String,
}

impl Verdict {
    fn of(resources: &[Readiness]) -> Self {
        let mut verdict = Verdict::default();
        for Readiness { id, ready } in resources {
            let id = id.to_string();
            let Some(ready) = ready else {
                let sentence = "nobody says whether it is ready".to_owned();
                verdict.unknown.push(Open { id, reason: String::new(), sentence });
                continue;
            };
            let open = Open { id, sentence: sentence(ready), reason: ready.reason.clone() };
            match ready.status {
                ConditionStatus::True => {}
                ConditionStatus::False if open.reason == REJECTED => verdict.rejected.push(open),
                ConditionStatus::False => verdict.not_ready.push(open),
                ConditionStatus::Unknown => verdict.unknown.push(open),
            }
        }
        verdict
    }

    /// Those that are not ready.
    fn open(&self) -> impl Iterator<Item = &Open> {
        self.rejected.iter().chain(&self.not_ready).chain(&self.unknown)
    }

    /// Whether waiting changes nothing.
    fn is_final(&self) -> bool {
        !self.rejected.is_empty() || self.open().next().is_none()
    }

    /// Says of each resource for what it waits, when that is another reason than was `said`.
    fn say_new(&self, said: &mut BTreeMap<String, String>) {
        for Open { id, reason, sentence } in self.open() {
            if said.insert(id.clone(), reason.clone()).as_ref() != Some(reason) {
                note(format_args!("waiting: {id}: {sentence}"));
            }
        }
    }

    fn tell(&self, count: usize) -> ExitCode {
        self.open().for_each(|Open { id, sentence, .. }| note(format_args!("{id}: {sentence}")));
        match (self.rejected.is_empty() && self.not_ready.is_empty(), self.unknown.is_empty()) {
            (true, true) => {
                note(format_args!("ready: all {count}"));
                ExitCode::SUCCESS
            }
            (true, false) => ExitCode::from(UNKNOWN),
            (false, _) => ExitCode::from(NOT_READY),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    fn cluster(name: &str, ready: &str, reason: &str) -> Readiness {
        let ready = json!({"type": "Ready", "status": ready, "reason": reason, "message": "of it"});
        from_value(json!({"id": format!("Cluster/{name}"), "ready": ready})).unwrap()
    }

    #[test]
    fn a_resource_is_ready_when_it_says_so_and_only_a_rejection_ends_the_wait() {
        let a = || cluster("a", "True", "Serving");
        let b = || cluster("b", "False", "NoMembers");
        let c = || cluster("c", "Unknown", "Progressing");
        let gone = Readiness { id: "Cluster/gone".parse().unwrap(), ready: None };
        let of = |resources: &[Readiness]| {
            let verdict = Verdict::of(resources);
            (verdict.is_final(), verdict.open().map(|open| open.sentence.clone()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[a()]), (true, vec![]));
        assert_eq!(of(&[a(), b()]), (false, vec!["Ready=False NoMembers: of it".into()]));
        assert!(!of(&[c()]).0 && !of(&[gone]).0);
        assert!(of(&[b(), c(), cluster("d", "False", "Rejected")]).0);
    }

    #[test]
    fn how_it_ended_is_told_by_the_exit_code() {
        let of = |resources: &[Readiness]| Verdict::of(resources).tell(resources.len());
        let unknown = || cluster("a", "Unknown", "Progressing");
        assert_eq!(of(&[cluster("a", "True", "Serving")]), ExitCode::SUCCESS);
        assert_eq!(of(&[unknown()]), ExitCode::from(UNKNOWN));
        assert_eq!(of(&[unknown(), cluster("b", "False", "NoMembers")]), ExitCode::from(NOT_READY));
    }
}
