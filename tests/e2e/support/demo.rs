//! Demos of three clusters: one that many tests share, and own ones for what kills and rewires.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::cli::Cli;
use super::http::{Client, Outcome, Protocol};
use super::process::Process;
use super::{eventually, holds};

/// The clusters, in the order of their networks.
pub const CLUSTERS: [&str; 3] = ["north", "south", "west"];
/// The public host.
pub const HOST: &str = "shop.example.com";
pub const HTTP: u16 = 18080;
pub const HTTPS: u16 = 18443;
pub const SERVICE: u16 = 8080;
pub const EAST_WEST: u16 = 7445;
pub const DNS: u16 = 5353;
pub const ADMIN: u16 = 7470;
/// gRPC to the demo's echo.
pub const GRPC: u16 = 8081;
/// Bytes to the demo's echo.
pub const TCP: u16 = 8082;

/// So many own demos may run at once.
static SLOTS: Semaphore = Semaphore::const_new(3);
static SHARED: OnceCell<Demo> = OnceCell::const_new();

/// A running demo, stopped when dropped.
pub struct Demo {
    pub state: PathBuf,
    net: u8,
    process: Process,
    _slot: Option<SemaphorePermit<'static>>,
}

impl Demo {
    /// The one that nobody may damage; what tests add to it has names of their own.
    pub async fn shared() -> &'static Demo {
        SHARED.get_or_init(|| Demo::start(None, &["--quiet", "--no-restart"])).await
    }

    /// One that may be damaged; the dead stay dead.
    pub async fn own() -> Demo {
        Demo::with(&["--quiet", "--no-restart"]).await
    }

    /// One with flags of its own.
    pub async fn with(flags: &[&str]) -> Demo {
        Demo::start(Some(SLOTS.acquire().await.unwrap()), flags).await
    }

    async fn start(slot: Option<SemaphorePermit<'static>>, flags: &[&str]) -> Demo {
        let net = free_network();
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let state = base.join(format!("demo-{net}"));
        // What a test run that was killed left behind.
        _ = std::fs::remove_dir_all(&state);
        let (net_flag, state_flag) = (format!("--net={net}"), format!("--state={}", state.display()));
        let args = [&["demo", &net_flag, &state_flag], flags].concat();
        let mut process = Process::start(args, &base.join(format!("demo-{net}.log")));
        let env = state.join("env");
        let begun = || {
            let (ended, log) = (process.ended(), process.log());
            assert!(ended.is_none(), "the demo ended: {log}");
            std::future::ready(holds(env.exists() && log.contains("Three clusters are up"), || log))
        };
        eventually("the demo is up", begun).await;
        Demo { state, net, process, _slot: slot }
    }

    /// The demo's own process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it said.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The command line of its admin.
    pub fn context(&self) -> PathBuf {
        self.state.join("context.json")
    }

    /// Runs commands as its admin.
    pub fn cli<T>(&self, run: impl FnOnce(Cli<'_>) -> T) -> T {
        let context = self.context();
        run(Cli { context: &context })
    }

    /// A token with which a cluster may join.
    pub fn token(&self, cluster: &str) -> String {
        let token = self.cli(|cli| cli.run(&["token", "create", "--cluster", cluster])).success();
        token.trim().to_owned()
    }

    /// A client that trusts its CA, and nobody else.
    pub fn client(&self) -> Client {
        Client::trusting(&self.ca())
    }

    /// Its CA, in PEM.
    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.state.join("ca.pem")).unwrap()
    }

    /// Asks for the public host at a gateway.
    pub async fn get_public(&self, gateway: IpAddr) -> Outcome<()> {
        let at = SocketAddr::new(gateway, HTTPS);
        let answer = self.client().https(at, HOST, Protocol::Http2).await?.get("/").await?;
        holds(answer.status == 200, || format!("{answer:?}"))
    }

    /// Waits until a gateway, named as in `west/gw-a`, has all gateways on disk: what changed a moment ago is written a
    /// moment later, and who is killed in between knows what it knew before.
    pub async fn kept(&self, gateway: &str) {
        let world = self.state.join(gateway).join("world.json");
        let kept = async || {
            let world = std::fs::read_to_string(&world).unwrap_or_default();
            let missing = self.gateways().into_iter().filter(|at| !world.contains(&format!("\"{at}")));
            let missing: Vec<_> = missing.collect();
            holds(missing.is_empty(), || format!("without {missing:?}: {world}"))
        };
        eventually("the last good world, with all gateways, is on disk", kept).await;
    }

    /// The controller's API.
    pub fn controller(&self) -> SocketAddr {
        SocketAddr::new(self.address(0, 0, 1), 7443)
    }

    /// An address of a cluster, by its number.
    pub fn address(&self, cluster: u8, third: u8, fourth: u8) -> IpAddr {
        Ipv4Addr::new(127, self.net + cluster, third, fourth).into()
    }

    /// A workload of a cluster, by its number.
    pub fn workload(&self, cluster: u8) -> IpAddr {
        self.address(cluster, 2, 1)
    }

    /// A gateway of a cluster, by their numbers.
    pub fn gateway(&self, cluster: u8, gateway: u8) -> IpAddr {
        self.address(cluster, 0, 11 + gateway)
    }

    /// All gateways.
    pub fn gateways(&self) -> Vec<IpAddr> {
        (0..6).map(|i| self.gateway(i / 2, i % 2)).collect()
    }

    /// A DNS server of a cluster.
    pub fn dns(&self, cluster: u8) -> SocketAddr {
        SocketAddr::new(self.address(cluster, 0, 53), DNS)
    }

    /// Its processes by name (`controller`, `west_gw_a`, and `west` for its gateways and instances), as they are now.
    pub fn pids(&self, name: &str) -> Vec<u32> {
        let env = std::fs::read_to_string(self.state.join("env")).unwrap();
        let lines: BTreeMap<&str, &str> = env.lines().filter_map(|line| line.split_once('=')).collect();
        lines[format!("PIDS_{name}").as_str()].split(',').map(|pid| pid.parse().unwrap()).collect()
    }

    /// All its processes, its own included.
    pub fn all_pids(&self) -> Vec<u32> {
        let env = std::fs::read_to_string(self.state.join("env")).unwrap();
        let pids = env.lines().filter(|line| line.contains("PID")).filter_map(|line| Some(line.split_once('=')?.1));
        pids.flat_map(|pids| pids.split(',').map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }

    /// The log of one of its processes, named as in `west-gw-a`.
    pub fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.state.join(format!("logs/{name}.log"))).unwrap()
    }
}

impl Drop for Demo {
    /// What a failed test leaves behind tells why it failed.
    fn drop(&mut self) {
        self.process.stop();
        if !std::thread::panicking() {
            _ = std::fs::remove_dir_all(&self.state);
            self.process.forget();
        }
    }
}

/// The first of four networks on which nothing listens: another test run may still be ending, or run beside this one,
/// so each begins elsewhere.
fn free_network() -> u8 {
    const FIRST: u8 = 60;
    const CHOICES: u8 = 30;
    static TURN: Mutex<Option<u8>> = Mutex::new(None);
    let mut turn = TURN.lock().unwrap();
    loop {
        let choice = turn.map_or((std::process::id() % u32::from(CHOICES)) as u8, |last| (last + 1) % CHOICES);
        *turn = Some(choice);
        let net = FIRST + 4 * choice;
        if is_free(net) {
            return net;
        }
    }
}

/// The fourth is for a cluster that joins.
fn is_free(net: u8) -> bool {
    let gateway = [HTTP, HTTPS, SERVICE, GRPC, TCP, EAST_WEST, ADMIN];
    let gateways = [11, 12].into_iter().flat_map(|host| gateway.map(|port| (0, host, port)));
    let dns = [53, 54].into_iter().flat_map(|host| [(0, host, DNS), (0, host, ADMIN)]);
    let instances = [1, 2, 3].map(|host| (1, host, 9000));
    let others = [(0, 1, 7443), (0, 1, ADMIN), (0, 4, 7444), (0, 4, ADMIN)];
    let all: Vec<(u8, u8, u16)> = gateways.chain(dns).chain(instances).chain(others).collect();
    let free = |net: u8| {
        all.iter().all(|(third, host, port)| TcpListener::bind((Ipv4Addr::new(127, net, *third, *host), *port)).is_ok())
    };
    (net..net + 4).all(free)
}
