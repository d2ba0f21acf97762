//! `tombolo up`: a router of one machine, from a directory of manifests.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use http::StatusCode;

use crate::support::cli::Cli;
use crate::support::demo::{HOST, HTTPS, SERVICE};
use crate::support::http::{Client, Outcome, Protocol};
use crate::support::process::Process;
use crate::support::{eventually, holds};

/// The example shop, on an address of its own, with the two upstreams that its manifests name.
struct Shop {
    manifests: PathBuf,
    state: PathBuf,
    router: SocketAddr,
    // Stopped before the folder goes.
    process: Process,
    _upstreams: [Process; 2],
    _folder: tempfile::TempDir,
}

impl Shop {
    /// `number` tells the address, so that each test has its own.
    fn start(number: u8) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let (manifests, state) = (folder.path().join("shop"), folder.path().join("state"));
        let upstream_address: IpAddr = [127, 210, number, 2].into();
        copy_example(&manifests, upstream_address);
        let upstreams = [9001, 9002].map(|port| {
            let (listen, name) = (format!("--listen={upstream_address}:{port}"), format!("--name=up-{port}"));
            let args = ["demo-service", &listen, "--cluster=local", "--version=v1", &name];
            Process::start(args, &folder.path().join(format!("{port}.log")))
        });
        let address = IpAddr::from([127, 210, number, 1]);
        let args = [
            "up".to_owned(),
            format!("-f={}", manifests.display()),
            format!("--state={}", state.display()),
            format!("--context={}", folder.path().join("context").display()),
            format!("--address={address}"),
        ];
        let process = Process::start(args, &folder.path().join("up.log"));
        let router = SocketAddr::new(address, HTTPS);
        Shop { manifests, state, router, process, _upstreams: upstreams, _folder: folder }
    }

    /// Who served one request.
    async fn served(&self, host: &str) -> Outcome<String> {
        let context = self.state.with_file_name("context");
        let ca = Cli { context: &context }.run(&["ca"]);
        holds(ca.ok, || format!("{ca:?}"))?;
        let client = Client::trusting(&ca.stdout);
        let answer = client.https(self.router, host, Protocol::Http2).await?.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))?;
        Ok(answer.json()["instance"].as_str().unwrap().to_owned())
    }

    /// Who serves some requests.
    async fn serving(&self) -> Outcome<BTreeSet<String>> {
        let mut serving = BTreeSet::new();
        for _ in 0..6 {
            serving.insert(self.served(HOST).await?);
        }
        Ok(serving)
    }

    async fn until_served_by(&self, expected: &[&str]) {
        let asked = || async {
            let serving = self.serving().await?;
            holds(serving.iter().eq(expected), || format!("served by {serving:?}; it said {}", self.process.log()))
        };
        eventually(&format!("{expected:?} serve"), asked).await;
    }

    /// Writes a manifest as an editor does, in place.
    fn edit(&self, name: &str, change: impl Fn(String) -> String) {
        let path = self.manifests.join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }

    async fn until_said(&self, words: &str) {
        let said = || {
            let log = self.process.log();
            std::future::ready(holds(log.contains(words), || log))
        };
        eventually(&format!("it says {words:?}"), said).await;
    }
}

fn copy_example(to: &Path, upstreams: IpAddr) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(example).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("address: 127.0.0.1", &format!("address: {upstreams}"));
        std::fs::write(to.join(path.file_name().unwrap()), text).unwrap();
    }
}

/// The list of instances with one of the two upstreams only.
fn only(shop: &Shop, port: u16) -> String {
    let IpAddr::V4(router) = shop.router.ip() else { unreachable!() };
    let number = router.octets()[2];
    format!("        - {{address: 127.210.{number}.2, port: {port}}}\n")
}

#[tokio::test]
async fn the_example_is_served_over_https_by_both_upstreams_and_a_change_takes_effect() {
    let shop = Shop::start(1);
    shop.until_served_by(&["up-9001", "up-9002"]).await;
    shop.edit("service.yaml", |text| text.split_once("        - address: ").unwrap().0.to_owned() + &only(&shop, 9001));
    shop.until_served_by(&["up-9001"]).await;
    shop.edit("public-service.yaml", |text| text.replace(HOST, "www.example.com"));
    eventually("the new host is served", || shop.served("www.example.com")).await;
    let gone = shop.served(HOST).await.unwrap_err();
    assert!(gone.contains("alert"), "the old host is gone: {gone}");
}

#[tokio::test]
async fn a_broken_edit_is_told_with_its_place_and_the_last_good_stays() {
    let shop = Shop::start(2);
    shop.until_served_by(&["up-9001", "up-9002"]).await;
    shop.edit("public-service.yaml", |text| text.replace("hosts:", "hostz:"));
    shop.until_said("did you mean hosts?").await;
    shop.until_said("public-service.yaml:").await;
    shop.until_served_by(&["up-9001", "up-9002"]).await;
    shop.edit("public-service.yaml", |text| text.replace("hostz:", "hosts:").replace(HOST, "www.example.com"));
    eventually("the mended one takes effect", || shop.served("www.example.com")).await;
}

#[tokio::test]
async fn a_workload_on_the_machine_calls_the_service_by_its_name_in_the_mesh() {
    let shop = Shop::start(3);
    shop.until_served_by(&["up-9001", "up-9002"]).await;
    // The example maps no workloads, so this caller is nobody.
    let at = SocketAddr::new(shop.router.ip(), SERVICE);
    let host = "web.shop.internal";
    let mut stranger = crate::support::http::plain([127, 0, 0, 1].into(), at, host, Protocol::Http1).await.unwrap();
    assert_eq!(stranger.get("/").await.unwrap().status, StatusCode::FORBIDDEN);
    let cluster = "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {name: local}\n\
                   spec: {workloads: [{cidr: 127.210.3.0/24, namespace: shop}]}\n";
    std::fs::write(shop.manifests.join("cluster.yaml"), cluster).unwrap();
    let calls = || async {
        let mut workload = crate::support::http::plain([127, 210, 3, 9].into(), at, host, Protocol::Http1).await?;
        let answer = workload.get("/").await?;
        holds(answer.status == StatusCode::OK, || format!("{answer:?}"))
    };
    eventually("the workload is answered", calls).await;
}

#[tokio::test]
async fn manifests_that_are_wrong_from_the_start_are_told_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    copy_example(folder.path(), [127, 0, 0, 1].into());
    let broken = folder.path().join("service.yaml");
    std::fs::write(&broken, std::fs::read_to_string(&broken).unwrap().replace("ports:", "portz:")).unwrap();
    let state = format!("--state={}", folder.path().join("state").display());
    let log = folder.path().join("log");
    let mut up = Process::start(["up", "-f", folder.path().to_str().unwrap(), &state, "--address=127.210.4.1"], &log);
    assert!(!up.wait().success());
    assert!(up.log().contains("service.yaml:") && up.log().contains("did you mean ports?"), "{}", up.log());
}
