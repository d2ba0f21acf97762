//! What is refused, and in which words.

use config::resource::Name;
use config::wire::frame::{self, Decoder, Frame};
use config::wire::{Down, Hello, MemberRole, PROTOCOL, Up};
use controller::http::client::Client;
use controller::http::message::{Certified, Certify, ENROL, Enrol, Enrolled, IDENTITY, RENEW};
use controller::local::{Agent, AgentError};
use controller::member::credential::{Credential, enrolment_client};
use controller::member::{Member, Settings, read_token};
use controller::sync::PATH;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use identity::RoleKind;

use serde_json::json;

use crate::connection::Kept;
use crate::controller_fake::Fake;
use crate::life::{Place, joined, run_member};

async fn refusal(settings: controller::local::Settings) -> AgentError {
    Agent::build(settings).await.err().expect("it was admitted")
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_admit_nobody() {
    let (fake, other, place) = (Fake::new(), Fake::new(), Place::new());
    let (address, _running) = fake.serve("127.0.0.1:0").await;
    let said = |error: AgentError| error.to_string();

    let mut used = fake.token(address);
    used.secret = String::from("used").into();
    let error = said(refusal(place.settings(Some(used.to_string()))).await);
    assert!(error.contains("used before") && error.contains(&address.to_string()), "{error}");

    let foreign = other.token(address).to_string();
    let error = said(refusal(place.settings(Some(foreign))).await);
    assert!(error.contains("another mesh"), "{error}");

    assert!(said(refusal(place.settings(Some("tombolo1.x".into()))).await).contains("whole line"));
    assert!(said(refusal(place.settings(None)).await).contains("token create"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let error = refusal(controller::local::Settings { listen, ..Place::new().settings(None) }).await.to_string();
    assert!(error.contains(&listen.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_become_no_members() {
    let (fake, place) = (Fake::new(), Place::new());
    let (_controller, _agent, _running) = joined(&fake, &place).await;
    let token = read_token(&place.agent_dir().join("member.token")).unwrap();
    let client = enrolment_client(&token, RoleKind::Agent).unwrap();
    let name: Name = "gw9".parse().unwrap();
    let ask = |secret: &str, role| Enrol { secret: secret.into(), name: name.clone(), role, csr: String::new() };

    let guess = client.post::<Enrolled>(ENROL, &ask("guess", MemberRole::Gateway)).await;
    assert!(guess.unwrap_err().to_string().contains("member token"));
    let agent = client.post::<Enrolled>(ENROL, &ask(&token.secret, MemberRole::Agent)).await;
    assert!(agent.unwrap_err().to_string().contains("joins the mesh"));
    let garbage = client.post::<Enrolled>(ENROL, &ask(&token.secret, MemberRole::Gateway)).await;
    assert!(garbage.unwrap_err().to_string().contains("signing request"));
    let certify = Certify { global_namespace: "shop".parse().unwrap(), csr: String::new(), order: None };
    let anonymous = client.post::<Certified>(IDENTITY, &certify).await;
    assert!(anonymous.unwrap_err().to_string().contains("enrol first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_of_the_same_name_shuts_its_predecessor_out() {
    let (fake, place) = (Fake::new(), Place::new());
    let (_controller, agent, _running) = joined(&fake, &place).await;
    let settings = place.member_settings("gw1", MemberRole::Gateway);
    let mut first = run_member(Member::build(settings.clone()).unwrap());
    first.until_it_knows("Cluster/north").await;
    first.running.stop().await;
    let credential = Credential::load(&settings.state_dir.join("member.pem")).unwrap();
    let (address, tls) = (agent.address().to_string().parse().unwrap(), credential.client_tls(RoleKind::Agent));
    let mut kept = Kept::open(&address, tls.unwrap()).await;
    assert!(matches!(kept.hello("gw1", MemberRole::Gateway).await, Down::Welcome { .. }));

    let elsewhere = Settings { state_dir: place.agent_dir().join("elsewhere"), ..settings };
    let mut second = run_member(Member::build(elsewhere).unwrap());
    second.until_it_knows("Cluster/north").await;
    let certify = Certify { global_namespace: "shop".parse().unwrap(), csr: String::new(), order: None };
    for (path, body) in [(RENEW, json!({"csr": ""})), (IDENTITY, json!(certify))] {
        let (status, said) = kept.post(path, &body).await;
        assert!(status == StatusCode::FORBIDDEN && said.contains("a successor"), "{status} {said}");
    }
    let said = kept.hello("gw1", MemberRole::Gateway).await;
    assert!(matches!(&said, Down::Goodbye { reason } if reason.contains("a successor")), "{said:?}");
    let client = Client::fixed(address, credential.client_tls(RoleKind::Agent).unwrap());
    assert!(client.post::<Certified>(IDENTITY, &certify).await.is_err(), "nor is a new connection let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dns_server_gets_no_identity() {
    let (fake, place) = (Fake::new(), Place::new());
    let (_controller, _agent, _running) = joined(&fake, &place).await;
    let mut dns = run_member(Member::build(place.member_settings("dns1", MemberRole::Dns)).unwrap());
    dns.until_it_knows("trust/shop").await;
    let wanted = tokio::time::timeout(std::time::Duration::from_secs(2), dns.until_it_has_an_identity()).await;
    assert!(wanted.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_is_refused_in_words() {
    let (fake, place) = (Fake::new(), Place::new());
    let (address, _running) = fake.serve("127.0.0.1:0").await;
    let settings = place.settings(Some(fake.token(address).to_string()));
    Agent::build(settings).await.unwrap();
    let credential = Credential::load(&place.agent_dir().join("agent.pem")).unwrap();
    let tls = credential.client_tls(RoleKind::Controller).unwrap();
    let client = Client::fixed(address.to_string().parse().unwrap(), tls);
    let hello = Hello {
        protocol: PROTOCOL + 2,
        version: "9.9.9".into(),
        features: vec![],
        name: "north".parse().unwrap(),
        boot: String::new(),
        role: MemberRole::Agent,
        addresses: None,
    };
    for (said, expected) in [(Up::Hello(hello), "one follows"), (Up::Beat, "must be Hello")] {
        let body = Full::new(frame::message(&said).unwrap()).map_err(|never| match never {}).boxed();
        let answer = client.stream(PATH, body).await.unwrap().collect().await.unwrap().to_bytes();
        let mut decoder = Decoder::default();
        decoder.push(&answer);
        let Some(Frame::Message(Down::Goodbye { reason })) = decoder.next().unwrap() else { panic!("no goodbye") };
        assert!(reason.contains(expected), "{reason}");
    }
}
