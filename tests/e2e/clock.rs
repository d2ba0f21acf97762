//! Clocks that are off, and certificates that have ended.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::clock::Clock;
use crate::support::demo::{Demo, HOST, HTTPS, SERVICE};
use crate::support::http::{Outcome, Protocol};
use crate::support::process::{Process, arguments, signal};
use crate::support::workload::{Caller, Member};
use crate::support::{eventually, holds};

/// One of the demo's processes, started again with a clock of its own.
struct Skewed {
    clock: Clock,
    process: Process,
}

impl Skewed {
    /// In the place of that one, named as in `west-gw-a`; with this shift.
    fn restart(demo: &Demo, name: &str, shift: i64) -> Skewed {
        let pids = demo.pids(&name.replace('-', "_"));
        let args = arguments(pids[0]);
        signal("KILL", &pids);
        let clock = Clock::new(&demo.state, name);
        clock.set(shift);
        let process = clock.start(&args, &demo.state.join(format!("{name}.skewed.log")));
        Skewed { clock, process }
    }

    /// It says all of this in a line.
    async fn says(&self, words: &[&str]) {
        eventually(&format!("it says {words:?}"), || async {
            let log = self.process.log();
            holds(log.lines().any(|line| words.iter().all(|word| line.contains(word))), || log.clone())
        })
        .await;
    }
}

/// Orders a cluster's certificates anew.
fn rotate(demo: &Demo, cluster: &str, flags: &[&str]) -> bool {
    let cluster = format!("--cluster={cluster}");
    let args = [&["certs", "rotate", "--level=leaf", &cluster], flags].concat();
    demo.cli(|cli| cli.run(&args)).ok
}

/// What a holder shows in the GNS, once it is heard.
async fn shown(demo: &Demo, holder: &str) -> Value {
    eventually("it is heard", || async {
        let status = demo.cli(|cli| cli.json(&["certs", "--gns=shop"]));
        let rows = status["certificates"].as_array().unwrap();
        let row = rows.iter().find(|row| row["holder"] == holder && row["heard"] == true);
        row.cloned().ok_or_else(|| status.to_string())
    })
    .await
}

/// Through this gateway all three clusters serve, two of them by tunnels.
async fn serves_all(demo: &Demo, gateway: u8) {
    eventually("all three clusters serve", || async {
        let at = SocketAddr::new(demo.gateway(2, gateway), HTTPS);
        let mut connection = demo.client().https(at, HOST, Protocol::Http2).await?;
        let mut served = std::collections::BTreeSet::new();
        for _ in 0..30 {
            served.insert(connection.get("/").await?.cluster());
        }
        holds(served.len() == 3, || format!("{served:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_with_clocks_up_to_a_minute_off_and_beyond_that_the_skew_is_named() {
    let demo = Demo::own().await;
    shown(&demo, "west/gw-a").await;
    let (gateway, mut agents) = (Skewed::restart(&demo, "west-gw-a", -55), Vec::new());
    for shift in [-55, 55] {
        gateway.clock.set(shift);
        let before = shown(&demo, "west/gw-a").await;
        assert!(rotate(&demo, "west", &["--wait", "--timeout=60"]), "{shift} s: {}", gateway.process.log());
        assert_ne!(shown(&demo, "west/gw-a").await["serial"], before["serial"]);
        serves_all(&demo, 0).await;
    }
    gateway.clock.set(0);
    for (cluster, shift) in [("south", 55), ("west", -55)] {
        let agent = Skewed::restart(&demo, &format!("{cluster}-agent"), shift);
        let holder = format!("{cluster}/gw-b");
        let before = shown(&demo, &holder).await;
        assert!(rotate(&demo, cluster, &["--wait", "--timeout=60"]), "{shift} s: {}", agent.process.log());
        assert_ne!(shown(&demo, &holder).await["serial"], before["serial"]);
        serves_all(&demo, 1).await;
        agent.clock.set(0);
        agents.push(agent);
    }

    // Ten minutes behind the others: nothing that was issued since begins for it.
    gateway.clock.set(-600);
    assert!(rotate(&demo, "west", &[]));
    gateway.says(&["s from now", "this machine's clock is behind"]).await;
    serves_all(&demo, 0).await; // by what it has
    // Forty days ahead of the others: all of theirs have ended.
    gateway.clock.set(40 * 86_400);
    gateway.says(&["s ago", "this machine's clock is ahead"]).await;
    gateway.clock.set(0);
    eventually("what was ordered is held", || async {
        let status = demo.cli(|cli| cli.json(&["certs"]));
        let heard = status["certificates"].as_array().unwrap().iter().all(|row| row["heard"] == true);
        holds(heard && status["rotations"] == json!([]), || format!("{status}: {}", gateway.process.log()))
    })
    .await;
    serves_all(&demo, 0).await;
}

/// Where a gateway keeps its identity.
fn identity_file(demo: &Demo) -> PathBuf {
    demo.state.join("west/gw-a/identities/shop.pem")
}

/// The gateway's identity on disk as it would be had nobody renewed it for two days.
fn make_expired(demo: &Demo, member: &Member) -> time::OffsetDateTime {
    use identity::{PrivateKey, Role, SigningRequest, SpiffeId, ca::Lifetimes, pem};
    let text = std::fs::read_to_string(identity_file(demo)).unwrap();
    let role = Role::Gateway { cluster: "west".into(), name: "gw-a".into() };
    let (id, key) = (SpiffeId::new(member.domain.clone(), role).unwrap(), PrivateKey::generate().unwrap());
    let request = SigningRequest::check(&SigningRequest::make(&id, &key).unwrap(), &id).unwrap();
    let names = identity::Facts::read(&pem::decode_certificates(&text).unwrap()[0]).unwrap().dns_names;
    let minute = Lifetimes::new(time::Duration::MINUTE, time::Duration::minutes(3), time::Duration::minutes(9));
    // Within the life of the issuing CA, which began a minute ago: so short a life that it is over.
    let then = time::OffsetDateTime::now_utc() - time::Duration::seconds(58);
    let chain = member.ca().issue_gateway(&request, names.iter().map(String::as_str), &minute.unwrap(), then).unwrap();
    let order = text.lines().next().unwrap();
    let new = format!("{order}\n{}{}", pem::encode_certificates(&chain), key.to_pem().as_str());
    std::fs::write(identity_file(demo), new).unwrap();
    identity::Facts::read(&chain[0]).unwrap().not_after
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_has_ended_proves_nothing_and_is_good_again_once_it_is_renewed() {
    let demo = Demo::own().await;
    let member = Member::of(&demo, 2, "shop").await;
    serves_all(&demo, 0).await;
    demo.kept("west/gw-a").await;
    let pids = demo.pids("west_gw_a");
    let args = arguments(pids[0]);
    signal("KILL", &pids);
    let agent = demo.pids("west_agent");
    signal("STOP", &agent);
    let over = make_expired(&demo, &member);
    // Until then a tunnel may be opened with it, which then stays. A life includes its last second.
    let over = over + time::Duration::SECOND;
    eventually("its life is over", || async { holds(time::OffsetDateTime::now_utc() > over, || over.to_string()) })
        .await;
    let log = demo.state.join("again.log");
    let gateway = Process::start(args.iter().map(String::as_str), &log);
    // It serves what takes no identity: its own cluster's instances, to whom it speaks in plain text.
    eventually("it is up", || demo.get_public(demo.gateway(2, 0))).await;
    eventually("peers say why they refuse it", || async {
        let names = ["north-gw-a", "north-gw-b", "south-gw-a", "south-gw-b"];
        let logs = names.map(|name| demo.log_of(&format!("{name}.access")));
        let said =
            logs.iter().any(|log| log.contains("west/gateway/gw-a") && log.contains("s ago: it was not renewed"));
        holds(said, || gateway.log())
    })
    .await;
    let caller = Caller::new(member.workload("shop", "till"), demo.workload(2));
    let at = SocketAddr::new(demo.gateway(2, 0), SERVICE);
    let refused = caller.http(at, "cart.shop.internal", &member, Protocol::Http1).await.map(drop).unwrap_err();
    assert!(refused.contains("CertExpired"), "{refused}");
    let only_west = async || -> Outcome<()> {
        let at = SocketAddr::new(demo.gateway(2, 0), HTTPS);
        let mut connection = demo.client().https(at, HOST, Protocol::Http2).await?;
        for _ in 0..12 {
            let answer = connection.get("/").await?;
            holds(answer.status == 200 && answer.cluster() == "west", || format!("{answer:?}"))?;
        }
        Ok(())
    };
    only_west().await.unwrap();

    signal("CONT", &agent);
    serves_all(&demo, 0).await;
    caller.http(at, "cart.shop.internal", &member, Protocol::Http1).await.unwrap();
}
