//! Waiting until resources are ready.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use config::resource::{ConditionStatus, ResourceId};
use tokio::time::{Instant, sleep, sleep_until};

use super::api::Api;
use super::item::{Item, sentence};
use super::output::note;

/// So often the controller is asked.
const PAUSE: Duration = Duration::from_millis(250);

/// The exit code when a resource is not ready: whatever one waits, somebody has to do something.
const NOT_READY: u8 = 3;
/// The exit code when it could not be told in time.
const UNKNOWN: u8 = 4;

/// Waits until each resource is either ready or known not to be, for so long at most.
///
/// # Errors
/// When the controller can no longer be asked.
pub async fn until_ready(api: &Api, ids: &[ResourceId], limit: Duration) -> Result<ExitCode> {
    let end = Instant::now() + limit;
    loop {
        let verdict = Verdict::of(ids, &api.list(None, None).await?);
        let late = Instant::now() + PAUSE > end;
        if verdict.unknown.is_empty() || late {
            return Ok(verdict.tell(ids.len()));
        }
        tokio::select! { () = sleep(PAUSE) => {} () = sleep_until(end) => {} }
    }
}

/// Which resources are not ready, and why.
#[derive(Default)]
struct Verdict {
    not_ready: Vec<String>,
    unknown: Vec<String>,
}

impl Verdict {
    fn of(ids: &[ResourceId], items: &[Item]) -> Self {
        let items: BTreeMap<String, &Item> = items.iter().map(|item| (item.id(), item)).collect();
        let mut verdict = Verdict::default();
        for id in ids {
            let ready = items.get(&id.to_string()).and_then(|item| item.ready());
            let reason = ready.as_ref().map_or("nobody says whether it is ready".to_owned(), sentence);
            match ready.map(|condition| condition.status) {
                Some(ConditionStatus::True) => {}
                Some(ConditionStatus::False) => verdict.not_ready.push(format!("{id}: {reason}")),
                Some(ConditionStatus::Unknown) | None => verdict.unknown.push(format!("{id}: {reason}")),
            }
        }
        verdict
    }

    fn tell(&self, count: usize) -> ExitCode {
        self.not_ready.iter().chain(&self.unknown).for_each(note);
        match (self.not_ready.as_slice(), self.unknown.as_slice()) {
            ([], []) => {
                note(format_args!("ready: all {count}"));
                ExitCode::SUCCESS
            }
            ([], _) => ExitCode::from(UNKNOWN),
            _ => ExitCode::from(NOT_READY),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    fn cluster(name: &str, ready: &str) -> Item {
        let ready = json!({"type": "Ready", "status": ready, "reason": "Because", "message": "of it"});
        let status = json!({"revision": 1, "conditions": [ready]});
        from_value(json!({"kind": "Cluster", "metadata": {"name": name}, "status": status})).unwrap()
    }

    #[test]
    fn a_resource_is_ready_when_it_says_so_and_only_then() {
        let items = [cluster("a", "True"), cluster("b", "False"), cluster("c", "Unknown")];
        let of = |ids: &[&str]| {
            let ids: Vec<ResourceId> = ids.iter().map(|id| format!("Cluster/{id}").parse().unwrap()).collect();
            let verdict = Verdict::of(&ids, &items);
            (verdict.not_ready, verdict.unknown)
        };
        assert_eq!(of(&["a"]), (vec![], vec![]));
        assert_eq!(of(&["a", "b"]), (vec!["Cluster/b: Ready=False Because: of it".into()], vec![]));
        let (not_ready, unknown) = of(&["a", "b", "c", "gone"]);
        assert_eq!((not_ready.len(), unknown.len()), (1, 2));
    }
}
