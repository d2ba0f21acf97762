//! The controller, as a process of its own, and what it takes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use config::resource::Address;
use controller::global::{AdminContext, read_admin_context};
use controller::http::CLIENT_ALPN;
use controller::http::client::Client;
use identity::pem::decode_certificates;
use identity::tls::control_client_config;
use identity::{Accept, Identity, Pinned, RoleKind, TrustBundle, TrustDomain};
use rustls::ClientConfig;
use std::sync::Arc;

use crate::usage;

pub const MESH: &str = "mesh.example";

pub struct Process {
    child: Child,
    admin: AdminContext,
    pub address: Address,
}

/// The program whose processes these are.
pub fn binary() -> PathBuf {
    std::env::var_os("TOMBOLO").map_or_else(|| PathBuf::from("target/release/tombolo"), PathBuf::from)
}

/// The same for each life of the controller.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
}

impl Process {
    /// Starts it, and returns when it answers.
    pub async fn start(directory: &Path) -> Self {
        let (context, address) = (directory.join("context.json"), format!("127.0.0.1:{}", port()));
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let child = Command::new(binary())
            .args(["controller", "--mesh", MESH, "--listen", &address, "--state"])
            .arg(directory.join("controller"))
            .arg("--context")
            .arg(&context)
            .stderr(log)
            .spawn()
            .unwrap();
        let admin = loop {
            match (read_admin_context(&context), tokio::net::TcpStream::connect(&address).await) {
                (Some(admin), Ok(_)) => break admin,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        Process { child, admin, address: address.parse().unwrap() }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        let domain: TrustDomain = MESH.parse().unwrap();
        let roots = TrustBundle::new(decode_certificates(&self.admin.ca).unwrap()).unwrap();
        let accept = Accept::new(domain.clone(), [RoleKind::Controller]);
        control_client_config(identity, Arc::new(Pinned::new(domain, roots)), accept, CLIENT_ALPN).unwrap()
    }

    pub fn admin(&self) -> Client {
        Client::fixed(self.address.clone(), self.tls(None)).with_bearer(self.admin.token.clone())
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Duration {
        usage::cpu(self.child.id())
    }

    pub fn print(&self, when: &str) {
        println!("controller, {when}: {}", usage::said(self.child.id()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
