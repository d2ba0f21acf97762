//! Workloads get their identities: by socket, by directory, and by request.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use controller::audit;
use controller::http::client::CallError;
use controller::http::csr;
use controller::http::message::{IssueWorkload, IssuedWorkload, WORKLOAD};
use controller::local::{Agent, Settings};
use controller::member::credential::enrolment_client;
use controller::member::read_token;
use http::StatusCode;
use identity::ca::{GnsCa, Lifetimes};
use identity::pem::{decode_certificates, encode_certificates};
use identity::verify::{PeerEnd, verify_peer};
use identity::{Accept, KeyedCertificate, Pinned, PrivateKey, RoleKind, SpiffeId, TrustBundle, TrustDomain};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::controller_fake::Fake;
use crate::life::{Place, Running, run_agent};
use crate::workload_api::{Call, Came as Next, Fields, fields};

const MARK: [(&str, &str); 1] = [("workload.spiffe.io", "true")];
const CART: &str = "spiffe://shop.mesh.example/cluster/north/ns/shop/svc/cart";

/// The user as whom the tests run.
fn own_uid() -> u32 {
    tempfile::tempdir().unwrap().path().metadata().unwrap().uid()
}

/// An agent that has a service `cart`, whose workload is this process.
async fn start(place: &Place, fake: &Arc<Fake>, declarations: &[String]) -> (Arc<Agent>, Running) {
    place.write_service("cart");
    let (address, _) = fake.serve("127.0.0.1:0").await;
    let settings = place.settings(Some(fake.token(address).to_string()));
    let workloads = declarations.iter().map(|text| text.parse().unwrap()).collect();
    run_agent(Agent::build(Settings { workloads, workload_socket: Some(place.socket()), ..settings }).await.unwrap())
}

fn cart() -> Vec<String> {
    vec![format!("shop/cart,uid={}", own_uid())]
}

/// Follows a method until it gives a message: the agent may still wait for its issuing CA.
async fn follow(socket: &Path, method: &str) -> (Call, Fields) {
    loop {
        let mut call = Call::begin(socket, method, &MARK).await;
        match call.next().await {
            Next::Message(message) => return (call, message),
            Next::End(status, message) => {
                assert!(status == "14" || status == "7", "{status}: {message}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// An identity as it came: its name, its serial number, and how many roots it brought.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    id: String,
    serial: String,
    roots: usize,
}

/// Checks an identity as a peer would, whom it names.
fn check(message: &Fields) -> Came {
    let [svid] = message[&1].as_slice() else { panic!("{} identities", message[&1].len()) };
    let svid = fields(svid.clone());
    let one = |number: u8| svid[&number][0].clone();
    let (chain, bundle) = (ders(&one(2)), ders(&one(4)));
    let roots = bundle.len();
    let key = PrivateKey::from_pem(&pem_key(&one(3))).unwrap();
    let keyed = KeyedCertificate::new(chain.clone(), &key).unwrap();
    let domain: TrustDomain = "shop.mesh.example".parse().unwrap();
    let trust = Pinned::new(domain.clone(), TrustBundle::new(bundle).unwrap());
    let accept = Accept::new(domain, [RoleKind::Workload]);
    for end in [PeerEnd::Client, PeerEnd::Server] {
        let id = verify_peer(&chain, end, None, &accept, &trust, OffsetDateTime::now_utc()).unwrap();
        assert_eq!(id.to_string().as_bytes(), one(1));
    }
    let id = String::from_utf8(one(1).to_vec()).unwrap();
    Came { id, serial: keyed.facts().serial.to_string(), roots }
}

fn pem_key(der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

/// Certificates that stand one after another.
fn ders(mut bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[..2], [0x30, 0x82], "a certificate has between 256 and 65535 bytes");
        let length = 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        found.push(CertificateDer::from(bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    found
}

#[tokio::test]
async fn a_workload_is_told_of_each_new_identity_and_root_and_when_it_may_have_none() {
    let (place, fake) = (Place::new(), Fake::new());
    let (_, agent) = start(&place, &fake, &cart()).await;
    let (mut svids, first) = follow(&place.socket(), "FetchX509SVID").await;
    let (mut bundles, roots) = follow(&place.socket(), "FetchX509Bundles").await;
    let first = check(&first);
    assert_eq!((first.id.as_str(), first.roots), (CART, 1));
    assert_eq!(bundle(&roots), 1);

    let domain = TrustDomain::global_namespace("shop", "mesh.example").unwrap();
    let second = GnsCa::create(domain, &Lifetimes::default(), OffsetDateTime::now_utc()).unwrap();
    fake.further_roots.lock().unwrap().push(encode_certificates([second.certificate()]));
    fake.publish(2, "north");
    let mut newer = check(&svids.message().await);
    while newer.roots == 1 {
        newer = check(&svids.message().await);
    }
    assert_eq!(newer.id, CART);
    while bundle(&bundles.message().await) == 1 {}

    place.remove_service("cart");
    let (status, message) = svids.end().await;
    assert!(status == "7" && message.contains("has no service shop/cart"), "{status}: {message}");
    assert_eq!(bundles.end().await.0, "7");
    place.write_service("cart");
    let (_, again) = follow(&place.socket(), "FetchX509SVID").await;
    assert_eq!((check(&again).id.as_str(), check(&again).roots), (CART, 2));
    agent.stop().await;
    assert!(!place.socket().exists(), "the socket goes with the agent");
}

/// How many roots there are in the one bundle.
fn bundle(message: &Fields) -> usize {
    let [entry] = message[&2].as_slice() else { panic!("not one bundle") };
    let entry = fields(entry.clone());
    assert_eq!(entry[&1], [Bytes::from_static(b"spiffe://shop.mesh.example")]);
    ders(&entry[&2][0]).len()
}

#[tokio::test]
async fn who_is_no_workload_or_says_it_wrong_gets_nothing() {
    let (place, fake) = (Place::new(), Fake::new());
    let other = own_uid() + 1;
    let (_, agent) = start(&place, &fake, &[format!("shop/cart,uid={other}")]).await;
    let socket = place.socket();
    let refused = async |method: &str, metadata: &[(&str, &str)], body: &[u8]| {
        Call::with_body(&socket, method, metadata, body).await.end().await
    };
    let (status, message) = refused("FetchX509SVID", &MARK, &[0; 5]).await;
    assert!(status == "7" && message.contains("is no workload that the agent knows"), "{status}: {message}");
    for metadata in [&[][..], &[("workload.spiffe.io", "false")], &[MARK[0], MARK[0]]] {
        assert_eq!(refused("FetchX509SVID", metadata, &[0; 5]).await.0, "3", "{metadata:?}");
    }
    for method in ["FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID", "Other"] {
        assert_eq!(refused(method, &MARK, &[0; 5]).await.0, "12", "{method}");
    }
    for body in [&[][..], &[0; 4], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 9], &[0; 20_000]] {
        assert_eq!(refused("FetchX509SVID", &MARK, body).await.0, "3", "{} bytes", body.len());
    }
    agent.stop().await;
}

/// What the client of gRPC's core sends: `:authority` is the socket's path, which is none.
#[tokio::test]
async fn a_client_that_names_the_sockets_path_as_authority_is_answered() {
    let (place, fake) = (Place::new(), Fake::new());
    let (_, agent) = start(&place, &fake, &cart()).await;
    follow(&place.socket(), "FetchX509SVID").await;
    let field = |name: &str, value: &str| {
        [&[0x40, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    let block = [
        field(":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        field(":authority", "tmp%2Frun%2Fworkload.sock"),
        vec![0x83, 0x86],
        field("content-type", "application/grpc"),
        field("te", "trailers"),
        field("workload.spiffe.io", "true"),
    ]
    .concat();
    let head = [&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1][..], &block].concat();
    let data = [0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    let sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], &head, &data].concat();
    let socket = place.socket();
    let answered = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&sent).unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        while !answer.windows(CART.len()).any(|bytes| bytes == CART.as_bytes()) {
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0, "closed after {answer:?}");
            answer.extend_from_slice(&part[..count]);
        }
    });
    answered.await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_directory_is_kept_fresh_also_while_the_controller_is_away() {
    let (place, fake) = (Place::new(), Fake::new());
    let directory = place.socket().with_file_name("cart");
    place.write_service("cart");
    let (address, controller) = fake.serve("127.0.0.1:0").await;
    let declared: Vec<_> = vec![format!("{},dir={}", cart()[0], directory.display()).parse().unwrap()];
    let join = Some(fake.token(address).to_string());
    let settings = |join| Settings { workloads: declared.clone(), ..place.settings(join) };
    let (_, agent) = run_agent(Agent::build(settings(join)).await.unwrap());
    let first = written(&directory, None).await;
    agent.stop().await;
    controller.cancel();
    let (_, agent) = run_agent(Agent::build(settings(None)).await.unwrap());
    let second = written(&directory, Some(&first)).await;
    assert_ne!(first, second);
    agent.stop().await;
    let issued = audit::read(&place.agent_dir().join("audit.log"), 10).unwrap();
    let issued: Vec<_> =
        issued.iter().filter(|entry| entry.on == [CART]).map(|entry| &entry.details["serial"]).collect();
    assert_eq!(issued, [&first, &second]);
}

/// The serial number of what is in a directory, once it is another than `last`.
async fn written(directory: &Path, last: Option<&String>) -> String {
    let read = |name: &str| std::fs::read_to_string(directory.join(name));
    loop {
        if let (Ok(chain), Ok(key), Ok(bundle)) = (read("cert.pem"), read("key.pem"), read("bundle.pem"))
            && let Ok(keyed) = KeyedCertificate::from_pem(&chain, &key)
            && last != Some(&keyed.facts().serial.to_string())
        {
            assert_eq!(keyed.facts().uris, [CART]);
            assert_eq!(decode_certificates(&bundle).unwrap().len(), 1);
            return keyed.facts().serial.to_string();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn by_request_a_certificate_is_for_exactly_what_its_asker_may_have() {
    let (place, fake) = (Place::new(), Fake::new());
    let (_, agent) = start(&place, &fake, &cart()).await;
    follow(&place.socket(), "FetchX509SVID").await;
    let token = read_token(&place.agent_dir().join("member.token")).unwrap();
    let client = enrolment_client(&token, RoleKind::Agent).unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = |id: &str| csr::make(&id.parse::<SpiffeId>().unwrap(), &key).unwrap();
    let ask = |gns: &str, service: &str, csr: String| IssueWorkload {
        secret: token.secret.to_string(),
        global_namespace: gns.parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        service: service.parse().unwrap(),
        csr,
    };
    let issued: IssuedWorkload = client.post(WORKLOAD, &ask("shop", "cart", csr(CART))).await.unwrap();
    let keyed = KeyedCertificate::from_pem(&issued.chain, &key.to_pem()).unwrap();
    assert_eq!(keyed.facts().uris, [CART]);

    let others = [CART.replace("cart", "till"), CART.replace("shop.mesh", "bank.mesh"), CART.replace("north", "south")];
    for foreign in others.iter().map(String::as_str).chain(["spiffe://shop.mesh.example/cluster/north/gateway/gw1"]) {
        let said = refused(client.post(WORKLOAD, &ask("shop", "cart", csr(foreign))).await);
        assert!(said.0 == StatusCode::BAD_REQUEST && said.1.contains("is entitled to"), "{foreign}: {said:?}");
    }
    for (csr, what) in bad_requests(&key) {
        let said = refused(client.post(WORKLOAD, &ask("shop", "cart", csr)).await);
        assert!(said.0 == StatusCode::BAD_REQUEST && said.1.contains(what), "{what}: {said:?}");
    }
    let said = refused(client.post(WORKLOAD, &ask("shop", "till", csr(CART))).await);
    assert!(said.0 == StatusCode::FORBIDDEN && said.1.contains("has no service shop/till"), "{said:?}");
    let said = refused(client.post(WORKLOAD, &ask("bank", "cart", csr(CART))).await);
    assert!(said.0 == StatusCode::FORBIDDEN && said.1.contains("belongs to GNS shop, not to bank"), "{said:?}");

    let wrong = IssueWorkload { secret: "no".into(), ..ask("shop", "cart", csr(CART)) };
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(refused(client.post(WORKLOAD, &wrong).await).0);
    }
    assert_eq!(statuses[0], StatusCode::UNAUTHORIZED);
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS), "whoever guesses is slowed down");
    agent.stop().await;

    let log = std::fs::read_to_string(place.agent_dir().join("audit.log")).unwrap();
    assert_eq!(log.matches(&keyed.facts().serial.to_string()).count(), 1, "what was issued is written down once");
    assert!(!log.contains(token.secret.as_str()) && !log.contains("PRIVATE"), "and no secret");
}

/// Requests that ask for too much, each with what is said of it.
fn bad_requests(key: &PrivateKey) -> Vec<(String, &'static str)> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, SanType};
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let request = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(CART)];
        change(&mut params);
        params.serialize_request(key).unwrap().pem().unwrap()
    };
    let sound = request(&|_| {});
    let cut = format!("{}-----END CERTIFICATE REQUEST-----\n", &sound[..sound.len() / 2]);
    vec![
        (request(&|params| params.subject_alt_names.push(uri(&CART.replace("cart", "till")))), "exactly one URI"),
        (
            request(&|params| params.subject_alt_names.push(SanType::DnsName("cart".try_into().unwrap()))),
            "exactly one URI",
        ),
        (request(&|params| params.subject_alt_names.clear()), "exactly one URI"),
        (request(&|params| params.subject_alt_names = vec![uri("SPIFFE://shop.mesh.example/x")]), "is entitled to"),
        (request(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "certificate authority"),
        (cut, "no PKCS #10"),
        ("nothing".into(), "no PKCS #10"),
    ]
}

fn refused(result: Result<IssuedWorkload, CallError>) -> (StatusCode, String) {
    match result {
        Err(CallError::Refused { status, errors, .. }) => (status, errors[0].message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}
