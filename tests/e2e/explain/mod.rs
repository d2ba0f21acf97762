//! `tombolo explain` against faults that are seeded one by one: it names the step that fails, the resource behind it and
//! what to do. It is held to the truth in both directions: while a real request fails it must not say healthy, and once one
//! succeeds again it must say so.

mod adversary;
mod control;
mod published;
mod tunnels;
mod workloads;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::demo::Demo;
use crate::support::http::Outcome;
use crate::support::process::TOMBOLO;
use crate::support::{eventually, holds};

/// What is said of a request.
struct Explained {
    code: i32,
    json: Value,
}

impl Explained {
    fn verdict(&self) -> &str {
        self.json["verdict"].as_str().unwrap_or_default()
    }

    fn is_healthy(&self) -> bool {
        self.code == 0 && matches!(self.verdict(), "ok" | "impaired")
    }

    fn steps(&self) -> impl Iterator<Item = &Value> {
        self.json["steps"].as_array().into_iter().flatten()
    }
}

/// Runs the command, in a thread of its own: the test's own instances must go on answering.
async fn explain(context: PathBuf, args: &[&str]) -> Explained {
    let mut command = Command::new(TOMBOLO);
    command.arg("explain").args(args).args(["-o", "json"]).env("TOMBOLO_CONTEXT", context).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    Explained { code: output.status.code().unwrap(), json }
}

/// What is to be found.
#[derive(Clone, Copy)]
struct Expected {
    verdict: &'static str,
    hop: &'static str,
    /// Nothing where no resource is behind it.
    resource: Option<&'static str>,
    /// Words of what was found, and of the remedy.
    words: [&'static str; 2],
}

fn failed(hop: &'static str, resource: impl Into<Option<&'static str>>, words: [&'static str; 2]) -> Expected {
    Expected { verdict: "failed", hop, resource: resource.into(), words }
}

impl Expected {
    fn fits(&self, step: &Value) -> bool {
        let [what, remedy] = self.words;
        let says = |field: &str, word: &str| step[field].as_str().unwrap_or_default().contains(word);
        step["verdict"] == self.verdict
            && step["hop"] == self.hop
            && step["resource"].as_str() == self.resource
            && says("what", what)
            && says("remedy", remedy)
    }

    /// It is the first of the steps of its verdict, so that nobody is sent elsewhere.
    fn found_in(&self, explained: &Explained) -> Outcome<()> {
        let code = if self.verdict == "failed" { 1 } else { 4 };
        let first = explained.steps().find(|step| step["verdict"] == self.verdict);
        let fits =
            explained.code == code && explained.verdict() == self.verdict && first.is_some_and(|step| self.fits(step));
        holds(fits, || format!("exit code {}: {:#}", explained.code, explained.json))
    }
}

/// A question, and the request that it is about.
struct Asking<'d, T> {
    demo: &'d Demo,
    args: Vec<String>,
    truth: T,
}

impl<T: AsyncFn() -> Outcome<()>> Asking<'_, T> {
    async fn explain(&self) -> Explained {
        explain(self.demo.context(), &self.args.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    async fn until_healthy(&self, when: &str) {
        eventually(&format!("{when}: the request succeeds, and is explained as healthy"), async || {
            (self.truth)().await?;
            let explained = self.explain().await;
            holds(explained.is_healthy(), || format!("{:#}", explained.json))
        })
        .await;
    }

    /// The request fails, nobody says that it doesn't, and the fault is named.
    async fn until_named(&self, fault: &str, expected: Expected) {
        eventually(&format!("{fault}: the request fails, and the reason is named"), async || {
            let failed = (self.truth)().await;
            holds(failed.is_err(), || "the request succeeds".to_owned())?;
            let explained = self.explain().await;
            assert!(!explained.is_healthy(), "{fault}: {failed:?}, but {:#}", explained.json);
            expected.found_in(&explained)
        })
        .await;
    }

    /// One fault: seeded, named, and gone again.
    async fn prove(&self, fault: &str, expected: Expected, seed: impl AsyncFnOnce(), mend: impl AsyncFnOnce()) {
        self.until_healthy(&format!("before: {fault}")).await;
        seed().await;
        self.until_named(fault, expected).await;
        mend().await;
        self.until_healthy(&format!("after: {fault}")).await;
    }
}

fn args(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}
