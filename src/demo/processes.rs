//! The demo's processes: started, watched, started again, stopped.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::env;
use super::layout::{ADMIN, AGENT, Cluster, DNS, EAST_WEST, HTTP, HTTPS, INSTANCE, INSTANCE_TCP, Layout};
use super::show;
use crate::lifeline::LIFELINE;

/// A killed process is started again after so long: long enough to see what its death does.
const REVIVAL: Duration = Duration::from_secs(8);

/// Of each gateway: all of them share one machine.
const WORKERS: usize = 2;

/// What a process is to the rest, as in the environment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Controller,
    Agent,
    Gateway,
    Dns,
    Instance,
}

/// One process.
pub struct Process {
    /// What it is.
    pub part: Part,
    /// Its cluster; none for the controller.
    pub cluster: Option<String>,
    args: Vec<String>,
    secret: Option<String>,
    ready_at: Option<SocketAddr>,
    child: Child,
}

impl Process {
    /// Its process number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// All processes, by name: `controller`, `west/gw-a`.
pub struct Processes {
    layout: Layout,
    restart: bool,
    all: BTreeMap<String, Process>,
}

impl Processes {
    /// None yet.
    pub fn new(layout: Layout, restart: bool) -> Self {
        Processes { layout, restart, all: BTreeMap::new() }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Process)> {
        self.all.iter()
    }

    /// Where their logs are.
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// Starts the controller and waits until it is ready.
    pub async fn start_controller(&mut self) -> anyhow::Result<()> {
        let at = self.layout.controller();
        let admin = SocketAddr::new(at.ip(), ADMIN);
        let args = vec![
            "controller".to_owned(),
            format!("--state={}", self.layout.state.join("controller").display()),
            format!("--listen={at}"),
            "--mesh=demo.internal".to_owned(),
            format!("--context={}", self.layout.context().display()),
            format!("--admin={admin}"),
        ];
        self.start("controller", Part::Controller, None, args, None, Some(admin))?;
        self.ready(|process| process.part == Part::Controller).await
    }

    /// Starts every cluster's instances.
    pub fn start_instances(&mut self) -> anyhow::Result<()> {
        for cluster in self.layout.clone().clusters() {
            for (name, version, ip) in cluster.instances() {
                let args = vec![
                    "demo-service".to_owned(),
                    format!("--listen={ip}:{INSTANCE}"),
                    format!("--tcp-listen={ip}:{INSTANCE_TCP}"),
                    format!("--cluster={}", cluster.name),
                    format!("--version={version}"),
                    format!("--name={name}"),
                ];
                self.start(&format!("{}/{name}", cluster.name), Part::Instance, Some(cluster), args, None, None)?;
            }
        }
        Ok(())
    }

    /// Starts a cluster's agent, which joins with the token.
    pub fn start_agent(&mut self, cluster: &Cluster, token: &str) -> anyhow::Result<()> {
        let admin = SocketAddr::new(cluster.agent(), ADMIN);
        let args = vec![
            "agent".to_owned(),
            format!("--state={}", cluster.dir.join("agent").display()),
            format!("--listen={}:{AGENT}", cluster.agent()),
            format!("--services={}", cluster.services().display()),
            format!("--label=region={}", cluster.name),
            format!("--admin={admin}"),
        ];
        let name = format!("{}/agent", cluster.name);
        self.start(&name, Part::Agent, Some(cluster), args, Some(token.to_owned()), Some(admin))
    }

    /// Waits until every agent has a world.
    pub async fn agents_ready(&mut self) -> anyhow::Result<()> {
        self.ready(|process| process.part == Part::Agent).await
    }

    /// Starts every cluster's gateways and DNS servers.
    pub fn start_members(&mut self) -> anyhow::Result<()> {
        for cluster in self.layout.clone().clusters() {
            for (name, ip) in cluster.gateways() {
                self.start_gateway(cluster, name, ip)?;
            }
            for (name, ip) in cluster.dns() {
                self.start_dns(cluster, name, ip)?;
            }
        }
        Ok(())
    }

    fn start_gateway(&mut self, cluster: &Cluster, name: &str, ip: IpAddr) -> anyhow::Result<()> {
        let log = self.layout.logs().join(format!("{}-{name}.access.log", cluster.name));
        let mut args = member("gateway", cluster, name);
        args.extend([
            format!("--address={ip}"),
            format!("--http-port={HTTP}"),
            format!("--https-port={HTTPS}"),
            format!("--east-west-port={EAST_WEST}"),
            format!("--admin-port={ADMIN}"),
            format!("--access-log={}", log.display()),
            "--drain-wait=0".to_owned(),
            format!("--workers={WORKERS}"),
            "--drain-timeout=2".to_owned(),
        ]);
        let ready = SocketAddr::new(ip, ADMIN);
        self.start(&format!("{}/{name}", cluster.name), Part::Gateway, Some(cluster), args, None, Some(ready))
    }

    fn start_dns(&mut self, cluster: &Cluster, name: &str, ip: IpAddr) -> anyhow::Result<()> {
        let ready = SocketAddr::new(ip, ADMIN);
        let mut args = member("dns", cluster, name);
        args.extend([
            format!("--listen={ip}:{DNS}"),
            format!("--admin={ready}"),
            format!("--gateway-admin-port={ADMIN}"),
        ]);
        self.start(&format!("{}/{name}", cluster.name), Part::Dns, Some(cluster), args, None, Some(ready))
    }

    /// Waits until every gateway and DNS server has a world.
    pub async fn members_ready(&mut self) -> anyhow::Result<()> {
        self.ready(|process| matches!(process.part, Part::Gateway | Part::Dns)).await
    }

    fn start(
        &mut self,
        name: &str,
        part: Part,
        cluster: Option<&Cluster>,
        args: Vec<String>,
        secret: Option<String>,
        ready_at: Option<SocketAddr>,
    ) -> anyhow::Result<()> {
        let child = spawn(&self.layout, name, &args, secret.as_deref())?;
        let cluster = cluster.map(|cluster| cluster.name.clone());
        self.all.insert(name.to_owned(), Process { part, cluster, args, secret, ready_at, child });
        Ok(())
    }

    /// Waits until those processes are ready; one that ends meanwhile is an error, with the end of its log.
    async fn ready(&mut self, which: impl Fn(&Process) -> bool) -> anyhow::Result<()> {
        let logs = self.layout.logs();
        for (name, process) in self.all.iter_mut().filter(|(_, process)| which(process)) {
            let Some(at) = process.ready_at else { continue };
            while !is_ready(at).await {
                if let Some(status) = process.child.try_wait()? {
                    let log = std::fs::read_to_string(log_file(&logs, name)).unwrap_or_default();
                    let last = log.lines().last().unwrap_or_default().to_owned();
                    anyhow::bail!("{name} ended ({status}): {last}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Tells of every process that ends, and starts it again a little later, until told to stop.
    pub async fn watch(&mut self, layout: &Layout, stop: CancellationToken) {
        let mut dead: BTreeMap<String, tokio::time::Instant> = BTreeMap::new();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let mut changed = false;
            for (name, process) in &mut self.all {
                if !dead.contains_key(name)
                    && let Ok(Some(status)) = process.child.try_wait()
                {
                    show::event(&format!("{name} ended ({status})"));
                    dead.insert(name.clone(), tokio::time::Instant::now());
                    changed = true;
                }
            }
            let due = |since: &tokio::time::Instant| self.restart && since.elapsed() >= REVIVAL;
            for (name, _) in dead.extract_if(.., |_, since| due(since)) {
                changed |= revive(layout, &name, self.all.get_mut(&name));
            }
            if changed && let Err(error) = env::write(layout, self) {
                tracing::warn!(%error, "the environment file could not be written");
            }
        }
    }

    /// Stops everything: first politely, and what doesn't go then, by force.
    pub async fn stop(self) -> anyhow::Result<()> {
        let mut children: Vec<Child> = self.all.into_values().map(|process| process.child).collect();
        // The end of its standard input tells a process to stop.
        children.iter_mut().for_each(|child| drop(child.stdin.take()));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        for child in &mut children {
            if tokio::time::timeout_at(deadline, child.wait()).await.is_err() {
                child.kill().await?;
            }
        }
        Ok(())
    }
}

fn revive(layout: &Layout, name: &str, process: Option<&mut Process>) -> bool {
    let Some(process) = process else { return false };
    match spawn(layout, name, &process.args, process.secret.as_deref()) {
        Ok(child) => {
            process.child = child;
            show::event(&format!("{name} started again"));
            true
        }
        Err(error) => {
            tracing::warn!("{name} could not be started again: {error:#}");
            false
        }
    }
}

fn member(role: &str, cluster: &Cluster, name: &str) -> Vec<String> {
    vec![
        role.to_owned(),
        format!("--state={}", cluster.dir.join(name).display()),
        format!("--agent={}", cluster.dir.join("agent/member.token").display()),
        format!("--name={name}"),
    ]
}

fn log_file(logs: &std::path::Path, name: &str) -> PathBuf {
    logs.join(format!("{}.log", name.replace('/', "-")))
}

fn spawn(layout: &Layout, name: &str, args: &[String], join: Option<&str>) -> anyhow::Result<Child> {
    let path = log_file(&layout.logs(), name);
    let log = File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).env(LIFELINE, "stdin").stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    // Ctrl-C reaches the demo, which then stops them in its own way.
    command.process_group(0).kill_on_drop(true);
    if let Some(token) = join {
        command.env("TOMBOLO_JOIN_TOKEN", token);
    }
    command.spawn().with_context(|| format!("cannot start {name}"))
}

async fn is_ready(at: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), asked).await, Ok(Ok(true)))
}
