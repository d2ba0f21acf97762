//! The README's commands, run as a newcomer would paste them: one shell, in their order.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The blocks below a `<!-- tested: NAME -->`, by name, in their order.
fn blocks(readme: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("<!-- tested: ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(name) = name.filter(|_| lines.next() == Some("```sh")) else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((name.to_owned(), text.join("\n")));
    }
    blocks
}

/// Runs blocks in one bash that stops at the first error; returns what they printed.
fn run(names: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let blocks = blocks(&std::fs::read_to_string(root.join("README.md")).unwrap());
    // A job that is killed ends with an error, which `wait` then repeats.
    let mut script = String::from("set -e; wait() { command wait \"$@\" || true; }\n");
    for name in names {
        let (_, text) = blocks.iter().find(|(other, _)| other == name).expect("the README has the block");
        writeln!(script, "{text}").unwrap();
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_tombolo")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(root).env("PATH", path).stdin(Stdio::null());
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

const FIRST: [&str; 3] = ["up", "up-ask", "up-end"];
const PEERING: [&str; 5] = ["peering-controller", "peering-clusters", "peering-ask", "peering-why", "peering-end"];

#[test]
fn every_block_that_is_said_to_be_tested_is() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let names: Vec<String> = blocks(&readme).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&FIRST[..], &PEERING[..]].concat());
}

#[test]
fn the_first_public_service_works_as_it_is_written() {
    let said = run(&FIRST);
    assert_eq!(said.matches("200 local/").count(), 4, "{said}");
    assert!(said.contains("127.0.0.1\n") && said.contains("PublicService"), "{said}");
}

#[test]
fn two_clusters_peer_as_it_is_written() {
    let said = run(&PEERING);
    for cluster in ["200 east/", "200 west/"] {
        assert!(said.matches(cluster).count() >= 2, "{said}");
    }
    for explained in
        ["GET https://hello.example.com:18443/: ok", "GET http://web.hello.internal:8080/: ok", "takes tunnels"]
    {
        assert!(said.contains(explained), "{said}");
    }
}
