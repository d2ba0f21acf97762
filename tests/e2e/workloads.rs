//! Workloads' identities, as an operator sets them up.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use identity::KeyedCertificate;

use crate::support::router::{Router, address, shop};
use crate::support::upstream::service;
use crate::support::{eventually, holds};
use crate::workload_api::{Call, fields};

const CART: &str = "spiffe://shop.mesh.internal/cluster/local/ns/shop/svc/cart";

/// A router with a service `cart`, of which this process is an instance.
fn start(network: u8, flags: &[&str]) -> Router {
    let address = address(network, 1);
    let manifests = shop("127.0.0.0/8") + &service("local", "cart", &[(address, 9000).into()]);
    Router::start(address, &manifests, flags)
}

fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// The serial number and the names of a set of files, when it is whole.
fn read(directory: &Path) -> Result<(String, Vec<String>), String> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).map_err(|error| error.to_string());
    let keyed = KeyedCertificate::from_pem(&read("cert.pem")?, &read("key.pem")?).map_err(|error| error.to_string())?;
    holds(read("bundle.pem")?.contains("CERTIFICATE"), || "no bundle".into())?;
    Ok((keyed.facts().serial.to_string(), keyed.facts().uris.clone()))
}

#[tokio::test]
async fn a_workload_gets_its_identity_by_directory_by_socket_and_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, socket) = (folder.path().join("cart"), folder.path().join("workload.sock"));
    let workload = format!("--workload=shop/cart,uid={},dir={}", own_uid(), directory.display());
    let router = start(61, &[&workload, &format!("--workload-socket={}", socket.display())]);
    let written = async || read(&directory).map_err(|error| format!("{error}: {}", router.process.log()));
    let (kept, names) = eventually("the directory has an identity", written).await;
    assert_eq!(names, [CART]);
    let mode = std::fs::metadata(directory.join("key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut call = Call::begin(&socket, "FetchX509SVID", &[("workload.spiffe.io", "true")]).await;
    assert_eq!(fields(call.message().await[&1][0].clone())[&1], [CART.as_bytes()]);
    let (status, said) = Call::begin(&socket, "FetchX509SVID", &[]).await.end().await;
    assert!(status == "3" && said.contains("workload.spiffe.io"), "{status}: {said}");

    let (token, out) = (router.state().join("agent/member.token"), folder.path().join("issued"));
    let issue = |gns: &str, service: &str, out: &Path| {
        let (gns, service) = (format!("--gns={gns}"), format!("--service={service}"));
        let (agent, out) = (format!("--agent={}", token.display()), format!("--out={}", out.display()));
        router.cli(|cli| cli.run(&["certs", "issue", &gns, &service, &agent, &out]))
    };
    issue("shop", "shop/cart", &out).success();
    let (issued, names) = read(&out).unwrap();
    assert_eq!(names, [CART]);
    issue("shop", "shop/cart", &out).success();
    let serials = BTreeSet::from([kept, issued, read(&out).unwrap().0]);
    assert_eq!(serials.len(), 3, "each time another");
    for (gns, service, what) in [
        ("shop", "shop/till", "has no service shop/till"),
        ("bank", "shop/cart", "belongs to GNS shop, not to bank"),
        ("shop", "cart", "has no service default/cart"),
    ] {
        let said = issue(gns, service, &folder.path().join("none")).failure();
        assert!(said.contains(what), "{said}");
        assert!(!folder.path().join("none/cert.pem").exists());
    }
    let log = format!("--file={}", router.state().join("agent/audit.log").display());
    let audit = router.cli(|cli| cli.run(&["audit", &log, "-o=json"])).success();
    for serial in serials {
        assert_eq!(audit.matches(serial.as_str()).count(), 1, "{serial} in {audit}");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_safely_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for (number, (flag, what)) in [
        (format!("--workload=shop/cart,uid={},dir={}", own_uid(), open.display()), "others than its owner can write"),
        (format!("--workload-socket={}", file.display()), "is no socket"),
        ("--workload=shop/cart".to_owned(), "add ,uid=UID"),
        ("--workload=a/b/c,uid=1".to_owned(), "names no service"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut router = start(62 + number as u8, &[&flag]);
        assert!(!router.process.wait().success());
        assert!(router.process.log().contains(what), "{}", router.process.log());
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
}
