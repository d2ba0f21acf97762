//! Over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use config::live::{Publisher, channel};
use config::snapshot::Place;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket as Udp};
use tokio::time::timeout;

use super::*;
use crate::datagrams::BATCH;
use crate::fixture::{DEAD, health, name, snapshot};

const PATIENCE: Duration = Duration::from_secs(5);

struct Running {
    server: Arc<DnsServer>,
    registry: Registry,
    snapshots: Publisher<Snapshot>,
    healths: Publisher<Health>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
}

fn start(initial: Snapshot) -> Running {
    let (snapshots, snapshot) = channel(Arc::new(initial));
    let (healths, health) = channel(Arc::new(Health::default()));
    let (registry, shutdown) = (Registry::new(), CancellationToken::new());
    let settings = Settings { listen: "127.0.0.1:0".parse().unwrap() };
    let server = Arc::new(DnsServer::build(settings, snapshot, health, &registry).unwrap());
    let task = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.run(shutdown).await }
    });
    Running { server, registry, snapshots, healths, shutdown, task }
}

fn question(text: &str) -> Vec<u8> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(text).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn exchange_udp(socket: &Udp, packet: &[u8]) -> Message {
    socket.send(packet).await.unwrap();
    let mut buffer = [0; 2048];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(buffer.get(..length).unwrap()).unwrap()
}

async fn exchange_tcp(stream: &mut TcpStream, packet: &[u8]) -> Message {
    stream.write_u16(packet.len().try_into().unwrap()).await.unwrap();
    stream.write_all(packet).await.unwrap();
    let length = timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

async fn udp_to(running: &Running) -> Udp {
    let socket = Udp::bind("127.0.0.1:0").await.unwrap();
    socket.connect(running.server.local_addr()).await.unwrap();
    socket
}

fn counter(running: &Running, family: &str, label: &str) -> u64 {
    let families = running.registry.gather();
    let family = families.iter().find(|found| found.name() == family).unwrap();
    let metric = family.get_metric().iter().find(|metric| metric.get_label().iter().any(|pair| pair.value() == label));
    metric.unwrap().get_counter().get_value() as u64
}

#[tokio::test]
async fn answers_over_udp_and_tcp_survive_garbage() {
    let running = start(snapshot());
    let udp = udp_to(&running).await;
    udp.send(b"garbage").await.unwrap();
    assert_eq!(exchange_udp(&udp, &[0; 64]).await.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(exchange_udp(&udp, &question("cart.shop.internal.")).await.answers.len(), 2);

    let mut tcp = TcpStream::connect(running.server.local_addr()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(exchange_tcp(&mut tcp, &question("shop.example.com.")).await.answers.len(), 4);
    }
    tcp.write_all(&[0xff; 600]).await.unwrap();
    assert!(matches!(timeout(PATIENCE, tcp.read(&mut [0; 1])).await.unwrap(), Ok(0) | Err(_)), "closed");
    let mut tcp = TcpStream::connect(running.server.local_addr()).await.unwrap();
    let answer = exchange_tcp(&mut tcp, &question("x.shop.internal.")).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);

    assert_eq!(counter(&running, "tombolo_dns_queries_total", "NOERROR"), 3);
    assert_eq!(counter(&running, "tombolo_dns_queries_total", "NXDOMAIN"), 1);
    assert_eq!(counter(&running, "tombolo_dns_queries_total", "FORMERR"), 1);
    assert_eq!(counter(&running, "tombolo_dns_dropped_total", "malformed"), 2);
    running.shutdown.cancel();
    timeout(PATIENCE, running.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_burst_is_answered_to_each_who_asked() {
    let running = start(snapshot());
    let clients = [udp_to(&running).await, udp_to(&running).await, udp_to(&running).await];
    let questions = u8::try_from(2 * BATCH).unwrap();
    for id in 0..questions {
        let packet = [&[0, id], question("cart.shop.internal.").get(2..).unwrap()].concat();
        clients.get(usize::from(id) % clients.len()).unwrap().send(&packet).await.unwrap();
    }
    for id in 0..questions {
        let mut buffer = [0; 512];
        let answered = clients.get(usize::from(id) % clients.len()).unwrap().recv(&mut buffer);
        let length = timeout(PATIENCE, answered).await.unwrap().unwrap();
        let answer = Message::from_vec(buffer.get(..length).unwrap()).unwrap();
        assert_eq!((answer.metadata.id, answer.answers.len()), (u16::from(id), 2));
    }
}

#[tokio::test]
async fn a_stopped_server_can_be_run_again() {
    let running = start(snapshot());
    let udp = udp_to(&running).await;
    let packet = question("cart.shop.internal.");
    running.shutdown.cancel();
    timeout(PATIENCE, running.task).await.unwrap().unwrap().unwrap();
    tokio::select! {
        ended = running.server.run(CancellationToken::new()) => panic!("{ended:?}"),
        answer = exchange_udp(&udp, &packet) => assert_eq!(answer.answers.len(), 2),
    }
}

#[tokio::test]
async fn follows_world_and_health() {
    let running = start(Snapshot::empty(Place { cluster: name("north") }));
    let udp = udp_to(&running).await;
    let packet = question("cart.shop.internal.");
    assert!(!running.server.ready());
    assert_eq!(exchange_udp(&udp, &packet).await.metadata.response_code, ResponseCode::Refused);
    running.snapshots.publish(Arc::new(snapshot()));
    assert!(running.server.ready());
    assert_eq!(exchange_udp(&udp, &packet).await.answers.len(), 2);
    running.healths.publish(Arc::new(health(&[("north", "gw-1", DEAD)], &[])));
    let answer = exchange_udp(&udp, &packet).await;
    assert_eq!(answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>(), ["10.1.0.2"]);
}

#[tokio::test]
async fn may_be_told_that_it_is_ready() {
    let running = start(Snapshot::empty(Place { cluster: name("north") }));
    running.server.mark_ready();
    assert!(running.server.ready());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let running = start(snapshot());
    let listen = running.server.local_addr();
    let (_, snapshot) = channel(Arc::new(snapshot()));
    let (_, health) = channel(Arc::new(Health::default()));
    let error = DnsServer::build(Settings { listen }, snapshot, health, &Registry::new()).err().unwrap();
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}

#[tokio::test]
async fn two_servers_cannot_share_a_registry() {
    let running = start(snapshot());
    let (_, snapshot) = channel(Arc::new(snapshot()));
    let (_, health) = channel(Arc::new(Health::default()));
    let settings = Settings { listen: "127.0.0.1:0".parse().unwrap() };
    let result = DnsServer::build(settings, snapshot, health, &running.registry);
    assert!(matches!(result, Err(BuildError::Metrics(_))));
}
