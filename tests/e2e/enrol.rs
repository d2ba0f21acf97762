//! How clusters and their members come in, and who is kept out.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::Value;

use crate::support::cli::Cli;
use crate::support::demo::{ADMIN, Demo, EAST_WEST, HTTP, HTTPS, SERVICE};
use crate::support::http::{Outcome, Protocol, plain};
use crate::support::process::{Process, signal};
use crate::support::{eventually, holds, upstream};

/// A fourth cluster, on the network after the demo's three.
struct East<'a> {
    demo: &'a Demo,
    dir: PathBuf,
}

impl East<'_> {
    fn in_mesh_of(demo: &Demo) -> East<'_> {
        let dir = demo.state.join("east");
        std::fs::create_dir_all(dir.join("services")).unwrap();
        East { demo, dir }
    }

    fn address(&self, fourth: u8) -> IpAddr {
        self.demo.address(3, 0, fourth)
    }

    fn agent(&self, token: &str) -> Process {
        let args = agent_args(&self.dir.join("agent"), SocketAddr::new(self.address(4), 7444), token);
        let services = format!("--services={}", self.dir.join("services").display());
        Process::start(args.into_iter().chain([services]), &self.dir.join("agent.log"))
    }

    /// Started once the agent has written the token by which it enrols.
    async fn gateway(&self) -> Process {
        let token = self.dir.join("agent/member.token");
        eventually("the agent has written its token", async || holds(token.exists(), || token.display().to_string()))
            .await;
        let args = [
            "gateway".to_owned(),
            format!("--state={}", self.dir.join("gw-a").display()),
            format!("--agent={}", self.dir.join("agent/member.token").display()),
            "--name=gw-a".to_owned(),
            format!("--address={}", self.address(11)),
            format!("--http-port={HTTP}"),
            format!("--https-port={HTTPS}"),
            format!("--east-west-port={EAST_WEST}"),
            format!("--admin-port={ADMIN}"),
            "--access-log=off".to_owned(),
            "--drain-wait=0".to_owned(),
            "--drain-timeout=2".to_owned(),
        ];
        Process::start(args, &self.dir.join("gw-a.log"))
    }

    fn instance(&self) -> (Process, SocketAddr) {
        let at = SocketAddr::new(self.demo.address(3, 1, 1), 9000);
        let listen = format!("--listen={at}");
        let args = ["demo-service", &listen, "--cluster=east", "--version=v1", "--name=i1"];
        (Process::start(args, &self.dir.join("i1.log")), at)
    }
}

fn agent_args(state: &Path, listen: SocketAddr, token: &str) -> Vec<String> {
    vec![
        "agent".to_owned(),
        format!("--state={}", state.display()),
        format!("--listen={listen}"),
        format!("--join={token}"),
    ]
}

pub const EAST: &str = "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {name: east}\n\
    spec: {workloads: [{cidr: 127.NET.2.0/24, namespace: shop}]}\n";

#[tokio::test]
async fn a_fourth_cluster_joins_with_a_token_and_takes_part_at_once() {
    let demo = Demo::own().await;
    let east = East::in_mesh_of(&demo);
    let _agent = east.agent(&demo.token("east"));
    let file = east.dir.join("agent/member.token");
    eventually("the agent joins", || std::future::ready(holds(file.exists(), String::new))).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&east.dir.join("agent"))), (0o600, 0o700), "secrets are private");

    let (_instance, at) = east.instance();
    let manifest = upstream::service("east", "cart", &[at]).replace("port: 8080,", "port: 8080, targetPort: 9000,");
    std::fs::write(east.dir.join("services/cart.yaml"), manifest).unwrap();
    let _gateway = east.gateway().await;
    let IpAddr::V4(workload) = demo.workload(3) else { unreachable!() };
    demo.cli(|cli| cli.apply(&EAST.replace("NET", &workload.octets()[1].to_string()))).success();

    // A workload of the new cluster reaches all four, and one of an old cluster, too.
    for (caller, gateway) in [(3, east.address(11)), (0, demo.gateway(0, 0))] {
        let reaches = || async { all_four(demo.workload(caller), SocketAddr::new(gateway, SERVICE)).await };
        eventually("all four clusters answer", reaches).await;
    }
    let public = || demo.get_public(east.address(11));
    eventually("the new cluster's gateway serves the public host", public).await;
    let status = demo.cli(|cli| cli.run(&["status"])).success();
    assert!(status.lines().any(|line| line.starts_with("east") && line.contains("connected")), "{status}");
}

#[tokio::test]
async fn waiting_for_a_resource_outlasts_the_coming_of_those_who_must_serve_it() {
    let demo = Demo::own().await;
    let gns = "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: dawn}\n\
               spec: {domain: dawn.internal, members: [{cluster: {exact: east}, namespace: {exact: dawn}}]}\n";
    let late = demo.cli(|cli| cli.with_manifests(&["apply", "--wait=2s", "-f"], gns));
    let said = "waiting: GlobalNamespace/dawn: Ready=False NoCluster";
    assert!(!late.ok && late.stderr.contains(said), "{late:?}");
    let context = demo.context();
    let waiting =
        std::thread::spawn(move || Cli { context: &context }.with_manifests(&["apply", "--wait=60s", "-f"], gns));
    let east = East::in_mesh_of(&demo);
    let _agent = east.agent(&demo.token("east"));
    let nobody = || async {
        let ready = demo.cli(|cli| cli.run(&["get", "gns", "dawn"])).stdout;
        holds(ready.contains("NoMembers"), || ready.clone())
    };
    eventually("the cluster has come, but nobody who serves", nobody).await;
    assert!(!waiting.is_finished(), "it waits");
    let _gateway = east.gateway().await;
    let said = waiting.join().unwrap();
    assert!(said.ok, "{said:?}");
    let status = demo.cli(|cli| cli.json(&["get", "GlobalNamespace/dawn"]))["status"].clone();
    assert_eq!(status["observedGeneration"], status["revision"], "{status}");
}

async fn all_four(workload: IpAddr, gateway: SocketAddr) -> Outcome<()> {
    let mut connection = plain(workload, gateway, "cart.shop.internal", Protocol::Http1).await?;
    let mut clusters = BTreeSet::new();
    for _ in 0..40 {
        let answer = connection.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))?;
        clusters.insert(answer.cluster());
    }
    holds(clusters.len() == 4, || format!("only {clusters:?}"))
}

/// What an agent says that must not be let in.
fn refused(demo: &Demo, token: &str, flags: &[String]) -> String {
    let state = tempfile::tempdir().unwrap();
    let own = format!("--state={}", state.path().join("agent").display());
    let listen = format!("--listen={}:7444", demo.address(3, 0, 9));
    let args = ["join".to_owned(), own, listen, token.to_owned()];
    let mut agent = Process::start(args.iter().chain(flags), &state.path().join("log"));
    let status = agent.wait();
    assert!(!status.success(), "it was let in: {}", agent.log());
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    agent.log()
}

#[tokio::test]
async fn a_token_is_good_for_one_joining_and_who_comes_late_is_told_how_to_get_another() {
    let demo = Demo::own().await;
    let east = East::in_mesh_of(&demo);
    let used = demo.token("east");
    let _agent = east.agent(&used);
    let joined = east.dir.join("agent/member.token");
    eventually("the first joining succeeds", || std::future::ready(holds(joined.exists(), String::new))).await;
    let said = refused(&demo, &used, &["--replace".to_owned()]);
    assert!(said.contains("used already") && said.contains("tombolo token create --cluster"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_before_the_top_level_ca_was_replaced_is_good_until_the_old_one_is_dropped() {
    let demo = Demo::own().await;
    let (in_time, late) = (demo.token("east"), demo.token("paris"));
    let roots = |status: &Value| {
        let rows = status["trust"].as_array().unwrap().iter().filter(|row| row["globalNamespace"] == Value::Null);
        rows.cloned().collect::<Vec<_>>()
    };
    let status = || demo.cli(|cli| cli.json(&["certs"]));
    let old = roots(&status())[0]["root"].clone();
    demo.cli(|cli| cli.run(&["certs", "rotate", "--level=top"])).success();
    // The new one signs once everybody has believed it for three seconds.
    eventually("west's agent believes both", || async {
        let rows = roots(&status());
        let new = rows.iter().find(|row| row["root"] != old).ok_or("no new root yet")?;
        let believed = new["believedBy"].as_array().unwrap().contains(&"the agent of west".into());
        holds(believed && new["signing"] == false, || format!("{rows:?}"))
    })
    .await;
    let away = demo.pids("west_agent");
    signal("STOP", &away);
    eventually("the new one signs, and the old one stays", || async {
        let rows = roots(&status());
        let signs = |row: &&Value| row["signing"] == true && row["root"] != old;
        holds(rows.len() == 2 && rows.iter().any(|row| signs(&row)), || format!("{rows:?}"))
    })
    .await;
    let east = East::in_mesh_of(&demo);
    let agent = east.agent(&in_time);
    let joined = east.dir.join("agent/member.token");
    eventually("it joins", || std::future::ready(holds(joined.exists(), || agent.log()))).await;
    signal("CONT", &away);
    eventually("the old one is dropped", || async {
        let rows = roots(&status());
        holds(rows.len() == 1 && rows[0]["root"] != old, || format!("{rows:?}"))
    })
    .await;
    let said = refused(&demo, &late, &[]);
    assert!(said.contains("before that root was replaced") && said.contains("tombolo token create"), "{said}");
    let said = refused(&demo, &demo.token("east"), &[]);
    assert!(said.contains("in the mesh already"), "a token of now is looked at: {said}");
}

#[tokio::test]
async fn a_token_of_another_cluster_or_mesh_or_none_at_all_is_refused() {
    // Nothing joins, so nothing changes.
    let demo = Demo::shared().await;
    let said = refused(demo, &demo.token("north"), &[]);
    assert!(said.contains("north") && said.contains("--replace"), "a name that is taken: {said}");

    let said = refused(demo, &with_cluster(&demo.token("paris"), "rome"), &[]);
    assert!(said.contains("paris") && said.contains("rome"), "another cluster's token: {said}");

    let other = Demo::own().await;
    let said = refused(demo, &other.token("paris"), &[format!("--controller={}", demo.controller())]);
    assert!(said.contains("another mesh") || said.contains("certificate"), "another mesh's token: {said}");

    let whole = demo.token("paris");
    let (half, newer) = (&whole[..whole.len() / 2], whole.replace("tombolo1", "tombolo9"));
    for garbled in ["", "tombolo1.", "tombolo1.!!!", "hello", half, &newer] {
        let said = refused(demo, garbled, &[]);
        assert!(said.contains("token"), "{garbled:?}: {said}");
    }
    assert!(demo.cli(|cli| cli.run(&["status"])).success().contains("connected"));
}

/// The same token, said to be for another cluster.
fn with_cluster(token: &str, cluster: &str) -> String {
    let (version, text) = token.split_once('.').unwrap();
    let mut fields: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    fields["cluster"] = cluster.into();
    format!("{version}.{}", URL_SAFE_NO_PAD.encode(fields.to_string()))
}
