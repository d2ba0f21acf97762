//! A gateway takes over from the one that runs, while clients come and go.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::demo::{Demo, HOST, HTTPS, SERVICE};
use crate::support::http::{Client, Connection, Outcome, Protocol, empty, never_left, plain};
use crate::support::process::{Process, arguments, runs, signal, with_flags};
use crate::support::{eventually, holds, upstream};

/// From one request of a visitor to its next.
const PACE: Duration = Duration::from_millis(30);

/// How a visitor comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    /// On one connection of this kind for as long as it lasts.
    Stays(Protocol),
    /// On a new connection each time.
    ComesAnew(Protocol),
}

/// One who asks again and again for the public host.
struct Visitor {
    client: Client,
    at: SocketAddr,
    style: Style,
    connection: Option<Connection>,
}

impl Visitor {
    async fn visit(&mut self) -> Outcome<()> {
        let (Style::Stays(protocol) | Style::ComesAnew(protocol)) = self.style;
        // What is asked to end brings no further request, as with every client library.
        let kept = match self.connection.take() {
            Some(mut connection) => connection.is_open().await.then_some(connection),
            None => None,
        };
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.client.https(self.at, HOST, protocol).await?,
        };
        let answer = match connection.get("/").await {
            Err(error) if never_left(&error) => {
                connection = self.client.https(self.at, HOST, protocol).await?;
                connection.get("/").await?
            }
            answer => answer?,
        };
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))?;
        if matches!(self.style, Style::Stays(_)) {
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// Visitors of every style, until the end.
struct Visitors {
    visits: Arc<Mutex<(usize, Vec<String>)>>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Visitors {
    fn come(demo: &Demo, at: SocketAddr) -> Visitors {
        let protocols = [Protocol::Http1, Protocol::Http2];
        let styles = protocols.into_iter().flat_map(|protocol| [Style::Stays(protocol), Style::ComesAnew(protocol)]);
        let visitors = Visitors { visits: Arc::default(), tasks: JoinSet::new(), stop: CancellationToken::new() };
        styles.flat_map(|style| [style; 2]).fold(visitors, |mut visitors, style| {
            let mut visitor = Visitor { client: demo.client(), at, style, connection: None };
            let (visits, stop) = (visitors.visits.clone(), visitors.stop.clone());
            visitors.tasks.spawn(async move {
                while stop.run_until_cancelled(tokio::time::sleep(PACE)).await.is_some() {
                    let visit = visitor.visit().await;
                    let mut visits = visits.lock().unwrap();
                    visits.0 += 1;
                    visits.1.extend(visit.err().map(|error| format!("{style:?}: {error}")));
                }
            });
            visitors
        })
    }

    /// Waits for some hundred visits.
    async fn some(&self) {
        let before = self.visits.lock().unwrap().0;
        let enough = || {
            let now = self.visits.lock().unwrap().0;
            std::future::ready(holds(now >= before + 150, || format!("{} of 150", now - before)))
        };
        eventually("visitors are served", enough).await;
    }

    async fn go_unharmed(mut self) {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        let (visits, failures) = &*self.visits.lock().unwrap();
        assert!(failures.is_empty(), "{} of {visits} failed: {failures:#?}", failures.len());
    }
}

/// The first gateway of a demo, in the life that it has at the moment.
struct Line {
    arguments: Vec<String>,
    logs: PathBuf,
    pid: u32,
    lives: Vec<Process>,
}

impl Line {
    fn of(demo: &Demo) -> Line {
        let pid = demo.pids("north_gw_a")[0];
        Line { arguments: arguments(pid), logs: demo.state.join("logs"), pid, lives: Vec::new() }
    }

    /// Starts a successor, with more flags.
    fn start(&mut self, flags: &[&str]) -> Process {
        let number = self.logs.read_dir().unwrap().count();
        let arguments = with_flags(&self.arguments, &[flags, &["--takeover"]].concat());
        Process::start(arguments, &self.logs.join(format!("successor-{number}.log")))
    }

    /// The successor has taken over, and the gateway before it has ended.
    async fn is_continued_by(&mut self, successor: Process) {
        let (old, new) = (self.pid, &successor);
        let over = || {
            let log = new.log();
            std::future::ready(holds(log.contains("took over") && !runs(old), || format!("{}: {log}", runs(old))))
        };
        eventually("it is taken over", over).await;
        self.pid = successor.pid();
        self.lives.push(successor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_takeovers_under_load_cost_no_request_and_cut_no_answer() {
    let demo = Demo::own().await;
    let slow = SocketAddr::new(demo.address(0, 1, 30), 9000);
    upstream::serve(slow).await;
    upstream::register(&demo.state.join("north/services"), 0, "slow", slow);
    let service = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let connect = || plain(demo.workload(0), service, "slow.shop.internal", Protocol::Http1);
    let found = || async { holds(connect().await?.get("/").await?.status == StatusCode::OK, || "not yet".to_owned()) };
    eventually("the slow service is found", found).await;

    let mut line = Line::of(&demo);
    let visitors = Visitors::come(&demo, SocketAddr::new(demo.gateway(0, 0), HTTPS));
    visitors.some().await;
    for _ in 0..5 {
        let mut connection = connect().await.unwrap();
        let answer = connection.open(Method::GET, "/drip", HeaderMap::new(), empty()).await.unwrap();
        let successor = line.start(&[]);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"one\ntwo\nthree\n", "what was under way is not cut");
        line.is_continued_by(successor).await;
        visitors.some().await;
    }
    assert_eq!(connect().await.unwrap().get("/").await.unwrap().status, StatusCode::OK, "services' ports go over too");
    visitors.go_unharmed().await;
    let status = || async {
        let status = demo.cli(|cli| cli.run(&["status", "-o", "json"])).success();
        let told: serde_json::Value = serde_json::from_str(&status).unwrap();
        let members = told.to_string();
        holds(members.contains("gw-a") && !members.contains("\"connected\":false"), || members.clone())
    };
    eventually("the agent knows the successor, and no one else of its name", status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_fails_leaves_the_running_gateway_as_it_was() {
    let demo = Demo::own().await;
    let mut line = Line::of(&demo);
    let visitors = Visitors::come(&demo, SocketAddr::new(demo.gateway(0, 0), HTTPS));
    let mut other = line.start(&["--name=gw-x"]);
    assert!(!other.wait().success());
    assert!(other.log().contains("it is gw-a, and the successor gw-x"), "{}", other.log());
    let mut broken = line.start(&["--access-log=/dev/null/nowhere"]);
    assert!(!broken.wait().success());
    visitors.some().await;
    assert!(runs(line.pid));

    // It follows its agent again, and can be taken over by a better one.
    let late = SocketAddr::new(demo.address(0, 1, 31), 9000);
    upstream::serve(late).await;
    upstream::register(&demo.state.join("north/services"), 0, "late", late);
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let found = || async {
        let mut connection = plain(demo.workload(0), at, "late.shop.internal", Protocol::Http1).await?;
        holds(connection.get("/").await?.status == StatusCode::OK, || "not yet".to_owned())
    };
    eventually("a new service is found", found).await;
    let successor = line.start(&[]);
    line.is_continued_by(successor).await;
    visitors.go_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_asked_to_stop_while_it_is_taken_over_leaves_no_gap() {
    let demo = Demo::own().await;
    let mut line = Line::of(&demo);
    let visitors = Visitors::come(&demo, SocketAddr::new(demo.gateway(0, 0), HTTPS));
    visitors.some().await;
    let successor = line.start(&[]);
    let asked = || {
        let log = successor.log();
        std::future::ready(holds(log.contains("taking over from the running gateway"), || log))
    };
    eventually("it is being taken over", asked).await;
    signal("TERM", &[line.pid]);
    line.is_continued_by(successor).await;
    visitors.some().await;
    visitors.go_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_is_asked_to_stop_before_it_is_ready_leaves_the_running_gateway_as_it_was() {
    let demo = Demo::own().await;
    let mut line = Line::of(&demo);
    let visitors = Visitors::come(&demo, SocketAddr::new(demo.gateway(0, 0), HTTPS));
    visitors.some().await;
    // With nothing on disk and an agent that is silent, it never knows what the running gateway knows.
    let (agent, fresh) = (demo.pids("north_agent"), demo.state.join("fresh"));
    std::fs::create_dir(&fresh).unwrap();
    std::os::unix::fs::symlink(demo.state.join("north/gw-a/takeover.sock"), fresh.join("takeover.sock")).unwrap();
    signal("STOP", &agent);
    let mut stopped = line.start(&[&format!("--state={}", fresh.display())]);
    let begun = || {
        let log = stopped.log();
        std::future::ready(holds(log.contains("the gateway is up"), || log))
    };
    eventually("it has begun to take over", begun).await;
    signal("TERM", &[stopped.pid()]);
    assert!(!stopped.wait().success());
    let log = stopped.log();
    assert!(log.contains("asked to stop before it took over"), "{log}");
    assert!(!log.contains("draining"), "{log}");
    signal("CONT", &agent);
    visitors.some().await;
    assert!(runs(line.pid));
    let successor = line.start(&[]);
    line.is_continued_by(successor).await;
    visitors.go_unharmed().await;
}
