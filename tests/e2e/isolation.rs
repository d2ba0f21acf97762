//! Two global namespaces with the same service names, in the same clusters, behind the same gateways: nothing leaks from
//! one to the other, and nothing to whoever listens between clusters.

mod credentials;
pub mod dice;
mod spy;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use identity::Facts;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::support::demo::{CLUSTERS, Demo, EAST_WEST, HTTPS, SERVICE};
use crate::support::http::{Connection, Outcome, Protocol, connect, empty};
use crate::support::workload::{self, Caller, Inside, Member, register, service};
use crate::support::{eventually, holds};
use credentials::{Credential, Proves};
use dice::{ABOVE, Dice, NAMES, PATHS, metadata};
use spy::spy;

/// The global namespaces. The first is strict, the second permissive, and one rule leads from the first's cart to the
/// second's pay.
const GNSS: [&str; 2] = ["red", "blue"];
/// The services of each.
const SERVICES: [&str; 2] = ["cart", "pay"];
/// A stream of each, on a port of its own.
const STREAMS: [u16; 2] = [15_301, 15_302];

const PROBES: usize = 10_500;
/// As many at once.
const PROBERS: usize = 8;
/// Of what an allowed probe must find, so much it does: a machine under load may take an instance for dead.
const SERVED: f64 = 0.95;
const SEED: u64 = 0x0074_6f6d_626f_6c6f;

/// By which way a probe comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Door {
    /// A service's port, by TLS.
    Mesh,
    /// The same in plain text.
    Plain,
    /// A stream's port of that GNS.
    Stream(usize),
    /// The port between clusters, of a gateway in the south.
    Tunnel,
    /// Public HTTPS.
    Public,
}

#[derive(Debug, Clone)]
struct Probe {
    door: Door,
    sni: String,
    credential: usize,
    protocol: Protocol,
    from: IpAddr,
    host: String,
    /// Another host in a header, where HTTP/2 has an authority already.
    other_host: Option<String>,
    path: &'static str,
    /// Headers as only gateways may send them.
    metadata: Vec<(&'static str, String)>,
}

/// Two clusters with both GNSs.
struct Lab {
    demo: Demo,
    north: [Member; 2],
    credentials: Vec<Credential>,
    /// The opaque names of the south's gateways, by GNS.
    labels: [String; 2],
}

impl Lab {
    async fn start() -> Lab {
        let demo = Demo::with(&["--quiet", "--no-restart"]).await;
        demo.cli(|cli| cli.apply(&manifests(&demo)).success());
        let (north, south) = (members(&demo, 0).await, members(&demo, 1).await);
        for (cluster, members) in [(0, &north), (1, &south)] {
            serve(&demo, cluster, members).await;
        }
        demo.cli(|cli| cli.with_manifests(&["apply", "-f"], POLICY).success());
        let held = async |gateway: &str, gns: &str| {
            let path = demo.state.join(gateway).join(format!("identities/{gns}.pem"));
            let read = || std::future::ready(std::fs::read_to_string(&path).map_err(|error| error.to_string()));
            eventually(&format!("{gateway} has an identity in {gns}"), read).await
        };
        let gateways = [held("north/gw-a", "red").await, held("north/gw-a", "blue").await];
        let labels = [label(&held("south/gw-a", "red").await), label(&held("south/gw-a", "blue").await)];
        let credentials = credentials::all(&north, &south, gateways.map(|text| credentials::identity(&text)));
        let lab = Lab { demo, north, credentials, labels };
        lab.warm_up().await;
        lab
    }

    /// Until everything that may be reached is reached.
    async fn warm_up(&self) {
        for (at, gns) in GNSS.into_iter().enumerate() {
            let caller = Caller::new(self.north[at].workload(gns, "cart"), self.from(gns));
            for service in SERVICES {
                for cluster in ["north", "south"] {
                    let host = format!("{cluster}.{service}.{gns}.internal");
                    let answers = async || {
                        let at_gateway = SocketAddr::new(self.demo.gateway(0, 0), SERVICE);
                        let mut to = caller.http(at_gateway, &host, &self.north[at], Protocol::Http1).await?;
                        let answer = to.get("/").await?;
                        holds(answer.body == gns, || format!("{answer:?}"))
                    };
                    eventually(&format!("{host} answers"), answers).await;
                }
            }
            let host = format!("{gns}.example.com");
            let publish = async || self.demo.client().https(self.public(), &host, Protocol::Http1).await.map(drop);
            eventually(&format!("{host} is published"), publish).await;
        }
        let crossing = Probe {
            door: Door::Mesh,
            sni: "pay.blue.internal".into(),
            credential: self.credentials.iter().position(|c| c.proves == Proves::Workload("red", "cart")).unwrap(),
            protocol: Protocol::Http1,
            from: self.from("red"),
            host: "south.pay.blue.internal".into(),
            other_host: None,
            path: "/",
            metadata: vec![],
        };
        let crosses = async || {
            let served = self.ask(&crossing, &mut HashMap::new()).await?;
            holds(served.as_deref() == Some("blue"), || format!("{served:?}"))
        };
        eventually("the rule is followed across clusters", crosses).await;
    }

    fn public(&self) -> SocketAddr {
        SocketAddr::new(self.demo.gateway(0, 0), HTTPS)
    }

    /// Where workloads of a GNS stand in the north; of no GNS, where nobody does.
    fn from(&self, gns: &str) -> IpAddr {
        let third = GNSS.iter().position(|name| *name == gns).map_or(9, |at| 3 + at as u8);
        self.demo.address(0, third, 1)
    }

    fn draw(&self, dice: &mut Dice) -> Probe {
        let door = match dice.roll(100) {
            0..55 => Door::Mesh,
            55..63 => Door::Plain,
            63..70 => Door::Stream(dice.roll(2)),
            70..92 => Door::Tunnel,
            _ => Door::Public,
        };
        let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).chain(self.labels.clone()).collect();
        // Half of them know a name that leads somewhere, and half show a good certificate: else few get far.
        let sni = match (door, dice.roll(2)) {
            (Door::Tunnel, 0) => dice.pick(&self.labels).clone(),
            (Door::Public, 0) => format!("{}.example.com", dice.pick(&GNSS)),
            (_, 0) => format!("{}.{}.internal", dice.pick(&SERVICES), dice.pick(&GNSS)),
            _ => dice.pick(&names).clone(),
        };
        let good = self.credentials.iter().filter(|credential| credential.proves != Proves::Nobody).count() + 1;
        let credential = match (door, dice.roll(4)) {
            // The good ones end with the gateways'.
            (Door::Tunnel, 0..2) => good - 1 - dice.roll(2),
            (_, 0..2) => dice.roll(good),
            _ => dice.roll(self.credentials.len()),
        };
        let two = door == Door::Tunnel || dice.roll(2) == 0;
        let host = self.host(door, dice);
        let other_host = (two && dice.roll(8) == 0).then(|| dice.pick(&names).clone()).filter(|other| *other != host);
        Probe {
            sni,
            credential,
            protocol: if two { Protocol::Http2 } else { Protocol::Http1 },
            from: self.from(dice.pick::<&str>(&["red", "blue", "nobody"])),
            host,
            other_host,
            path: dice.pick::<&str>(&PATHS),
            metadata: if door == Door::Tunnel || dice.roll(5) == 0 { metadata(dice) } else { vec![] },
            door,
        }
    }

    fn host(&self, door: Door, dice: &mut Dice) -> String {
        if door == Door::Public {
            return format!("{}.example.com", dice.pick(&GNSS));
        }
        let name = format!("{}.{}.internal", dice.pick(&SERVICES), dice.pick(&GNSS));
        match dice.roll(8) {
            0 => format!("v1.{name}"),
            1 => format!("south.{name}"),
            2 => name.to_uppercase(),
            3 => format!("{name}:{SERVICE}"),
            4 => format!("{name}.{}.internal", dice.pick(&GNSS)),
            5 => (*dice.pick(&NAMES)).to_owned(),
            _ => name,
        }
    }

    /// Sends the probe; returns which GNS's instance answered, or nothing when it was refused.
    async fn ask(&self, probe: &Probe, open: &mut Open) -> Outcome<Option<String>> {
        if let Door::Stream(of) = probe.door {
            return Ok(self.greeting(probe, of).await);
        }
        // What was refused as a connection is tried again each time; what was let in serves further probes.
        let key = (probe.door, probe.sni.clone(), probe.credential, probe.protocol, probe.from);
        let mut connection = match open.remove(&key) {
            Some(open) => open,
            None => match self.connect(probe).await {
                Ok(connection) => connection,
                Err(_) => return Ok(None),
            },
        };
        connection.authority = probe.host.clone();
        let mut headers = HeaderMap::new();
        for (name, value) in probe.metadata.iter().cloned().chain(probe.other_host.clone().map(|host| ("host", host))) {
            headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        }
        let Ok(answer) = connection.send(Method::GET, probe.path, headers, empty()).await else { return Ok(None) };
        open.insert(key, connection);
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let said = GNSS.iter().any(|gns| body.contains(gns));
        holds(answer.status == 200 || !said, || format!("a refusal names a GNS: {answer:?}"))?;
        Ok((answer.status == 200).then_some(body))
    }

    async fn connect(&self, probe: &Probe) -> Outcome<Connection> {
        let alpn: &[u8] = if probe.protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
        let (gateway, port) = match probe.door {
            Door::Mesh | Door::Plain => (self.demo.gateway(0, 0), SERVICE),
            Door::Public => (self.demo.gateway(0, 0), HTTPS),
            Door::Tunnel => (self.demo.gateway(1, 0), EAST_WEST),
            Door::Stream(of) => (self.demo.gateway(0, 0), STREAMS[of]),
        };
        let at = SocketAddr::new(gateway, port);
        let tcp = connect(probe.from, at).await.map_err(|error| error.to_string())?;
        match probe.door {
            Door::Plain => Connection::over(tcp, probe.protocol, "http").await,
            _ => Connection::over(self.tls(probe, tcp, alpn).await?, probe.protocol, "https").await,
        }
    }

    async fn tls(
        &self,
        probe: &Probe,
        tcp: TcpStream,
        alpn: &[u8],
    ) -> Outcome<tokio_rustls::client::TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.credentials[probe.credential].config(alpn)));
        let name = ServerName::try_from(probe.sni.clone()).unwrap();
        connector.connect(name, tcp).await.map_err(|error| error.to_string())
    }

    async fn greeting(&self, probe: &Probe, of: usize) -> Option<String> {
        let at = SocketAddr::new(self.demo.gateway(0, 0), STREAMS[of]);
        let tcp = connect(probe.from, at).await.ok()?;
        // Of plain text a permissive gateway thinks for a moment that it may be waited for.
        let mut io = self.tls(probe, tcp, b"tombolo/1").await.ok()?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(io.read_u8().await.ok()?);
        }
        Some(String::from_utf8(line).unwrap().trim_end().to_owned())
    }

    /// Which GNS may answer, if any; and whether it must.
    fn expected(&self, probe: &Probe) -> Option<(&'static str, bool)> {
        let proves = self.credentials[probe.credential].proves;
        match probe.door {
            Door::Mesh => {
                let (gns, service, plain) = meant(&probe.host)?;
                let domain = format!("{gns}.internal");
                let called = probe.sni == domain || probe.sni.ends_with(&format!(".{domain}"));
                let one_host = probe.other_host.is_none();
                (called && one_host && may_call(proves, gns, service)).then_some((gns, plain))
            }
            Door::Plain => {
                let (gns, _, plain) = meant(&probe.host)?;
                let at_home = gns == "blue" && probe.from == self.from("blue");
                (at_home && probe.other_host.is_none()).then_some((gns, plain))
            }
            Door::Stream(of) => may_call(proves, GNSS[of], "stream").then_some((GNSS[of], true)),
            Door::Tunnel => {
                let gns = GNSS[self.labels.iter().position(|label| *label == probe.sni)?];
                let Proves::Gateway(from) = proves else { return None };
                let said =
                    |name: &str| probe.metadata.iter().find(|(is, _)| *is == name).map(|(_, value)| value.as_str());
                let (cluster, service, source) =
                    (said("tombolo-cluster")?, said("tombolo-service")?, said("tombolo-source"));
                let id = |service: &str| format!("spiffe://{from}.demo.internal/cluster/north/ns/{from}/svc/{service}");
                let speaks_for = |service: &str| source == Some(id(service).as_str());
                let lets_in = match from == gns {
                    true => source.is_none() || SERVICES.iter().any(|service| speaks_for(service)),
                    false => (from, gns, service) == ("red", "blue", "pay") && speaks_for("cart"),
                };
                let here = cluster == "south" && SERVICES.contains(&service) && said("tombolo-port") == Some("8080");
                (here && lets_in).then_some((gns, probe.other_host.is_none()))
            }
            Door::Public => {
                let gns = GNSS.into_iter().find(|gns| probe.host == format!("{gns}.example.com"))?;
                (probe.sni == probe.host && probe.other_host.is_none()).then_some((gns, true))
            }
        }
    }
}

type Open = HashMap<(Door, String, usize, Protocol, IpAddr), Connection>;

/// The GNS and the service that a host means, if it may mean any, and whether every gateway must understand it.
fn meant(host: &str) -> Option<(&'static str, &str, bool)> {
    let is_plain = !host.ends_with('.') && host == host.to_lowercase();
    let name = host.split(':').next()?.trim_end_matches('.');
    let gns = GNSS.into_iter().find(|gns| name.to_lowercase().ends_with(&format!(".{gns}.internal")))?;
    let below = &name[..name.len() - format!(".{gns}.internal").len()];
    let service = SERVICES.into_iter().find(|service| {
        let below = below.to_lowercase();
        below == *service || ["v1", "south", "north"].iter().any(|part| below == format!("{part}.{service}"))
    })?;
    Some((gns, service, is_plain))
}

fn may_call(proves: Proves, gns: &str, service: &str) -> bool {
    match proves {
        Proves::Workload(of, _) if of == gns => true,
        Proves::Workload("red", "cart") => (gns, service) == ("blue", "pay"),
        _ => false,
    }
}

const POLICY: &str = "apiVersion: tombolo.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: carts-pay}\n\
    spec: {globalNamespace: blue, from: [{globalNamespace: red, service: cart}], to: [{service: pay}]}\n";

fn manifests(demo: &Demo) -> String {
    let gns = |(name, mode): (&str, &str)| {
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\n\
             spec: {{domain: {name}.internal, mtls: {mode}, \
             members: [{{cluster: {{prefix: \"\"}}, namespace: {{exact: {name}}}}}]}}\n---\n\
             apiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {{name: {name}}}\n\
             spec: {{globalNamespace: {name}, service: cart, port: {SERVICE}, \
             hosts: [{{name: {name}.example.com}}], tls: {{mode: https, certificate: selfSigned}}}}\n"
        )
    };
    let cluster = |(at, name): (u8, &str)| {
        let row = |(third, namespace): (u8, &str)| {
            format!("{{cidr: {}/24, namespace: {namespace}}}", demo.address(at, third, 0))
        };
        let rows = [(2, "shop"), (3, "red"), (4, "blue")].map(row).join(", ");
        format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{workloads: [{rows}]}}\n"
        )
    };
    // The demo keeps `*.example.com` for its own GNS.
    let shop = "apiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {name: shop}\n\
        spec: {domain: shop.internal, members: [{cluster: {prefix: \"\"}, namespace: {exact: shop}}]}\n";
    let gns = [("red", "strict"), ("blue", "permissive")].map(gns);
    let clusters = (0..).zip(CLUSTERS).map(cluster);
    [shop.to_owned()].into_iter().chain(gns).chain(clusters).collect::<Vec<_>>().join("---\n")
}

async fn members(demo: &Demo, cluster: u8) -> [Member; 2] {
    [Member::of(demo, cluster, "red").await, Member::of(demo, cluster, "blue").await]
}

/// The services of both GNSs in a cluster: they answer with the GNS's name.
async fn serve(demo: &Demo, cluster: u8, members: &[Member; 2]) {
    let mut manifests = Vec::new();
    for (at, (gns, member)) in GNSS.into_iter().zip(members).enumerate() {
        for (host, name) in (71 + 10 * at as u8..).zip(["cart", "pay", "stream"]) {
            let address = SocketAddr::new(demo.address(cluster, 1, host), 9443);
            let (inside, port) = match name {
                "stream" => (Inside::Bytes, format!("port: {}, protocol: tcp", STREAMS[at])),
                _ => (Inside::Http1, format!("port: {SERVICE}, protocol: http")),
            };
            workload::serve(address, member, &member.workload(gns, name), inside, gns).await;
            manifests.push(service(member.cluster, gns, name, &port, "mesh", &[address]));
        }
    }
    register(demo, cluster, "isolation", &manifests);
}

/// The one DNS name in a gateway's certificate.
fn label(text: &str) -> String {
    let leaf = CertificateDer::pem_slice_iter(text.as_bytes()).next().unwrap().unwrap();
    Facts::read(&leaf).unwrap().dns_names.remove(0)
}

/// What came of all probes.
#[derive(Default)]
struct Tally {
    leaks: Vec<String>,
    served: BTreeMap<String, usize>,
    refused: usize,
    /// Probes that must be served, and those of them that were.
    must: usize,
    were: usize,
    unserved: Vec<String>,
}

async fn prober(lab: Arc<Lab>, probes: Vec<Probe>, tally: Arc<Mutex<Tally>>) {
    let mut open = Open::new();
    for probe in probes {
        let asked = tokio::time::timeout(Duration::from_secs(10), lab.ask(&probe, &mut open)).await;
        let (served, expected) = (asked.unwrap_or(Ok(None)), lab.expected(&probe));
        tally.lock().unwrap().count(&lab, &probe, served, expected);
    }
}

impl Tally {
    fn count(
        &mut self,
        lab: &Lab,
        probe: &Probe,
        served: Outcome<Option<String>>,
        expected: Option<(&'static str, bool)>,
    ) {
        let told = || format!("{probe:?} with {}", lab.credentials[probe.credential].name);
        if expected.is_some_and(|(_, must)| must && probe.path != ABOVE) {
            self.must += 1;
            match &served {
                Ok(Some(_)) => self.were += 1,
                other => self.unserved.push(format!("{other:?}: {}", told())),
            }
        }
        match served {
            Err(leak) => self.leaks.push(format!("{leak}: {}", told())),
            Ok(None) => self.refused += 1,
            Ok(Some(gns)) if expected.is_none_or(|(may, _)| may != gns) => {
                self.leaks.push(format!("served by {gns}, expected {expected:?}: {}", told()));
            }
            Ok(Some(gns)) => *self.served.entry(format!("{:?} {gns}", probe.door)).or_default() += 1,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_thousand_probes_none_reaches_what_it_may_not() {
    let (lab, tally) = (Arc::new(Lab::start().await), Arc::<Mutex<Tally>>::default());
    let mut dice = Dice(SEED);
    let probes: Vec<Probe> = (0..PROBES).map(|_| lab.draw(&mut dice)).collect();
    let mut probers = JoinSet::new();
    for part in probes.chunks(PROBES.div_ceil(PROBERS)) {
        probers.spawn(prober(lab.clone(), part.to_vec(), tally.clone()));
    }
    probers.join_all().await;
    let Tally { leaks, served, refused, must, were, unserved } = std::mem::take(&mut *tally.lock().unwrap());
    eprintln!("{refused} refused; of {must} that must be served {were} were; {served:#?}");
    assert!(leaks.is_empty(), "{} leaks, as {:#?}", leaks.len(), &leaks[..leaks.len().min(5)]);
    assert!(refused + served.values().sum::<usize>() >= 10_000);
    assert!(were as f64 >= must as f64 * SERVED, "{were} of {must}, not {:#?}", &unserved[..unserved.len().min(8)]);
    for way in ["Mesh red", "Mesh blue", "Plain blue", "Stream(0) red", "Stream(1) blue", "Tunnel red", "Tunnel blue"] {
        assert!(served.get(way).is_some_and(|times| *times >= 10), "{way}: {served:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_between_clusters_hears_no_name() {
    let demo = Demo::with(&["--quiet", "--no-restart"]).await;
    demo.cli(|cli| cli.apply(&manifests(&demo)).success());
    let (north, south) = (members(&demo, 0).await, members(&demo, 1).await);
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let spies = [(0, 81), (1, 82)].map(|(gateway, host)| {
        (SocketAddr::new(demo.gateway(1, gateway), EAST_WEST), SocketAddr::new(demo.address(1, 0, host), EAST_WEST))
    });
    for (gateway, at) in spies {
        spy(at, gateway, heard.clone()).await;
    }
    let gateways =
        ["gw-a", "gw-b"].into_iter().zip(spies).map(|(name, (_, at))| format!("{{name: {name}, eastWest: \"{at}\"}}"));
    let gateways = gateways.collect::<Vec<_>>().join(", ");
    let rows = format!("{{cidr: {}/24, namespace: red}}", demo.address(1, 3, 0));
    demo.cli(|cli| {
        cli.make_ready(&format!(
            "apiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: south}}\n\
             spec: {{gateways: [{gateways}], workloads: [{rows}]}}\n"
        ));
    });
    let at = SocketAddr::new(demo.address(1, 1, 77), 9443);
    workload::serve(at, &south[0], &south[0].workload("red", "quokka"), Inside::Http1, "wombat-body").await;
    register(
        &demo,
        1,
        "quokka",
        &[service("south", "red", "quokka", &format!("port: {SERVICE}, protocol: http"), "mesh", &[at])],
    );
    let caller = Caller::new(north[0].workload("red", "platypus"), demo.address(0, 3, 1));
    let through = async || {
        let before = heard.lock().unwrap().len();
        let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
        let mut to = caller.http(at, "quokka.red.internal", &north[0], Protocol::Http2).await?;
        let answer = to.get("/echidna?numbat").await?;
        holds(answer.body == "wombat-body", || format!("{answer:?}"))?;
        holds(heard.lock().unwrap().len() > before, || "it went another way".to_owned())
    };
    eventually("a request crosses, overheard", through).await;
    let heard = heard.lock().unwrap().to_ascii_lowercase();
    for word in
        ["quokka", "platypus", "wombat", "echidna", "numbat", "spiffe", "internal", "tombolo-service", "gw-a", "north"]
    {
        let found = heard.windows(word.len()).any(|window| window == word.as_bytes());
        // The opaque names of the tunnels are in clear: they must not lead anywhere.
        assert!(!found, "{word:?} was overheard");
    }
}
