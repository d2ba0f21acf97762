//! `tombolo up` with manifests and flags of a test's own.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cli::Cli;
use super::process::{Process, TOMBOLO};
use super::{eventually, holds};

/// An address of a test's own network: another test run may be going on beside this one.
pub fn address(network: u8, host: u8) -> IpAddr {
    let run = u8::try_from(std::process::id() % 40).unwrap();
    [127, 212 + run, network, host].into()
}

/// A running router.
pub struct Router {
    pub address: IpAddr,
    // Stopped before the folder goes.
    pub process: Process,
    folder: tempfile::TempDir,
}

impl Router {
    /// Starts one on an address, with manifests of services in namespace `shop` of cluster `local` and of whatever else.
    pub fn start(address: IpAddr, manifests: &str, flags: &[&str]) -> Router {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mesh.yaml"), manifests).unwrap();
        Router::start_in(folder, address, flags, &[])
    }

    /// Starts one in a folder that the test has prepared.
    pub fn start_on(folder: tempfile::TempDir, address: IpAddr, manifests: &str) -> Router {
        std::fs::write(folder.path().join("mesh.yaml"), manifests).unwrap();
        Router::start_in(folder, address, &[], &[])
    }

    /// Starts the same one anew, with other flags and with variables in its environment.
    pub fn again(self, flags: &[&str], variables: &[(&str, &str)]) -> Router {
        let Router { address, mut process, folder } = self;
        process.stop();
        Router::start_in(folder, address, flags, variables)
    }

    fn start_in(folder: tempfile::TempDir, address: IpAddr, flags: &[&str], variables: &[(&str, &str)]) -> Router {
        let own = [
            "up".to_owned(),
            format!("-f={}", folder.path().join("mesh.yaml").display()),
            format!("--state={}", folder.path().join("state").display()),
            format!("--context={}", folder.path().join("context").display()),
            format!("--address={address}"),
            format!("--access-log={}", folder.path().join("access.log").display()),
        ];
        let args = own.into_iter().chain(flags.iter().map(ToString::to_string));
        let mut command = Command::new(TOMBOLO);
        command.args(args).envs(variables.iter().copied());
        let process = Process::spawn(command, &folder.path().join("up.log"));
        Router { address, process, folder }
    }

    /// One of its ports.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A place for files of the test's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs commands as its admin.
    pub fn cli<T>(&self, run: impl FnOnce(Cli<'_>) -> T) -> T {
        let context = self.context();
        run(Cli { context: &context })
    }

    /// Waits until it says this.
    pub async fn until_said(&mut self, words: &str) {
        let said = async || {
            let (ended, log) = (self.process.ended(), self.process.log());
            assert!(ended.is_none() || log.contains(words), "it ended: {log}");
            holds(log.contains(words), || log)
        };
        eventually(&format!("it says {words:?}"), said).await;
    }

    /// Its admin's context.
    pub fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    /// What its access log says.
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}

/// The manifests of a GNS `shop` in one cluster, with callers from a range.
pub fn shop(callers: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: shop}}\n\
         spec: {{domain: shop.internal, members: [{{cluster: {{prefix: ''}}, namespace: {{exact: shop}}}}]}}\n---\n\
         apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: local}}\n\
         spec: {{workloads: [{{cidr: '{callers}', namespace: shop}}]}}\n---\n"
    )
}

/// The manifest of a public service.
pub fn public(name: &str, service: &str, port: u16, tls: &str) -> String {
    format!(
        "apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {{name: {name}}}\n\
         spec: {{globalNamespace: shop, service: {service}, port: {port}, \
         hosts: [{{name: {name}.example.com}}], tls: {tls}}}\n---\n"
    )
}
