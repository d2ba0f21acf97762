//! `tombolo up` with manifests and flags of a test's own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::process::Process;

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
        let file = folder.path().join("mesh.yaml");
        std::fs::write(&file, manifests).unwrap();
        let own = [
            "up".to_owned(),
            format!("-f={}", file.display()),
            format!("--state={}", folder.path().join("state").display()),
            format!("--context={}", folder.path().join("context").display()),
            format!("--address={address}"),
            format!("--access-log={}", folder.path().join("access.log").display()),
        ];
        let args = own.into_iter().chain(flags.iter().map(ToString::to_string));
        let process = Process::start(args, &folder.path().join("up.log"));
        Router { address, process, folder }
    }

    /// One of its ports.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
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
