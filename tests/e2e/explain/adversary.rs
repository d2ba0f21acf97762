//! Faults drawn by lot, one at a time and two at once. Real requests to every address that every DNS server names say what
//! is true; explain is asked between two rounds of them. It is never healthy while both fail, and healthy again, or unsure
//! by name, once both succeed.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::timeout;

use super::{Explained, args, explain};
use crate::isolation::dice::Dice;
use crate::support::demo::{DNS, Demo, EAST_WEST, HTTP, SERVICE};
use crate::support::dns::{A, Over, ask};
use crate::support::http::{Outcome, Protocol, full, plain};
use crate::support::moody::{Mood, Moody};
use crate::support::process::signal;
use crate::support::upstream::service;
use crate::support::{eventually, holds};

const PUBLIC: &str = "stand.example.com";
const INTERNAL: &str = "stand.shop.internal";
/// Whoever gets no answer for so long takes it for none; explain has to be done by then, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests to each address: each instance has some, whose turn it is.
const REQUESTS: usize = 6;
/// Rounds of a fault at the least: what is seen of it by requests changes what is true of it.
const ROUNDS: usize = 3;
/// Pairs that are drawn.
const PAIRS: usize = 10;
const SEED: u64 = 0x70b0_2026;

/// What goes wrong. A and B are north's instances, C is south's only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It answers its checks, and resets every request.
    ResetA,
    ResetNorth,
    ResetC,
    /// Its answers break off, but not those to checks.
    BrokenC,
    SickA,
    RefuseA,
    RefuseAll,
    /// Its port is open, only that is checked, and nothing is answered.
    MuteNorth,
    /// Another protocol's server stands where it should.
    MailA,
    /// It runs, but no manifest names it any more.
    DrainedA,
    /// South says that the service has another port.
    OtherPortC,
    StoppedPeer,
    StoppedPeers,
    StoppedGateway,
    StoppedDns,
    StoppedAgent,
    /// One gateway's address is that of the other.
    MisplacedPeer,
    /// The way to one of the two gateways is cut.
    CutPeer,
    /// One of two gateways' addresses leads nowhere.
    StaleGateway,
    /// Only south may serve the public.
    SouthOnly,
    /// No row says which namespace north's callers are of.
    Unmapped,
    /// Callers and instances must speak mutual TLS, and don't.
    Strict,
}

use Fault::*;

const FAULTS: [Fault; 22] = [
    ResetA,
    ResetNorth,
    ResetC,
    BrokenC,
    SickA,
    RefuseA,
    RefuseAll,
    MuteNorth,
    MailA,
    DrainedA,
    OtherPortC,
    StoppedPeer,
    StoppedPeers,
    StoppedGateway,
    StoppedDns,
    StoppedAgent,
    MisplacedPeer,
    CutPeer,
    StaleGateway,
    SouthOnly,
    Unmapped,
    Strict,
];

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Somebody outside, by the public host.
    Outside,
    /// A workload of north.
    Inside,
}

impl Fault {
    /// Whether some requests fail for as long as it lasts, whatever the gateways learn of it.
    fn breaks(self, question: Question) -> bool {
        match self {
            ResetNorth | ResetC | BrokenC | RefuseAll | MuteNorth | StoppedDns | Strict => true,
            OtherPortC => question == Question::Outside,
            Unmapped => question == Question::Inside,
            _ => false,
        }
    }
}

struct Lab {
    demo: Demo,
    instances: [Moody; 3],
}

impl Lab {
    async fn open() -> Lab {
        let demo = Demo::own().await;
        let instance = |cluster, fourth| Moody::start(SocketAddr::new(demo.address(cluster, 1, fourth), 9080));
        let instances = [instance(0, 41).await, instance(0, 42).await, instance(1, 41).await];
        super::published::greeter(mail(&demo)).await;
        let lab = Lab { demo, instances };
        lab.put(&[]).await;
        lab
    }

    /// From now on these faults are there, and no others.
    async fn put(&self, faults: &[Fault]) {
        for (instance, mood) in self.instances.iter().zip(moods(faults)) {
            instance.set(mood).await;
        }
        let [a, b, c] = [0, 1, 2].map(|number| self.instances[number].at);
        let a = if faults.contains(&MailA) { mail(&self.demo) } else { a };
        let north: Vec<_> = [a, b].into_iter().skip(usize::from(faults.contains(&DrainedA))).collect();
        self.register("north", &north, faults);
        self.register("south", &[c], faults);
        // First those who must hear of it.
        self.signal("CONT", |fault| !faults.contains(&fault));
        self.demo.cli(|cli| cli.apply(&manifests(&self.demo, faults))).success();
        self.signal("STOP", |fault| faults.contains(&fault));
    }

    fn register(&self, cluster: &str, instances: &[SocketAddr], faults: &[Fault]) {
        let check = if faults.contains(&MuteNorth) { "{protocol: tcp}" } else { "{path: /health}" };
        let port = if cluster == "south" && faults.contains(&OtherPortC) { "port: 8090" } else { "port: 8080" };
        let manifest = service(cluster, "stand", instances).replace("port: 8080", port);
        let folder = self.demo.state.join(format!("{cluster}/services"));
        std::fs::write(folder.join(".stand.new"), format!("{manifest}  healthCheck: {check}\n")).unwrap();
        std::fs::rename(folder.join(".stand.new"), folder.join("stand.yaml")).unwrap();
    }

    fn signal(&self, name: &str, which: impl Fn(Fault) -> bool) {
        let processes: [(Fault, &[&str]); 5] = [
            (StoppedPeer, &["south_gw_a"]),
            (StoppedPeers, &["south_gw_a", "south_gw_b"]),
            (StoppedGateway, &["north_gw_b"]),
            (StoppedDns, &["north_dns_b"]),
            (StoppedAgent, &["north_agent"]),
        ];
        for (_, names) in processes.into_iter().filter(|(fault, _)| which(*fault)) {
            names.iter().for_each(|process| signal(name, &self.demo.pids(process)));
        }
    }

    /// Whether requests get through, at every address that every DNS server names.
    async fn truth(&self, question: Question) -> Outcome<()> {
        let (clusters, host, port): (_, _, u16) = match question {
            Question::Outside => (0..3, PUBLIC, HTTP),
            Question::Inside => (0..1, INTERNAL, SERVICE),
        };
        let mut addresses = BTreeSet::new();
        let servers = clusters.flat_map(|cluster| [53, 54].map(|host| self.demo.address(cluster, 0, host)));
        for server in servers {
            let reply = ask(SocketAddr::new(server, DNS), Over::Udp, host, A);
            let reply = timeout(PATIENCE, reply).await.map_err(|_| format!("{server} does not answer"))??;
            holds(!reply.addresses.is_empty(), || format!("{server}: {reply:?}"))?;
            addresses.extend(reply.addresses);
        }
        let calls = addresses.into_iter().map(|address| self.call(SocketAddr::new(address, port), host));
        // All of them, also where one has failed: what requests meet is what gateways learn by.
        join_all(calls).await.into_iter().collect()
    }

    /// Requests that nobody may repeat.
    async fn call(&self, at: SocketAddr, host: &str) -> Outcome<()> {
        let mut all = Ok(());
        for _ in 0..REQUESTS {
            let calling = async {
                let mut connection = plain(self.demo.workload(0), at, host, Protocol::Http1).await?;
                let answer = connection.send(Method::POST, "/", HeaderMap::new(), full("it")).await?;
                holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
            };
            let answered = timeout(PATIENCE, calling).await.map_err(|_| format!("{at} does not answer"))?;
            all = all.and(answered.map_err(|error| format!("{at}: {error}")));
        }
        all
    }

    async fn explain(&self, question: Question) -> Explained {
        let asked = match question {
            Question::Outside => args(&["POST", &format!("http://{PUBLIC}:{HTTP}/")]),
            Question::Inside => {
                let from = format!("north/{}", self.demo.workload(0));
                args(&["--from", &from, "POST", &format!("http://{INTERNAL}:{SERVICE}/")])
            }
        };
        explain(self.demo.context(), &asked.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Both say the same, again and again, and explain is healthy at no time at which requests fail. True if they did
    /// fail.
    async fn agrees(&self, faults: &[Fault], question: Question) -> bool {
        let (mut rounds, mut lies) = (0, 0);
        let breaks = faults.iter().any(|fault| fault.breaks(question));
        eventually(&format!("{faults:?}, {question:?}: explain and requests agree"), async || {
            let before = self.truth(question).await;
            let explained = self.explain(question).await;
            let after = self.truth(question).await;
            rounds += 1;
            let (fails, works) = (before.is_err() && after.is_err(), before.is_ok() && after.is_ok());
            let lied = fails && explained.is_healthy();
            // What comes and goes may be out just when explain is asked; what stays, it knows from the first round on.
            lies = if lied { lies + 1 } else { 0 };
            let caught = lies == ROUNDS || (lied && breaks && rounds > 1);
            assert!(!caught, "{faults:?}, {question:?}: {before:?}, {after:?}, but {:#}", explained.json);
            let agree = if breaks {
                fails && !explained.is_healthy()
            } else {
                (works && (explained.is_healthy() || is_unasked(&explained))) || (fails && !explained.is_healthy())
            };
            holds(rounds >= ROUNDS && agree, || format!("{before:?}, {after:?}, but {:#}", explained.json))?;
            Ok::<bool, String>(fails)
        })
        .await
    }

    async fn try_out(&self, faults: &[Fault]) -> usize {
        self.put(faults).await;
        let mut failed = 0;
        for question in [Question::Outside, Question::Inside] {
            failed += usize::from(self.agrees(faults, question).await);
        }
        failed
    }

    /// The faults one after the other; returns how often requests failed by them.
    async fn try_all(&self, draws: impl Iterator<Item = Vec<Fault>>) -> usize {
        let mut failed = 0;
        for faults in draws {
            failed += self.try_out(&faults).await;
        }
        self.put(&[]).await;
        for question in [Question::Outside, Question::Inside] {
            eventually("all is well again", async || {
                self.truth(question).await?;
                let explained = self.explain(question).await;
                holds(explained.is_healthy(), || format!("{:#}", explained.json))
            })
            .await;
        }
        failed
    }
}

/// Where something stands that speaks first.
fn mail(demo: &Demo) -> SocketAddr {
    SocketAddr::new(demo.address(0, 1, 43), 9080)
}

fn moods(faults: &[Fault]) -> [Mood; 3] {
    use Mood::{Broken, Hang, Refuse, Reset, Sick, Well};
    let of = |fault: &Fault| match fault {
        ResetA => [Reset, Well, Well],
        ResetNorth => [Reset, Reset, Well],
        ResetC => [Well, Well, Reset],
        BrokenC => [Well, Well, Broken],
        SickA => [Sick(StatusCode::SERVICE_UNAVAILABLE), Well, Well],
        RefuseA => [Refuse, Well, Well],
        RefuseAll => [Refuse; 3],
        MuteNorth => [Hang, Hang, Well],
        _ => [Well; 3],
    };
    let all: Vec<_> = faults.iter().map(of).collect();
    [0, 1, 2].map(|number| all.iter().map(|moods| moods[number]).find(|mood| *mood != Well).unwrap_or(Well))
}

fn manifests(demo: &Demo, faults: &[Fault]) -> String {
    let has = |fault| faults.contains(&fault);
    let gateway = |(name, address): (&str, IpAddr), east_west: SocketAddr| {
        format!("{{name: {name}, eastWest: '{east_west}', public: {address}, mesh: {address}}}")
    };
    let east_west = |cluster, number| SocketAddr::new(demo.gateway(cluster, number), EAST_WEST);
    let north = if has(StaleGateway) { demo.address(0, 0, 77) } else { demo.gateway(0, 1) };
    let north = [gateway(("gw-a", demo.gateway(0, 0)), east_west(0, 0)), gateway(("gw-b", north), east_west(0, 1))];
    let peer = match () {
        () if has(MisplacedPeer) => east_west(1, 1),
        () if has(CutPeer) => SocketAddr::new(demo.gateway(1, 0), 1),
        () => east_west(1, 0),
    };
    let south = [gateway(("gw-a", demo.gateway(1, 0)), peer), gateway(("gw-b", demo.gateway(1, 1)), east_west(1, 1))];
    let cluster = |name: &str, workloads: &str, gateways: [String; 2]| {
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\n\
             spec: {{workloads: [{workloads}], gateways: [{}]}}\n---\n",
            gateways.join(", ")
        )
    };
    let row = format!("{{cidr: {}/24, namespace: shop}}", demo.address(0, 2, 0));
    let scheme = if has(SouthOnly) { ", scheme: {activePassive: [south]}" } else { "" };
    let mtls = if has(Strict) { "strict" } else { "permissive" };
    [
        cluster("north", if has(Unmapped) { "" } else { &row }, north),
        cluster("south", "", south),
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: shop}}\n\
             spec: {{domain: shop.internal, mtls: {mtls}, publicHosts: ['*.example.com'], \
             members: [{{cluster: {{prefix: ''}}, namespace: {{exact: shop}}}}]}}\n---\n"
        ),
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {{name: stand}}\n\
             spec: {{globalNamespace: shop, service: stand, port: {SERVICE}, hosts: [{{name: {PUBLIC}{scheme}}}], \
             tls: {{mode: http}}}}\n"
        ),
    ]
    .concat()
}

/// Whether all that is wrong is that somebody could not be asked.
fn is_unasked(explained: &Explained) -> bool {
    let unasked = |what: &str| what.contains("could not be asked") || what.contains("does not answer");
    explained.verdict() == "unknown"
        && explained
            .steps()
            .filter(|step| step["verdict"] == "unknown")
            .all(|step| step["what"].as_str().is_some_and(unasked))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_by_itself_is_said_to_be_none() {
    let lab = Lab::open().await;
    let broke = lab.try_all(FAULTS.into_iter().map(|fault| vec![fault])).await;
    assert!(broke >= FAULTS.len() / 2, "few of the faults are any: {broke}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_faults_hide_one_another() {
    let lab = Lab::open().await;
    let mut dice = Dice(SEED);
    let mut drawn = BTreeSet::new();
    while drawn.len() < PAIRS {
        let (one, other) = (*dice.pick(&FAULTS), *dice.pick(&FAULTS));
        if one < other {
            drawn.insert((one, other));
        }
    }
    lab.try_all(drawn.into_iter().map(|(one, other)| vec![one, other])).await;
}
