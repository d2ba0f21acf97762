//! Workloads' identities, as an operator sets them up.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use identity::{Identity, KeyedCertificate};

use crate::support::http::{Client, Protocol};
use crate::support::router::{Router, address, shop};
use crate::support::upstream::{self, service};
use crate::support::workload::{self, Inside, Member};
use crate::support::{eventually, holds};
use crate::workload_api::{Call, Fields, fields};

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

/// `bank` lets in `shop`'s cart.
const VISIT: &str = "apiVersion: tombolo.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: visit}\n\
                  spec: {globalNamespace: bank, from: [{globalNamespace: shop, service: cart}], to: [{service: teller}]}\n";

/// Two GNSs in one cluster.
fn two_namespaces(at: SocketAddr) -> String {
    let bank = shop("127.0.0.0/8").split("---").next().unwrap().replace("shop", "bank");
    // What is called from elsewhere must speak mutual TLS.
    let port = "port: 8080, protocol: http";
    let teller = workload::service("local", "bank", "teller", port, "mesh", &[(at.ip(), 9443).into()]);
    let cart = service("local", "cart", &[at]);
    [bank, shop("127.0.0.0/8") + &cart, service("local", "till", &[at]), teller].join("---\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_told_whom_to_believe_where_a_policy_lets_it_call() {
    let (folder, at) = (tempfile::tempdir().unwrap(), address(67, 1));
    upstream::serve((at, 9000).into()).await;
    let (cart, socket) = (folder.path().join("cart"), folder.path().join("workload.sock"));
    let till = folder.path().join("till");
    let kept = |name: &str, to: &Path| format!("--workload=shop/{name},uid={},dir={}", own_uid(), to.display());
    let flags = [kept("cart", &cart), kept("till", &till), format!("--workload-socket={}", socket.display())];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let router = Router::start(at, &two_namespaces((at, 9000).into()), &flags);
    let (bank, text) = (cart.join("federated/bank.mesh.internal.pem"), |path: &Path| std::fs::read_to_string(path));
    eventually("the policy is applied", async || {
        let said = router.cli(|cli| cli.apply(VISIT));
        holds(said.ok, || format!("{said:?}"))
    })
    .await;
    eventually("cart is told of bank", async || {
        text(&bank).map_err(|error| format!("{error}: {}", router.process.log()))
    })
    .await;
    eventually("till has an identity", async || read(&till)).await;
    let issued = folder.path().join("teller");
    let (agent, out) = (router.state().join("agent/member.token"), format!("--out={}", issued.display()));
    let agent = format!("--agent={}", agent.display());
    let issue = ["certs", "issue", "--gns=bank", "--service=bank/teller", &agent, &out];
    eventually("teller has an identity", async || {
        let said = router.cli(|cli| cli.run(&issue));
        holds(said.ok, || format!("{said:?}"))
    })
    .await;
    let of_teller = |name: &str| text(&issued.join(name)).unwrap();
    let keyed = KeyedCertificate::from_pem(&of_teller("cert.pem"), &of_teller("key.pem")).unwrap();
    let member = Member::believing("local", "bank.mesh.internal", &of_teller("bundle.pem"));
    workload::serve((at, 9443).into(), &member, &Identity::new(keyed).unwrap(), Inside::Http1, "teller").await;
    assert_eq!(std::fs::read_dir(till.join("federated")).unwrap().count(), 0, "no policy lets till call anybody");

    let roots = |message: &Fields| {
        let entries = message.get(&3).into_iter().flatten().map(|entry| fields(entry.clone()));
        entries
            .map(|entry| (String::from_utf8(entry[&1][0].to_vec()).unwrap(), entry[&2][0].clone()))
            .collect::<Vec<_>>()
    };
    let mut call = Call::begin(&socket, "FetchX509SVID", &[("workload.spiffe.io", "true")]).await;
    let told = roots(&call.message().await);
    let der = identity::pem::decode_certificates(&text(&bank).unwrap()).unwrap();
    let der: Vec<u8> = der.iter().flat_map(|root| root.to_vec()).collect();
    assert_eq!(told, [("spiffe://bank.mesh.internal".to_owned(), der.into())]);

    // With it, and with nothing else, it believes the gateway that answers in bank's name.
    let (chain, key) = (text(&cart.join("cert.pem")).unwrap(), text(&cart.join("key.pem")).unwrap());
    let answers = async |roots: &Path, name: &str| {
        let client = Client::trusting(&text(roots).unwrap()).with_identity(&chain, &key);
        let mut connection = client.https((at, 8080).into(), name, Protocol::Http2).await?;
        let answer = connection.get("/").await?;
        holds(answer.status == 200, || format!("{answer:?}"))
    };
    eventually("teller answers", async || answers(&bank, "teller.bank.internal").await).await;
    let own = cart.join("bundle.pem");
    answers(&own, "till.shop.internal").await.unwrap();
    let refused = answers(&own, "teller.bank.internal").await.unwrap_err();
    assert!(refused.contains("UnknownIssuer") || refused.contains("certificate"), "{refused}");

    // A new root of bank comes before anybody shows what it signs.
    router.cli(|cli| cli.run(&["certs", "rotate", "--level=gns", "--gns=bank"])).success();
    eventually("both roots are there", async || {
        let now = text(&bank).map_err(|error| error.to_string())?;
        holds(now.matches("BEGIN").count() == 2, || now)
    })
    .await;
    answers(&bank, "teller.bank.internal").await.unwrap();

    router.cli(|cli| cli.run(&["delete", "AccessPolicy/bank/visit"])).success();
    eventually("it is told no more", async || holds(!bank.exists(), || "it is".to_owned())).await;
    while !roots(&call.message().await).is_empty() {}
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
