//! A further cluster, which is real: an agent and a gateway, as processes, with a part of each service.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use controller::http::client::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::agent::Mesh;
use crate::process::binary;
use crate::usage;

const NAME: &str = "real";
const GATEWAY: &str = "127.77.0.1:7470";

/// Its processes, the gateway last.
pub struct Cluster([Child; 2]);

impl Cluster {
    /// Starts it, and returns when its gateway knows every service and has found each instance well.
    pub async fn start(mesh: &Mesh, admin: &Client, directory: &Path) -> Self {
        let home = directory.join(NAME);
        std::fs::create_dir_all(home.join("services")).unwrap();
        let port = instances().await;
        for at in 0..mesh.services {
            let file = home.join(format!("services/s{at}.json"));
            std::fs::write(file, service(at, mesh.instances, port).to_string()).unwrap();
        }
        let answer: Value = admin.post("/v1alpha1/tokens", &json!({ "cluster": NAME })).await.unwrap();
        let run = |role: &str, arguments: &[String]| {
            let log = std::fs::File::create(home.join(format!("{role}.log"))).unwrap();
            let state = format!("--state={}", home.join(role).display());
            Command::new(binary())
                .arg(role)
                .arg(state)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap()
        };
        let services = format!("--services={}", home.join("services").display());
        let join = format!("--join={}", answer["token"].as_str().unwrap());
        let agent = run("agent", &["--listen=127.77.0.2:7444".into(), services, join]);
        let token = home.join("agent/member.token");
        while !token.exists() {
            sleep(Duration::from_millis(10)).await;
        }
        let agents = format!("--agent={}", token.display());
        let ports = ["--address=127.77.0.1", "--http-port=18080", "--https-port=18443", "--access-log=off"];
        let ports = ports.iter().map(ToString::to_string);
        let gateway = run("gateway", &ports.chain([agents, "--name=gw".to_owned()]).collect::<Vec<_>>());
        let cluster = Cluster([agent, gateway]);
        let began = Instant::now();
        while healthy().await != Some(mesh.services * mesh.instances) {
            sleep(Duration::from_millis(50)).await;
        }
        println!("the real gateway found all instances of its cluster well after {:?}", began.elapsed());
        cluster
    }

    /// What the gateway takes, and its agent.
    pub fn print(&self, when: &str) {
        let [agent, gateway] = &self.0;
        println!("gateway, {when}: {}", usage::said(gateway.id()));
        println!("its agent, {when}: {}", usage::said(agent.id()));
    }

    /// CPU time of the gateway so far.
    pub fn cpu(&self) -> Duration {
        let [_, gateway] = &self.0;
        usage::cpu(gateway.id())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn service(at: usize, instances: usize, port: u16) -> Value {
    let address = |instance: usize| {
        Ipv4Addr::from_bits(Ipv4Addr::new(127, 78, 0, 0).to_bits() + u32::try_from(instance).unwrap())
    };
    let instances: Vec<Value> =
        (0..instances).map(|instance| json!({"address": address(1 + at * instances + instance)})).collect();
    json!({"apiVersion": "tombolo.dev/v1alpha1", "kind": "Service",
        "metadata": {"name": format!("s{at}"), "namespace": "shop"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": port}],
            "versions": [{"name": "v1", "instances": instances}]}})
}

/// Answers for all instances; returns their port.
async fn instances() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// How many of its own instances the gateway finds well; nothing while it doesn't answer.
async fn healthy() -> Option<usize> {
    let mut stream = tokio::net::TcpStream::connect(GATEWAY).await.ok()?;
    stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let view: Value = serde_json::from_str(&answer[answer.find('{')?..=answer.rfind('}')?]).ok()?;
    let services = view["services"]["shop"].as_object()?;
    Some(services.values().filter_map(|service| service[NAME].as_u64()).sum::<u64>() as usize)
}
