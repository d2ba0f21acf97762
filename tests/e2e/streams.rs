//! Connections whose bytes are passed on unread, and what a connection may begin with.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::StatusCode;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::certs::{Authority, Issued};
use crate::support::cli::Cli;
use crate::support::demo::{ADMIN, CLUSTERS, Demo, HOST, HTTP, HTTPS, SERVICE};
use crate::support::http::{Client, Outcome, Protocol, connect, plain};
use crate::support::process::signal;
use crate::support::router::{self, Router};
use crate::support::streams::{self, Caller, Instance};
use crate::support::{eventually, holds, upstream};

/// A service of its own with one instance in one cluster, once its port answers in another.
struct Tcp<'d> {
    demo: &'d Demo,
    port: u16,
    _instance: Instance,
}

impl<'d> Tcp<'d> {
    async fn start(demo: &'d Demo, cluster: u8, name: &str, port: u16) -> Tcp<'d> {
        let at = SocketAddr::new(demo.address(cluster, 1, 41), port);
        let instance = streams::instance(at, name).await;
        register(demo, cluster, name, &format!("port: {port}, protocol: tcp"), &[at]);
        Tcp { demo, port, _instance: instance }
    }

    /// A workload of a cluster that talks with it.
    async fn caller(&self, cluster: u8) -> Caller<TcpStream> {
        eventually("the service answers", async || call(self.demo, cluster, self.port).await).await.0
    }
}

fn register(demo: &Demo, cluster: u8, name: &str, port: &str, instances: &[SocketAddr]) {
    let cluster = CLUSTERS[usize::from(cluster)];
    streams::register(&demo.state.join(cluster).join("services"), cluster, name, port, instances);
}

/// A workload's call to a port of its gateway, and who answers it.
async fn call(demo: &Demo, cluster: u8, port: u16) -> Outcome<(Caller<TcpStream>, String)> {
    let at = SocketAddr::new(demo.gateway(cluster, 0), port);
    let mut caller = Caller::connect(demo.workload(cluster), at).await?;
    let name = caller.greeting().await?;
    Ok((caller, name))
}

#[tokio::test]
async fn a_stream_reaches_its_service_here_and_there_and_each_side_ends_when_it_will() {
    let demo = Demo::shared().await;
    let service = Tcp::start(demo, 0, "talk", 15001).await;
    for cluster in [0, 2] {
        let mut caller = service.caller(cluster).await;
        caller.echoes(b"hello").await.unwrap();
        caller.echoes(&[0, 255, 13, 10]).await.unwrap();
        caller.ends().await.unwrap();
        let line = eventually("the stream is in the log", async || log_line(demo, cluster, "talk")).await;
        let client = demo.workload(cluster).to_string();
        assert_eq!((line["door"].as_str(), line["client"].as_str()), (Some("mesh"), Some(client.as_str())));
        assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(9), Some(17)), "{line}");
        assert!(line["served_by"].as_str().unwrap().starts_with("north/v1/"), "{line}");
        assert!(line.get("refusal").is_none(), "{line}");
    }
}

/// The first line of a service in the access log of a cluster's first gateway.
fn log_line(demo: &Demo, cluster: u8, service: &str) -> Outcome<Value> {
    let path = format!("logs/{}-gw-a.access.log", CLUSTERS[usize::from(cluster)]);
    let log = std::fs::read_to_string(demo.state.join(path)).unwrap();
    let of_service = |line: &Value| line["service"] == service && line["bytes_in"] != 0;
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.into_iter().find(of_service).ok_or_else(|| format!("nothing of {service}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_flow_both_ways_at_once_in_this_cluster_and_across_two() {
    const WORDS: u32 = 50 << 18;
    let demo = Demo::shared().await;
    let service = Tcp::start(demo, 1, "bulk", 15002).await;
    for cluster in [1, 0] {
        let (mut from, mut to) = service.caller(cluster).await.into_inner().into_split();
        let sending = async {
            for words in (0..WORDS).collect::<Vec<_>>().chunks(1 << 14) {
                to.write_all(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>()).await.unwrap();
            }
            to.shutdown().await.unwrap();
        };
        let receiving = async {
            let mut part = vec![0; 4 << 14];
            for words in (0..WORDS).collect::<Vec<_>>().chunks(1 << 14) {
                from.read_exact(&mut part).await.unwrap();
                assert!(part == words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>());
            }
            let mut last = Vec::new();
            from.read_to_end(&mut last).await.unwrap();
            assert_eq!(last, b"bye");
        };
        tokio::join!(sending, receiving);
    }
}

#[tokio::test]
async fn no_connection_is_lost_with_an_instance() {
    let demo = Demo::shared().await;
    let port = 15003;
    let [first, second, away] = [(0, 42), (0, 43), (1, 42)].map(|(cluster, host)| {
        let at = SocketAddr::new(demo.address(cluster, 1, host), port);
        (cluster, at)
    });
    let mut instances = Vec::new();
    for ((_, at), name) in [(first, "first"), (second, "second"), (away, "away")] {
        instances.push(streams::instance(at, name).await);
    }
    register(demo, 0, "many", &format!("port: {port}, protocol: tcp"), &[first.1, second.1]);
    register(demo, 1, "many", &format!("port: {port}, protocol: tcp"), &[away.1]);
    for (left, names) in [(3, vec!["away", "first", "second"]), (2, vec!["away", "second"]), (1, vec!["away"])] {
        if left < 3 {
            instances.remove(0).die().await;
        }
        let all = async || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..12 {
                let call = call(demo, 0, port).await;
                // Once all of them are known, no call may fail, whoever has just died.
                assert!(left == 3 || call.is_ok(), "{:?}", call.err());
                seen.insert(call?.1);
            }
            holds(seen.iter().eq(&names), || format!("{seen:?}"))
        };
        eventually(&format!("{names:?} serve"), all).await;
    }
}

#[tokio::test]
async fn a_stream_that_its_instance_breaks_off_does_not_seem_to_end() {
    let demo = Demo::shared().await;
    let at = SocketAddr::new(demo.address(0, 1, 44), 15004);
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let breaking = tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            // Only a caller has something to say; health checks do not.
            if io.read_u8().await.is_ok() {
                io.write_all(b"half of").await.unwrap();
                io.set_zero_linger().unwrap();
            }
        }
    });
    register(demo, 0, "brittle", "port: 15004, protocol: tcp", &[at]);
    for cluster in [0, 1] {
        let gateway = SocketAddr::new(demo.gateway(cluster, 0), 15004);
        let mut said = Vec::new();
        eventually("it breaks off what it began", async || {
            said.clear();
            let mut io = connect(demo.workload(cluster), gateway).await.map_err(|error| error.to_string())?;
            io.write_all(b"?").await.map_err(|error| error.to_string())?;
            let ended = io.read_to_end(&mut said).await;
            // Before the service is known there, nothing is said at all.
            holds(!said.is_empty(), || format!("{ended:?}"))?;
            assert_eq!(ended.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
            Outcome::Ok(())
        })
        .await;
    }
    breaking.abort();
}

#[tokio::test]
async fn a_stranger_gets_no_stream() {
    let demo = Demo::shared().await;
    let service = Tcp::start(demo, 0, "shy", 15005).await;
    service.caller(0).await.ends().await.unwrap();
    let at = SocketAddr::new(demo.gateway(0, 0), service.port);
    let greeted = async { Caller::connect(demo.address(0, 3, 1), at).await?.greeting().await };
    let refused = greeted.await.unwrap_err();
    assert!(refused.contains("reset"), "{refused}");
}

#[tokio::test]
async fn who_asks_in_http_for_what_is_none_is_told_so() {
    let demo = Demo::shared().await;
    let _service = Tcp::start(demo, 0, "mute", 15006).await;
    demo.cli(|cli| _ = cli.apply(&router::public("mute", "mute", 15006, "{mode: http}")).success());
    let refused = async || {
        let at = SocketAddr::new(demo.gateway(1, 0), HTTP);
        let answer = plain(demo.address(1, 3, 1), at, "mute.example.com", Protocol::Http1).await?.get("/").await?;
        let told = answer.status == StatusCode::SERVICE_UNAVAILABLE
            && answer.body.starts_with(b"The service does not speak HTTP");
        holds(told, || format!("{answer:?}"))
    };
    eventually("the service's port speaks no HTTP", refused).await;
    let condition = demo.cli(|cli| cli.run(&["describe", "ps/shop/mute"])).success();
    assert!(condition.contains("WrongProtocol"), "{condition}");
}

#[tokio::test]
async fn an_instance_is_told_who_called_here_and_there() {
    let demo = Demo::shared().await;
    let at = SocketAddr::new(demo.address(1, 1, 45), 15007);
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    // It says what it gets first.
    let told = tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut header = [0; 28];
                io.read_exact(&mut header).await?;
                io.write_all(&header).await
            });
        }
    });
    register(demo, 1, "told", "port: 15007, protocol: tcp, proxyProtocol: v2", &[at]);
    for cluster in [1, 0] {
        let at = SocketAddr::new(demo.gateway(cluster, 0), 15007);
        let (own, header) = eventually("it is told", async || {
            let mut io = connect(demo.workload(cluster), at).await?;
            let (own, mut header) = (io.local_addr()?, [0; 28]);
            io.read_exact(&mut header).await?;
            std::io::Result::Ok((own, header))
        })
        .await;
        let ip = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(ip) => panic!("{ip}"),
        };
        let expected = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
            &ip(own.ip()),
            &ip(at.ip()),
            &own.port().to_be_bytes(),
            &at.port().to_be_bytes(),
        ];
        assert_eq!(header[..], expected.concat());
    }
    told.abort();
}

/// A public host whose TLS is that of its instance, in cluster 1, once it answers at a gateway there and at one elsewhere.
struct Sealed {
    host: String,
    trusted: Authority,
    gateways: [SocketAddr; 2],
    _instance: Instance,
}

impl Sealed {
    async fn start(demo: &Demo, name: &str, port: u16) -> Sealed {
        let (host, trusted) = (format!("{name}.example.com"), Authority::new("the instance's own"));
        let Issued { certificate, key } = trusted.issue(&host);
        let at = SocketAddr::new(demo.address(1, 1, 46), port);
        let instance = streams::tls_instance(at, name, &Issued { certificate, key }).await;
        register(demo, 1, name, &format!("port: {port}, protocol: tls"), &[at]);
        demo.cli(|cli| _ = cli.apply(&router::public(name, name, port, "{mode: passthrough}")).success());
        let gateways = [1, 0].map(|cluster| SocketAddr::new(demo.gateway(cluster, 0), HTTPS));
        let sealed = Sealed { host, trusted, gateways, _instance: instance };
        for at in sealed.gateways {
            eventually("the sealed host answers", async || sealed.talks(at).await).await;
        }
        sealed
    }

    async fn talks(&self, at: SocketAddr) -> Outcome<()> {
        let client = Client::trusting(&self.trusted.pem());
        let mut caller = Caller::over(client.tls(at, &self.host, b"anything").await?);
        caller.greeting().await?;
        caller.echoes(b"secret").await?;
        caller.ends().await
    }
}

#[tokio::test]
async fn tls_that_is_passed_through_ends_at_the_instance_however_its_beginning_is_cut() {
    let demo = Demo::shared().await;
    let sealed = Sealed::start(demo, "sealed", 15008).await;
    for at in sealed.gateways {
        for recut in [false, true] {
            let (host, trusted) = (sealed.host.clone(), sealed.trusted.pem());
            let said = tokio::task::spawn_blocking(move || dripped(at, &host, &trusted, recut)).await.unwrap();
            assert_eq!(said, "sealed\nhello", "at {at}, records cut: {recut}");
        }
    }
}

/// Talks with a TLS server, each byte of the first flight by itself; and also each in its own record, if that is wanted.
fn dripped(at: SocketAddr, host: &str, trusted: &str, recut: bool) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config.with_no_client_auth()), name).unwrap();
    let mut io = std::net::TcpStream::connect(at).unwrap();
    let flight = match recut {
        true => streams::one_byte_a_record(&mut connection),
        false => {
            let mut flight = Vec::new();
            connection.write_tls(&mut flight).unwrap();
            flight
        }
    };
    streams::one_byte_a_segment(&mut io, &flight);
    let mut tls = rustls::Stream::new(&mut connection, &mut io);
    tls.write_all(b"hello").unwrap();
    let mut said = [0; 12];
    tls.read_exact(&mut said).unwrap();
    String::from_utf8(said.into()).unwrap()
}

#[tokio::test]
async fn a_sealed_host_is_nowhere_but_behind_its_own_tls() {
    let demo = Demo::shared().await;
    let sealed = Sealed::start(demo, "closed", 15009).await;
    let at = SocketAddr::new(demo.gateway(0, 0), HTTPS);
    let mut other = demo.client().https(at, HOST, Protocol::Http2).await.unwrap();
    other.authority = format!("{}:{HTTPS}", sealed.host);
    assert_eq!(other.get("/").await.unwrap().status, StatusCode::MISDIRECTED_REQUEST);
    let at = SocketAddr::new(demo.gateway(0, 0), HTTP);
    let mut clear = plain(demo.address(0, 3, 1), at, &sealed.host, Protocol::Http1).await.unwrap();
    assert_eq!(clear.get("/").await.unwrap().status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_to_the_public_and_to_workloads() {
    let demo = Demo::shared().await;
    demo.cli(|cli| cli.make_ready(&router::public("clear", "web", SERVICE, "{mode: http}")));
    let at = SocketAddr::new(demo.gateway(0, 0), HTTP);
    let mut public = plain(demo.address(0, 3, 1), at, "clear.example.com", Protocol::Http2).await.unwrap();
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let mut mesh = plain(demo.workload(0), at, "cart.shop.internal", Protocol::Http2).await.unwrap();
    for connection in [&mut public, &mut mesh] {
        for _ in 0..3 {
            assert_eq!(connection.get("/").await.unwrap().status, StatusCode::OK);
        }
    }
}

/// A router in front of an HTTP instance, which believes the proxies of a network.
struct Believing {
    router: Router,
    proxy: IpAddr,
    other: IpAddr,
}

impl Believing {
    /// `number` tells the addresses, so that each test has its own.
    async fn start(number: u8) -> Believing {
        let [home, instance, other, proxy] = [1, 2, 4, 9].map(|host| router::address(number, host));
        let at = SocketAddr::new(instance, 9000);
        upstream::serve(at).await;
        let manifests = router::shop(&format!("{other}/32"))
            + &upstream::service("local", "web", &[at])
            + "---\n"
            + &router::public("clear", "web", 8080, "{mode: http}")
            + &router::public("secret", "web", 8080, "{certificate: selfSigned}");
        let network = format!("--proxy-protocol-from={}/30", router::address(number, 8));
        let router = Router::start(home, &manifests, &[&network]);
        eventually("it serves", async || {
            let said = caller_seen(other, router.at(HTTP), b"").await?;
            holds(said.ends_with(&other.to_string()), || said)
        })
        .await;
        Believing { router, proxy, other }
    }
}

/// For whom the gateway asks when a connection begins so.
async fn caller_seen(from: IpAddr, at: SocketAddr, begins: &[u8]) -> Outcome<String> {
    let asked = async {
        let mut io = connect(from, at).await?;
        let request = b"GET /caller HTTP/1.1\r\nhost: clear.example.com\r\nconnection: close\r\n\r\n";
        io.write_all(&[begins, request].concat()).await?;
        let mut answer = String::new();
        io.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    asked.await.map_err(|error| error.to_string())
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 80\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
    \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x0f\xa0\0\x50";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[tokio::test]
async fn a_trusted_proxy_says_who_called_and_nobody_else_does() {
    let Believing { router, proxy, other } = Believing::start(1).await;
    let at = router.at(HTTP);
    for (header, expected) in [(V1, "192.0.2.7"), (V2, "2001:db8::7"), (LOCAL, &proxy.to_string())] {
        let answer = caller_seen(proxy, at, header).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("\r\n{expected}")), "{answer}");
        // From anyone else it is a malformed request.
        let answer = caller_seen(other, at, header).await.unwrap_or_default();
        assert!(!answer.starts_with("HTTP/1.1 200") && !answer.contains("192.0.2.7"), "{answer}");
    }
    let silent = caller_seen(proxy, at, b"").await;
    assert!(silent.as_ref().map_or(true, String::is_empty), "{silent:?}");
    let mut admin = plain(other, router.at(ADMIN), "admin", Protocol::Http1).await.unwrap();
    let metrics = String::from_utf8(admin.get("/metrics").await.unwrap().body.into()).unwrap();
    assert!(metrics.contains("tombolo_refused_connections_total{reason=\"proxy_header\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_trusted_proxy_says_who_called_before_tls_begins() {
    let Believing { router, proxy, .. } = Believing::start(2).await;
    let ca = Cli { context: &router.context() }.run(&["ca"]).success();
    let client = Client::trusting(&ca);
    for (header, expected) in [(V1, "192.0.2.7"), (V2, "2001:db8::7")] {
        let answer = eventually("it serves over TLS", async || {
            let mut io = connect(proxy, router.at(HTTPS)).await.map_err(|error| error.to_string())?;
            io.write_all(header).await.map_err(|error| error.to_string())?;
            client.https_over(io, "secret.example.com", Protocol::Http2).await?.get("/caller").await
        })
        .await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, expected.as_bytes()));
    }
}

/// Ports on which nobody listens now. The DNS server's admin port is one above the gateway's.
fn free_ports<const N: usize>(at: IpAddr) -> [u16; N] {
    let held = [(); N].map(|()| std::net::TcpListener::bind((at, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn a_gateway_on_ipv6_serves_requests_and_streams() {
    let home = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]);
    let [web, tcp, web_port, tcp_port, http, https, api, agent, dns, admin] = free_ports(home);
    let [web, tcp] = [web, tcp].map(|port| SocketAddr::new(home, port));
    upstream::serve(web).await;
    let _instance = streams::instance(tcp, "six").await;
    let manifests = router::shop("::1/128")
        + &streams::service("local", "web", &format!("port: {web_port}"), &[web])
        + "---\n"
        + &streams::service("local", "six", &format!("port: {tcp_port}, protocol: tcp"), &[tcp])
        + "---\n"
        + &router::public("clear", "web", web_port, "{mode: http}");
    let flags = [("http", http), ("https", https), ("api", api), ("agent", agent), ("dns", dns), ("admin", admin)];
    let flags = flags.map(|(name, port)| format!("--{name}-port={port}"));
    let router = Router::start(home, &manifests, &flags.each_ref().map(String::as_str));
    let public = async || {
        let said = caller_seen(home, router.at(http), b"").await?;
        holds(said.ends_with("::1"), || said)
    };
    eventually("it serves requests", public).await;
    let stream = async || {
        let mut caller = Caller::connect(home, router.at(tcp_port)).await?;
        caller.greeting().await?;
        caller.echoes(b"hello").await?;
        caller.ends().await
    };
    eventually("it serves streams", stream).await;
}

#[tokio::test]
async fn a_stopping_gateway_lets_streams_end() {
    let [home, instance] = [1, 2].map(|host| router::address(3, host));
    let at = SocketAddr::new(instance, 9000);
    let _instance = streams::instance(at, "lasting").await;
    let manifests = router::shop(&format!("{home}/32"))
        + &streams::service("local", "lasting", "port: 15010, protocol: tcp", &[at]);
    let mut router = Router::start(home, &manifests, &[]);
    let mut caller = eventually("it answers", async || {
        let mut caller = Caller::connect(home, router.at(15010)).await?;
        caller.greeting().await?;
        Outcome::Ok(caller)
    })
    .await;
    signal("TERM", &[router.process.pid()]);
    eventually("it takes no more", async || {
        holds(Caller::connect(home, router.at(15010)).await.is_err(), || "it still listens".to_owned())
    })
    .await;
    caller.echoes(b"still here").await.unwrap();
    caller.ends().await.unwrap();
    assert!(router.process.wait().success());
    assert!(router.access_log().contains("\"service\":\"lasting\""), "{}", router.access_log());
}
