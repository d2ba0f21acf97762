//! The import rules of the design, held by reading the manifests and the sources. Each failure names the file.
//!
//! Reading text keeps this free of dependencies, and true for code that a feature or a target leaves out.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Our crates by layer, the lowest first: a crate imports only what lies in lower layers, so those of one layer
/// never import one another. (Crate name, directory.)
const LAYERS: [&[(&str, &str)]; 4] = [
    &[("config", "config")],
    &[("identity", "identity"), ("decide", "gateway/decide")],
    &[("gateway", "gateway"), ("dns", "dns"), ("controller", "controller")],
    &[("tombolo", ".")],
];

/// Libraries that do input and output, or bring a runtime: nothing for the pure crates.
const IMPURE: [&str; 8] = ["tokio", "pingora", "hickory", "hyper", "kube", "axum", "h2", "mio"];

/// What gives a pure crate sockets of its own, or a clock.
const SOCKETS_AND_CLOCKS: [&str; 6] =
    ["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "Instant::now", "SystemTime::now"];

/// Beyond this many lines a file holds more than one thing.
const LONGEST_FILE: usize = 600;

#[test]
fn every_crate_has_its_layer() {
    let root = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let members = root.lines().find(|line| line.starts_with("members")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        let known = crates().any(|(_, _, dir)| dir == member);
        assert!(known, "{member}: a new crate; give it its layer in tests/architecture.rs");
    }
}

#[test]
fn crates_import_only_from_lower_layers() {
    for (layer, name, dir) in crates() {
        for dependency in dependencies(dir, Including::Tests) {
            let lower = crates().all(|(other, ours, _)| ours != dependency || other < layer);
            assert!(lower, "{dir}/Cargo.toml: {name} must not import {dependency}, which is not in a lower layer");
        }
    }
}

#[test]
fn config_and_decide_are_pure() {
    for dir in ["config", "gateway/decide"] {
        for dependency in dependencies(dir, Including::ProductOnly) {
            let pure = !IMPURE.iter().any(|library| is_of(&dependency, library));
            assert!(pure, "{dir}/Cargo.toml: {dependency} does input and output, this crate does none");
        }
        for source in sources().filter(|source| source.is_in(&[&format!("{dir}/src")])) {
            for word in SOCKETS_AND_CLOCKS {
                let at = source.product_code().position(|line| line.contains(word));
                assert!(at.is_none(), "{}: {word} in a pure crate", source.place(at));
            }
        }
    }
}

#[test]
fn kube_appears_only_in_the_controllers_kube_module() {
    only_in("kube", &["controller/src/kube"]);
}

#[test]
fn pingora_appears_only_in_the_gateway() {
    only_in("pingora", &["gateway/src", "gateway/tests"]);
}

#[test]
fn hickory_appears_only_in_dns() {
    only_in("hickory", &["dns"]);
}

#[test]
fn redb_appears_only_in_the_store() {
    only_in("redb", &["controller/src/store"]);
}

#[test]
fn anyhow_appears_only_in_the_binary() {
    only_in("anyhow", &["src"]);
}

#[test]
fn the_proxy_library_is_adapted_in_one_file() {
    for source in sources().filter(|source| !source.is_in(&["gateway/src/proxy.rs"])) {
        let adapts = |line: &str| line.contains("HttpServerApp for ") || line.contains("ProxyHttp for ");
        let at = source.code().position(adapts);
        assert!(at.is_none(), "{}: only gateway/src/proxy.rs adapts the proxy library", source.place(at));
    }
}

#[test]
fn no_file_is_too_long() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST_FILE, "{}: {lines} lines; split it, {LONGEST_FILE} are the most", source.path);
    }
}

#[test]
fn uses_of_a_library_are_told_from_what_only_looks_like_them() {
    for line in ["use pingora_core::apps;", "    pingora::run()", "fn f(e: &'a pingora_error::Error)"] {
        assert!(names(line, "pingora"), "{line}");
    }
    for line in ["crate::pingora::x", "let pingora = 1;", "\"pingora is fast\"", "mypingora::x", "pingoras::x"] {
        assert!(!names(line, "pingora"), "{line}");
    }
}

/// The library, or one of its family (`pingora`, `pingora-core`), is imported and used only in these places, each a
/// directory, or a module with or without one.
fn only_in(library: &str, places: &[&str]) {
    for source in sources().filter(|source| !source.is_in(places)) {
        let at = source.code().position(|line| names(line, library));
        assert!(at.is_none(), "{}: {library} is for {} only", source.place(at), places.join(" and "));
    }
    for (_, _, dir) in crates() {
        let imports = dependencies(dir, Including::Tests).iter().any(|dependency| is_of(dependency, library));
        let allowed = places.iter().any(|place| home(place) == dir);
        assert!(allowed || !imports, "{dir}/Cargo.toml: {library} is for {} only", places.join(" and "));
    }
}

/// The directory of the crate that holds this place.
fn home(place: &str) -> &'static str {
    let holds = |dir: &str| Path::new(place).starts_with(dir);
    crates().map(|(_, _, dir)| dir).filter(|dir| holds(dir)).max_by_key(|dir| dir.len()).unwrap_or(".")
}

/// Whether a line of code names the library, or one of its family, as a crate: the start of a path, or after `use`.
fn names(line: &str, library: &str) -> bool {
    let starts_a_path = |at: usize| {
        let (before, after) = (&line[..at], &line[at..]);
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
        let used = after[end..].starts_with("::") || before.trim_end().ends_with("use");
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        whole && used && is_of(&after[..end], library)
    };
    line.match_indices(library).any(|(at, _)| starts_a_path(at))
}

/// Whether a package or crate is the library itself or one of its family.
fn is_of(name: &str, library: &str) -> bool {
    name.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

/// (Layer, name, directory) of each of our crates.
fn crates() -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    LAYERS.iter().enumerate().flat_map(|(layer, crates)| crates.iter().map(move |(name, dir)| (layer, *name, *dir)))
}

/// Which of a crate's dependencies count: also those of its tests, or only those that ship.
#[derive(Clone, Copy, PartialEq)]
enum Including {
    Tests,
    ProductOnly,
}

/// What a crate imports by its manifest: each dependency's name, and the package behind it where that has another.
fn dependencies(dir: &str, including: Including) -> Vec<String> {
    let path = workspace().join(dir).join("Cargo.toml");
    let manifest = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            let table = line.trim_matches(['[', ']']);
            let counts = !table.starts_with("workspace") && (including == Including::Tests || !table.contains("dev-"));
            inside = counts && table.contains("dependencies");
            let one = table.split_once("dependencies.").filter(|_| inside);
            found.extend(one.map(|(_, name)| name.to_owned()));
        } else if inside {
            found.extend(line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()).map(str::to_owned));
            found.extend(package(line).map(str::to_owned));
        }
    }
    found
}

/// The `package = "…"` of a dependency that goes by another name.
fn package(line: &str) -> Option<&str> {
    line.split_once("package = \"")?.1.split('"').next()
}

/// One Rust file of the workspace.
struct Source {
    /// From the workspace's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Whether the file lies in one of these directories, or is that module's own file.
    fn is_in(&self, places: &[&str]) -> bool {
        let module = Path::new(self.path.trim_end_matches(".rs"));
        places.iter().any(|place| module.starts_with(place.trim_end_matches(".rs")))
    }

    /// Its lines without comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(|line| line.split("//").next().unwrap_or_default())
    }

    /// Its lines without comments, up to its unit tests.
    fn product_code(&self) -> impl Iterator<Item = &str> {
        let tests = self.text.lines().position(|line| line == "mod tests {");
        let lines = if self.path.ends_with("/tests.rs") { 0 } else { tests.unwrap_or(usize::MAX) };
        self.code().take(lines)
    }

    /// `FILE:LINE`, for messages.
    fn place(&self, line: Option<usize>) -> String {
        format!("{}:{}", self.path, line.map_or(0, |line| line + 1))
    }
}

/// Every Rust file of the workspace but this one, which has to name what it looks for.
fn sources() -> impl Iterator<Item = Source> {
    let mut paths = Vec::new();
    let tops = ["src", "tests", "config", "identity", "gateway", "dns", "controller"];
    tops.iter().for_each(|top| walk(&workspace().join(top), &mut paths));
    assert!(paths.len() > 20, "found only {} sources: did the workspace move?", paths.len());
    paths.into_iter().filter(|path| !path.ends_with(file!())).map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(workspace()).unwrap().to_str().unwrap().replace('\\', "/");
        Source { path, text }
    })
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
