//! What the controller keeps: through kills at any moment, on a full disk, and from a backup.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::cli::{Cli, said};
use crate::support::demo::{Demo, HOST, HTTP, HTTPS};
use crate::support::http::{Answer, Client, Connection, Outcome, Protocol, full, plain};
use crate::support::load::Load;
use crate::support::process::{Process, TOMBOLO, arguments, signal};
use crate::support::router::{Router, address, public, shop};
use crate::support::upstream::{self, service};
use crate::support::{eventually, holds};

/// So many resources are written together.
const SIZE: u64 = 4;

fn resource(member: u64, generation: u64) -> Value {
    let spec = json!({
        "globalNamespace": "crash", "service": "none", "port": 80, "tls": { "mode": "http" },
        "hosts": [{ "name": format!("g{generation}.m{member}.example.com") }],
    });
    json!({ "apiVersion": "tombolo.dev/v1alpha1", "kind": "PublicService",
        "metadata": { "name": format!("m{member}") }, "spec": spec })
}

/// In each third generation the first one is removed.
fn members(generation: u64) -> std::ops::Range<u64> {
    u64::from(generation.is_multiple_of(3))..SIZE
}

/// The hosts that there are after a generation.
fn expected(generation: u64) -> Vec<String> {
    let hosts = members(generation).map(|member| format!("g{generation}.m{member}.example.com"));
    hosts.filter(|_| generation > 0).collect()
}

/// A controller that is killed.
struct Victim {
    folder: tempfile::TempDir,
    at: SocketAddr,
}

impl Victim {
    fn start(&self) -> Process {
        let args = [
            "controller".to_owned(),
            format!("--state={}", self.folder.path().join("state").display()),
            format!("--listen={}", self.at),
            format!("--context={}", self.context().display()),
        ];
        Process::start(args, &self.folder.path().join("controller.log"))
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    async fn connect(&self) -> Outcome<(Connection, HeaderMap)> {
        let text = std::fs::read(self.context()).map_err(|error| error.to_string())?;
        let context: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let client = Client::trusting(context["ca"].as_str().unwrap());
        let connection = client.https(self.at, &self.at.ip().to_string(), Protocol::Http2).await?;
        let token = HeaderValue::try_from(format!("Bearer {}", context["token"].as_str().unwrap())).unwrap();
        Ok((connection, [(header::AUTHORIZATION, token)].into_iter().collect()))
    }

    async fn hosts(&self) -> Outcome<Vec<String>> {
        let (mut connection, headers) = self.connect().await?;
        let path = "/v1alpha1/resources?kind=PublicService";
        let answer = connection.send(Method::GET, path, headers, full("")).await?;
        let listed = answer.json();
        let hosts = listed["items"].as_array().unwrap().iter().map(|item| &item["spec"]["hosts"][0]["name"]);
        Ok(hosts.map(|host| host.as_str().unwrap().to_owned()).collect())
    }
}

async fn apply(connection: &mut Connection, headers: &HeaderMap, generation: u64) -> Outcome<Answer> {
    let manifests: Vec<Value> = members(generation).map(|member| resource(member, generation)).collect();
    let removals: Vec<String> =
        (0..members(generation).start).map(|member| format!("PublicService/crash/m{member}")).collect();
    let body = json!({ "manifests": manifests, "removals": removals, "ignoreAbsent": true });
    connection.send(Method::POST, "/v1alpha1/apply", headers.clone(), full(body.to_string())).await
}

/// Applies one generation after another until the controller is gone; counts those that were acknowledged.
async fn write(mut connection: Connection, headers: HeaderMap, acknowledged: Arc<AtomicU64>) {
    loop {
        let next = acknowledged.load(Ordering::SeqCst) + 1;
        let Ok(answer) = apply(&mut connection, &headers, next).await else { return };
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        acknowledged.store(next, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_at_any_moment_has_every_batch_that_it_acknowledged_and_each_whole() {
    let victim = Victim { folder: tempfile::tempdir().unwrap(), at: SocketAddr::new(address(240, 1), 7443) };
    // It is killed at moments of its start, the first of them its very first.
    for moment in [0, 5, 15, 30, 60, 120] {
        let mut process = victim.start();
        tokio::time::sleep(Duration::from_millis(moment)).await;
        process.kill();
    }
    let acknowledged = Arc::new(AtomicU64::new(0));
    for batches in [1, 7, 3, 12, 2, 9, 5, 20, 4, 0] {
        let mut process = victim.start();
        let found = eventually("it starts", async || {
            assert!(process.ended().is_none(), "it does not start: {}", process.log());
            victim.hosts().await
        })
        .await;
        let known = acknowledged.load(Ordering::SeqCst);
        // The batch that was under way when it was killed may count, and then as a whole.
        let whole = [known, known + 1].into_iter().find(|generation| found == expected(*generation));
        let whole = whole.unwrap_or_else(|| panic!("acknowledged {known}, found {found:?}"));
        acknowledged.store(whole, Ordering::SeqCst);
        let (connection, headers) = victim.connect().await.unwrap();
        let writer = tokio::spawn(write(connection, headers, acknowledged.clone()));
        let enough = async || {
            let done = acknowledged.load(Ordering::SeqCst);
            holds(done >= whole + batches, || format!("{done} of {}", whole + batches))
        };
        eventually("it takes batches", enough).await;
        process.kill();
        writer.await.unwrap();
    }
}

/// A small disk, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing where this process may not mount; then the test says so and proves nothing.
    fn mount(path: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tombolo-test"]).arg(path);
        let mounted = said(&mut mount);
        if !mounted.ok {
            eprintln!("NOT TESTED: a file system cannot be mounted here: {}", mounted.stderr);
            return None;
        }
        Some(SmallDisk(path.to_owned()))
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let mut junk = std::fs::File::create(self.0.join("junk")).unwrap();
        for size in [65536, 4096, 1] {
            while std::io::Write::write_all(&mut junk, &vec![b'x'; size]).is_ok() {}
        }
    }

    /// Leaves so many bytes of room, where there was none.
    fn leave(&self, bytes: u64) {
        let junk = std::fs::File::options().write(true).open(self.0.join("junk")).unwrap();
        junk.set_len(junk.metadata().unwrap().len() - bytes).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("junk")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn gns(name: &str, domain: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\nspec: {{domain: {domain}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_reading_and_traffic_go_on_and_writing_does_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("state"), "3m") else { return };
    let instance = SocketAddr::new(address(241, 2), 9000);
    upstream::serve(instance).await;
    let manifests =
        shop("127.0.0.0/8") + &public("web", "cart", 8080, "{mode: http}") + &service("local", "cart", &[instance]);
    let router = Router::start_on(folder, address(241, 1), &manifests);
    let serves = async |router: &Router| {
        let mut connection = plain([127, 0, 0, 1].into(), router.at(HTTP), "web.example.com", Protocol::Http1).await?;
        let answer = connection.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    eventually("it serves", async || serves(&router).await).await;
    router.cli(|cli| cli.apply(&gns("before", "before.internal"))).success();

    disk.fill();
    let refused = router.cli(|cli| cli.apply(&gns("during", "during.internal"))).failure();
    for words in ["507", "o space left on device", "make room on that disk"] {
        assert!(refused.contains(words), "{words:?} in: {refused}");
    }
    let names = |cli: Cli<'_>| {
        let listed = cli.json(&["get", "gns"]);
        let names = listed["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone());
        names.map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(router.cli(names), ["before", "shop"]);
    router.cli(|cli| cli.run(&["history"])).success();
    for _ in 0..3 {
        assert!(!router.cli(|cli| cli.run(&["delete", "gns/before"])).ok, "there is no room to write that down");
        serves(&router).await.unwrap();
    }
    let mut router = router.again(&[], &[]);
    router.until_said("the controller listens").await;
    eventually("it serves after a start on the full disk", async || serves(&router).await).await;
    assert_eq!(router.cli(names), ["before", "shop"]);

    // With a little room lines of the audit log find a place, and in the end a batch does not.
    disk.leave(512 * 1024);
    let batch = |generation: u64| {
        let label = "x".repeat(60);
        let labels: Vec<String> = (0..40).map(|label_at| format!("l{label_at}: {label}")).collect();
        let manifest = |number: u64| {
            gns(&format!("n{number}"), &format!("g{generation}.n{number}.internal"))
                .replace("}\nspec", &format!(", labels: {{{}}}}}\nspec", labels.join(", ")))
        };
        (0..8).map(manifest).collect::<Vec<_>>().join("---\n")
    };
    let mut taken = 0;
    let refused = loop {
        let said = router.cli(|cli| cli.apply(&batch(taken + 1)));
        if !said.ok {
            break said.failure();
        }
        taken += 1;
        assert!(taken < 500, "it is never full");
    };
    assert!(refused.contains("507") && refused.contains("controller.redb"), "after {taken} batches: {refused}");
    let domains = |cli: Cli<'_>| {
        let listed = cli.json(&["get", "gns"]);
        let domains = listed["items"].as_array().unwrap().iter().map(|item| item["spec"]["domain"].to_string());
        domains.filter(|domain| domain.starts_with("\"g")).collect::<Vec<_>>()
    };
    let expected = |generation: u64| -> Vec<String> {
        (0..8).filter(|_| generation > 0).map(|number| format!("\"g{generation}.n{number}.internal\"")).collect()
    };
    assert_eq!(router.cli(domains), expected(taken));
    serves(&router).await.unwrap();

    disk.make_room();
    router.cli(|cli| cli.apply(&batch(taken + 2))).success();
    assert_eq!(router.cli(domains), expected(taken + 2));
    let remove: Vec<String> = (0..8).map(|number| format!("gns/n{number}")).collect();
    router
        .cli(|cli| cli.run(&[&["delete"], &remove.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat()))
        .success();
    router.cli(|cli| cli.apply(&gns("after", "after.internal"))).success();
    assert_eq!(router.cli(names), ["after", "before", "shop"]);
    let audit = std::fs::read_to_string(disk.0.join("controller/audit.log")).unwrap();
    let halves = audit.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert!(halves == 0 && audit.contains("after created"), "{halves} lines are no whole ones");
    let mut router = router.again(&[], &[]);
    router.until_said("the controller listens").await;
    assert_eq!(router.cli(names), ["after", "before", "shop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_whose_controller_is_destroyed_under_load_goes_on_and_comes_back_from_a_backup() {
    let demo = Demo::own().await;
    let mut connections = Vec::new();
    for gateway in demo.gateways() {
        connections.push(demo.client().https(SocketAddr::new(gateway, HTTPS), HOST, Protocol::Http2).await.unwrap());
    }
    let load = Load::start(connections);
    demo.cli(|cli| cli.apply(&gns("kept", "kept.internal"))).success();
    let (backup, state) = (demo.state.join("backup"), demo.state.join("controller"));
    let file = backup.to_str().unwrap();
    demo.cli(|cli| cli.run(&["backup", file])).success();
    demo.cli(|cli| cli.apply(&gns("late", "late.internal"))).success();

    let pids = demo.pids("controller");
    let args = arguments(pids[0]);
    let restore = |more: &[&str]| {
        let state = format!("--state={}", state.display());
        said(Command::new(TOMBOLO).args(["restore", file, &state]).args(more))
    };
    assert!(restore(&["--replace"]).failure().contains("in use"), "it runs");
    signal("KILL", &pids);
    assert!(restore(&[]).failure().contains("--replace"), "there is a database");
    let key = std::fs::read(state.join("vault.key")).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    load.window().await;

    restore(&[]).success();
    identity::files::write_private(&state.join("vault.key"), &key).unwrap();
    let mut controller = Process::start(args, &demo.state.join("restored.log"));
    let connected = async || {
        assert!(controller.ended().is_none(), "{}", controller.log());
        let said = demo.cli(|cli| cli.run(&["status", "-o", "json"]));
        holds(said.ok, || said.stderr.clone())?;
        let status: Value = serde_json::from_str(&said.stdout).unwrap();
        let clusters = status["clusters"].as_array().unwrap();
        let back = clusters.iter().filter(|cluster| cluster["connected"] == true);
        holds(back.count() == 3, || status.to_string())
    };
    eventually("the agents are back", connected).await;
    demo.cli(|cli| {
        cli.run(&["get", "gns/kept"]).success();
        cli.run(&["get", "gns/late"]).failure();
        let told = cli.run(&["history"]).success();
        assert!(told.contains("restore of revision") && told.contains("100000"), "{told}");
    });
    let late = "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {name: late}\n\
                spec: {globalNamespace: shop, service: cart, port: 8080, hosts: [{name: late.example.com}], \
                tls: {mode: http}}\n";
    demo.cli(|cli| cli.make_ready(late));
    let mut connection =
        plain([127, 0, 0, 1].into(), (demo.gateway(0, 0), HTTP).into(), "late.example.com", Protocol::Http1)
            .await
            .unwrap();
    assert_eq!(connection.get("/").await.unwrap().status, StatusCode::OK);
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sound_backup_is_not_restored_and_a_lost_database_is_not_made_anew() {
    let mut router = Router::start(address(242, 1), &shop("127.0.0.0/8"), &[]);
    router.until_said("an agent is connected").await;
    let (backup, state) = (router.folder().join("backup"), router.state().join("controller"));
    router.cli(|cli| cli.run(&["backup", backup.to_str().unwrap()])).success();
    let sound = std::fs::read(&backup).unwrap();
    let key = std::fs::read(state.join("vault.key")).unwrap();
    let hidden = |bytes: &[u8]| sound.windows(bytes.len()).any(|window| window == bytes);
    assert!(!hidden(b"PRIVATE KEY") && !hidden(&key), "secrets are sealed, and their key is elsewhere");

    let half = router.folder().join("half");
    let elsewhere = format!("--state={}", router.folder().join("elsewhere").display());
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    for (bytes, words) in [(&sound[..sound.len() / 2], "cut off"), (&flipped, "damaged"), (b"hello", "no backup")] {
        std::fs::write(&half, bytes).unwrap();
        let refused = said(Command::new(TOMBOLO).args(["restore", half.to_str().unwrap(), &elsewhere])).failure();
        assert!(refused.contains(words), "{words}: {refused}");
    }
    std::fs::write(&half, b"").unwrap();
    router.process.kill();
    for spoil in [
        |path: &Path| std::fs::write(path, "").unwrap(),
        |path: &Path| std::fs::remove_file(path).unwrap(),
        |path: &Path| std::fs::write(path, vec![7; 100_000]).unwrap(),
    ] {
        spoil(&state.join("controller.redb"));
        std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        if let Ok(found) = std::fs::File::open(state.join("controller.redb")) {
            found.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        router = router.again(&[], &[]);
        assert!(!router.process.wait().success());
        let said = router.process.log();
        assert!(said.contains("controller.redb is") && said.contains("tombolo restore"), "{said}");
    }
    let into = format!("--state={}", state.display());
    said(Command::new(TOMBOLO).args(["restore", backup.to_str().unwrap(), &into, "--replace"])).success();
    let mut router = router.again(&[], &[]);
    router.until_said("an agent is connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_diff_and_rollback_are_commands() {
    let mut router = Router::start(address(243, 1), &shop("127.0.0.0/8"), &[]);
    router.until_said("the controller listens").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("books.yaml");
    let text = |domain: &str| gns("books", domain) + "---\n" + &gns("maps", "maps.internal");
    std::fs::write(&file, text("books.internal")).unwrap();
    let file = file.to_str().unwrap();
    let context = router.context();
    let code = |args: &[&str]| {
        let output = Command::new(TOMBOLO).args(args).env("TOMBOLO_CONTEXT", &context).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, told) = code(&["diff", "-f", file]);
    assert!(status == 1 && told.contains("--- /dev/null\n+++ GlobalNamespace/books\n@@"), "{status} {told}");
    router.cli(|cli| cli.run(&["apply", "-f", file])).success();
    assert_eq!(code(&["diff", "-f", file]), (0, String::new()));
    let revision = router.cli(|cli| cli.json(&["status"]))["revision"].to_string();
    std::fs::write(file, text("library.internal")).unwrap();
    let (status, told) = code(&["diff", "-f", file]);
    assert!(status == 1 && told.contains("-  domain: books.internal\n+  domain: library.internal\n"), "{told}");
    router.cli(|cli| cli.run(&["apply", "-f", file])).success();
    assert_eq!(code(&["diff", "-f", "/nowhere"]).0, 2);
    assert_eq!(code(&["diff", "--revision", "999"]).0, 2);

    let deleted = router.cli(|cli| cli.run(&["delete", "gns/maps", "gns/gone"])).failure();
    assert!(deleted.contains("GlobalNamespace/gone") && deleted.contains("nothing was deleted"), "{deleted}");
    router.cli(|cli| cli.run(&["delete", "--dry-run", "-f", file])).success();
    router.cli(|cli| cli.run(&["get", "gns/maps"])).success();
    router.cli(|cli| cli.run(&["delete", "-f", file])).success();
    router.cli(|cli| cli.run(&["delete", "--ignore-absent", "-f", file])).success();
    let then = router.cli(|cli| cli.json(&["get", "gns/books", "--revision", &revision]));
    assert_eq!(then["spec"]["domain"], "books.internal");
    let (status, told) = code(&["diff", "--revision", &revision]);
    assert!(status == 1 && told.contains("+  domain: books.internal"), "{told}");
    let told = router.cli(|cli| cli.run(&["rollback", &revision, "--dry-run"])).success();
    assert_eq!(told, "GlobalNamespace/books created (dry run)\nGlobalNamespace/maps created (dry run)\n");
    router.cli(|cli| cli.run(&["rollback", &revision])).success();
    assert_eq!(code(&["diff", "--revision", &revision]), (0, String::new()));
    let history = router.cli(|cli| cli.run(&["history", "--limit", "2"])).success();
    let rows: Vec<&str> = history.lines().collect();
    assert!(rows.len() == 3 && rows[1].contains("delete") && rows[1].contains("-GlobalNamespace/books"), "{history}");
    assert!(rows[2].contains(&format!("rollback to {revision}")) && rows[2].contains("admin"), "{history}");
}
