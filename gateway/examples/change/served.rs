//! Requests through a gateway of one worker, while nothing changes and while a large world changes ten times a second.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use config::compile::Compiler;
use config::live;
use config::snapshot::Place;
use gateway::runtime::Handle;
use gateway::settings::AccessLog;
use gateway::workers::Layout;
use gateway::{Gateway, Inputs, Limits, Settings, connections, overload};
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::millis;
use crate::world::{CLUSTER, Large, PLAIN_HOST, name};

/// From one request to the next.
const PACE: Duration = Duration::from_millis(1);
const REQUESTS: u32 = 10_000;
const CHANGES_EVERY: Duration = Duration::from_millis(100);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Begins the instance that answers the requests, for all worlds.
pub fn begin_instance() {
    let listener = TcpListener::bind("127.110.0.1:8080").unwrap();
    thread::spawn(|| answer(listener));
}

/// Prints how long requests took.
pub fn measure(mut large: Large) {
    let mut compiler = Compiler::new(Place { cluster: name(CLUSTER) });
    let (snapshots, snapshot) = live::channel(Arc::new(compiler.compile(&large.world)));
    let (keys, secrets) = live::channel(Arc::new(large.secrets.clone()));
    let (own, identities) = live::channel(Arc::default());
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handle = start(&runtime, Inputs { snapshot, secrets, identities });
    let at = handle.sockets().all()[0].local_addr().unwrap();
    println!("  requests, quiet           {}", latencies(at));
    let changes = runtime.spawn(async move {
        for round in 0.. {
            tokio::time::sleep(CHANGES_EVERY).await;
            large.move_instance(round);
            let world = large.world.clone();
            let compiled = spawn_blocking(move || {
                let snapshot = compiler.compile(&world);
                (snapshot, compiler)
            });
            let (snapshot, next) = compiled.await.unwrap();
            compiler = next;
            snapshots.publish(Arc::new(snapshot));
        }
    });
    println!("  requests, changing        {}", latencies(at));
    changes.abort();
    drop((keys, own));
}

fn start(runtime: &Runtime, inputs: Inputs) -> Handle {
    let settings = Settings {
        name: name("gw"),
        http: Some(SocketAddr::new(IpAddr::from([127, 110, 255, 1]), 0)),
        https: None,
        east_west: None,
        mesh: None,
        proxy_protocol_from: Vec::new(),
        access_log: AccessLog::Off,
        limits: Limits::default(),
        trusted_hops: Vec::new(),
        drain_wait: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        max_age: None,
        connections: connections::Limits::default(),
        overload: overload::Limits { requests: Some(25_000), lag: None },
        workers: Layout::default(),
    };
    runtime.block_on(async {
        let gateway = Gateway::build(settings, inputs, Default::default(), &Registry::new()).unwrap();
        let handle = gateway.handle();
        tokio::spawn(gateway.run(CancellationToken::new(), None));
        while handle.unchecked() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        handle
    })
}

/// Each from when it was due, so that one that waits for another counts with its wait.
fn latencies(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {PLAIN_HOST}\r\n\r\n");
    let began = Instant::now();
    let mut took: Vec<Duration> = (0..REQUESTS)
        .map(|number| {
            let due = began + PACE * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            stream.write_all(request.as_bytes()).unwrap();
            let (mut piece, mut answer) = ([0; 4_096], Vec::new());
            while !answer.ends_with(b"\r\n\r\nok") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..read]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
            due.elapsed()
        })
        .collect();
    took.sort();
    let at = |share: usize| millis(took[(took.len() - 1) * share / 1_000]);
    format!("p50 {:>6.2} ms  p99 {:>6.2}  p99.9 {:>6.2}  longest {:>6.2}", at(500), at(990), at(999), at(1_000))
}

fn answer(listener: TcpListener) {
    for mut stream in listener.incoming().flatten() {
        thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            let mut piece = [0; 4_096];
            while stream.read(&mut piece).is_ok_and(|read| read > 0) && stream.write_all(ANSWER).is_ok() {}
        });
    }
}
