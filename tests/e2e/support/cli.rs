//! The command line, as a person uses it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::process::TOMBOLO;

/// What a command said, and whether it succeeded.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// What it said; it must have succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.ok, "it failed: {self:?}");
        self.stdout
    }

    /// Why it failed; it must have.
    #[track_caller]
    pub fn failure(self) -> String {
        assert!(!self.ok, "it succeeded: {self:?}");
        self.stderr
    }
}

/// A context, and the commands that use it.
pub struct Cli<'a> {
    pub context: &'a Path,
}

impl Cli<'_> {
    /// Runs one command, without a shell.
    pub fn run(&self, args: &[&str]) -> Said {
        let mut command = Command::new(TOMBOLO);
        command.args(args).env("TOMBOLO_CONTEXT", self.context).stdin(Stdio::null());
        said(&mut command)
    }

    /// Runs one command over manifests, in a file that errors call `shop.yaml`.
    pub fn with_manifests(&self, args: &[&str], manifests: &str) -> Said {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop.yaml"), manifests).unwrap();
        let mut command = Command::new(TOMBOLO);
        command.args(args).arg("shop.yaml").current_dir(folder.path());
        said(command.env("TOMBOLO_CONTEXT", self.context).stdin(Stdio::null()))
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Said {
        self.with_manifests(&["apply", "-f"], manifests)
    }

    /// Applies manifests and waits until everyone who must acts on them.
    #[track_caller]
    pub fn make_ready(&self, manifests: &str) {
        self.with_manifests(&["apply", "--wait=60s", "-f"], manifests).success();
    }

    /// What a command tells as JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.run(&[args, &["-o", "json"]].concat()).success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        ok: output.status.success(),
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
