//! Who is where in the demo.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The port of public HTTP.
pub const HTTP: u16 = 18080;
/// The port of public HTTPS.
pub const HTTPS: u16 = 18443;
/// The port on which the services are called.
pub const SERVICE: u16 = 8080;
/// The port on which gRPC is called.
pub const GRPC: u16 = 8081;
/// The port on which bytes are echoed.
pub const TCP: u16 = 8082;
/// The port on which their instances listen.
pub const INSTANCE: u16 = 9000;
/// The port on which they echo bytes.
pub const INSTANCE_TCP: u16 = 9001;
/// The port for tunnels.
pub const EAST_WEST: u16 = 7445;
/// The port of agents.
pub const AGENT: u16 = 7444;
/// The port of the controller.
pub const API: u16 = 7443;
/// The port for metrics and health.
pub const ADMIN: u16 = 7470;
/// The port for DNS.
pub const DNS: u16 = 5353;

/// The host under which the demo's shop is published.
pub const PUBLIC_HOST: &str = "shop.example.com";
/// The host under which the service is published that speaks every protocol.
pub const ECHO_HOST: &str = "echo.example.com";
/// The name of the service that shows the demo's cross-cluster calls.
pub const MESH_HOST: &str = "cart.shop.internal";

/// The demo's state directory and addresses.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The state directory.
    pub state: PathBuf,
    clusters: Vec<Cluster>,
    net: u8,
}

/// One of the demo's clusters.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    net: u8,
}

impl Layout {
    /// The clusters get the networks 127.`net`.0.0/16 and the two after it.
    pub fn new(state: PathBuf, net: u8) -> Self {
        let clusters = ["north", "south", "west"].into_iter().zip(net..).map(|(name, net)| Cluster {
            name: name.to_owned(),
            dir: state.join(name),
            net,
        });
        Layout { clusters: clusters.collect(), state, net }
    }

    /// An empty state directory.
    pub fn prepare(&self) -> anyhow::Result<()> {
        let marker = self.state.join(".tombolo-demo");
        if self.state.exists() && !marker.exists() && std::fs::read_dir(&self.state)?.next().is_some() {
            anyhow::bail!("{} holds something that isn't a demo's: give another --state", self.state.display());
        }
        self.refuse_second()?;
        _ = std::fs::remove_dir_all(&self.state);
        let logs = self.logs();
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        std::fs::write(&marker, "what is here belongs to `tombolo demo`, which removes it\n")?;
        for cluster in &self.clusters {
            std::fs::create_dir_all(cluster.services())?;
        }
        Ok(())
    }

    /// A second demo would take the first one's state away under its feet.
    fn refuse_second(&self) -> anyhow::Result<()> {
        let env = std::fs::read_to_string(self.env_file()).unwrap_or_default();
        let pid = env.lines().find_map(|line| line.strip_prefix("DEMO_PID="));
        if let Some(pid) = pid.filter(|pid| Path::new("/proc").join(pid).exists()) {
            anyhow::bail!("a demo runs here already (process {pid}): stop it, or give another --state and --net");
        }
        Ok(())
    }

    /// The clusters.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// Where the controller listens.
    pub fn controller(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, self.net, 0, 1)), API)
    }

    /// The admin context.
    pub fn context(&self) -> PathBuf {
        self.state.join("context.json")
    }

    /// The certificate of the CA that signs the public hosts.
    pub fn ca(&self) -> PathBuf {
        self.state.join("ca.pem")
    }

    /// The processes' logs.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// What load tests read.
    pub fn env_file(&self) -> PathBuf {
        self.state.join("env")
    }
}

impl Cluster {
    fn at(&self, third: u8, fourth: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.net, third, fourth))
    }

    /// Where the agent listens; on the same address the DNS server.
    pub fn agent(&self) -> IpAddr {
        self.at(0, 4)
    }

    /// The gateways: names and addresses.
    pub fn gateways(&self) -> [(&'static str, IpAddr); 2] {
        [("gw-a", self.at(0, 11)), ("gw-b", self.at(0, 12))]
    }

    /// The DNS servers: names and addresses.
    pub fn dns(&self) -> [(&'static str, IpAddr); 2] {
        [("dns-a", self.at(0, 53)), ("dns-b", self.at(0, 54))]
    }

    /// The instances: names, versions and addresses.
    pub fn instances(&self) -> [(&'static str, &'static str, IpAddr); 3] {
        [("i1", "v1", self.at(1, 1)), ("i2", "v1", self.at(1, 2)), ("i3", "v2", self.at(1, 3))]
    }

    /// Where its workloads call from, as a range.
    pub fn workloads(&self) -> String {
        format!("127.{}.2.0/24", self.net)
    }

    /// One of its workloads.
    pub fn workload(&self) -> IpAddr {
        self.at(2, 1)
    }

    /// The manifests of its services.
    pub fn services(&self) -> PathBuf {
        self.dir.join("services")
    }
}
