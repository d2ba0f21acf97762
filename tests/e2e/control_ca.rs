//! A cluster's control CA, by which its members know their agent, is replaced while they serve.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::process::{Process, arguments, signal, with_flags};
use crate::support::{eventually, holds};

fn certificates(demo: &Demo) -> Value {
    demo.cli(|cli| cli.json(&["certs"]))
}

/// What west's agent and its members show one another, by holder: serial numbers, when nothing is being replaced.
fn of_west(status: &Value) -> BTreeMap<(String, String), String> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let rows = status["certificates"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["cluster"] == "west" && row["globalNamespace"] == Value::Null);
    rows.map(|row| ((text(row, "level"), text(row, "holder")), text(row, "serial"))).collect()
}

/// West's agent, its two gateways and its two DNS servers hold something, and its control CA is one.
async fn settled(demo: &Demo) -> BTreeMap<(String, String), String> {
    eventually("everybody tells what he holds", || async {
        let status = certificates(demo);
        let west = of_west(&status);
        holds(west.len() == 6 && status["rotations"] == json!([]), || status.to_string()).map(|()| west)
    })
    .await
}

fn rotate(demo: &Demo) -> String {
    let args = ["certs", "rotate", "--level=control", "--cluster=west", "--wait", "--timeout=60"];
    let said = demo.cli(|cli| cli.run(&args));
    assert!(said.ok, "{said:?}");
    said.stderr
}

/// The certificates of a file, in the order in which they stand there.
fn certificates_in(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let inner = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    inner.map(|rest| rest.split("-----END").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_ca_is_replaced_and_nobody_leaves_its_cluster() {
    let demo = Demo::own().await;
    let (before, agent) = (settled(&demo).await, demo.state.join("west/agent"));
    let old_token = std::fs::read_to_string(agent.join("member.token")).unwrap();
    let said = rotate(&demo);
    assert!(said.contains("control") && said.contains("overlap"), "{said}");
    let after = settled(&demo).await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let kept: Vec<_> = before.iter().filter(|(holder, serial)| after[*holder] == **serial).collect();
    assert!(kept.is_empty(), "still the same: {kept:?}");
    let life = certificates(&demo)["certificates"].as_array().unwrap().iter().find_map(|row| {
        let of_west = row["level"] == "control" && row["cluster"] == "west";
        of_west.then(|| row["notAfter"].as_i64().unwrap() - row["notBefore"].as_i64().unwrap())
    });
    assert_eq!(life, Some(90 * 86_400));
    assert!(!agent.join("control-ca.next.pem").exists(), "the old one's key is gone");
    let member = demo.state.join("west/gw-b/member.pem");
    eventually("the old one is believed no more", || async {
        let (ca, member) = (certificates_in(&agent.join("control-ca.pem")), certificates_in(&member));
        holds(member.get(1..) == Some(ca.as_slice()), || format!("{ca:?}, {member:?}"))
    })
    .await;
    assert_ne!(std::fs::read_to_string(agent.join("member.token")).unwrap(), old_token);

    // A machine that has the token of before: its member goes on by what it holds, and nobody new comes in by it.
    let token = demo.state.join("old.token");
    std::fs::write(&token, &old_token).unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let pids = demo.pids("west_gw_b");
    let flags = arguments(pids[0]);
    signal("KILL", &pids);
    let old = format!("--agent={}", token.display());
    let again = Process::start(with_flags(&flags, &[&old]), &demo.state.join("again.log"));
    eventually("it is with its agent again", || async {
        let rows = demo.cli(|cli| cli.json(&["status"]));
        let west = rows["clusters"].as_array().unwrap().iter().find(|cluster| cluster["name"] == "west").unwrap();
        let members = west["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["name"].as_str().unwrap().ends_with("gw-b")).unwrap();
        let said = again.log().contains("the member token is old");
        holds(said && member["connected"] == true, || format!("{member}: {}", again.log()))
    })
    .await;
    let args = ["certs", "issue", "--gns=shop", "--service=shop/cart", &old, "--out=none"];
    let refused = demo.cli(|cli| cli.run(&args)).failure();
    assert!(
        refused.contains("before that root was replaced") && refused.contains("member.token as it is now"),
        "{refused}"
    );
    assert_eq!(settled(&demo).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_holds_it_up_and_a_restart_of_the_agent_goes_on_where_it_was() {
    let demo = Demo::with(&["--quiet"]).await; // its agent is started again
    settled(&demo).await;
    let away = demo.pids("west_gw_b");
    signal("STOP", &away);
    let args = ["certs", "rotate", "--level=control", "--cluster=west", "--wait", "--timeout=2"];
    let said = demo.cli(|cli| cli.run(&args));
    assert!(!said.ok && said.stderr.contains("overlap"), "{said:?}");
    let named = async |when: &str| {
        eventually(when, || async {
            let rotations = certificates(&demo)["rotations"].clone();
            let own = rotations.as_array().unwrap().iter().find(|rotation| rotation["level"] == "control").cloned();
            let own = own.ok_or_else(|| rotations.to_string())?;
            let waits = own["phase"] == "overlap" && own["waiting"] == json!(["west/gw-b"]);
            holds(waits, || rotations.to_string())
        })
        .await;
    };
    named("only the one that is away is waited for").await;
    // Who enrols meanwhile, by the token as it is, believes both.
    signal("KILL", &demo.pids("west_agent"));
    named("the agent goes on where it was").await;
    signal("CONT", &away);
    settled(&demo).await;
    assert!(!demo.state.join("west/agent/control-ca.next.pem").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_control_ca_is_set_aside_and_members_enrol_anew() {
    let demo = Demo::with(&["--quiet"]).await;
    let before = settled(&demo).await;
    let ca = demo.state.join("west/agent/control-ca.pem");
    let (whole, old) = (std::fs::read_to_string(&ca).unwrap(), certificates_in(&ca));
    std::fs::write(&ca, &whole[..whole.len() / 2]).unwrap();
    signal("KILL", &demo.pids("west_agent"));
    eventually("the agent has another", || async {
        let new = certificates_in(&ca);
        holds(new.len() == 1 && new != old, || format!("{new:?}"))
    })
    .await;
    eventually("all members are there again", || async {
        let west = of_west(&certificates(&demo));
        let others = before.iter().filter(|((level, holder), serial)| {
            (level != "leaf" || !holder.starts_with("the agent"))
                && west.get(&(level.clone(), holder.clone())) == Some(serial)
        });
        let others: Vec<_> = others.collect();
        holds(west.len() == 6 && others.is_empty(), || format!("{others:?} of {west:?}"))
    })
    .await;
    assert!(demo.state.join("west/agent/control-ca.pem.damaged").exists());
}
