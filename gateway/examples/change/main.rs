//! What a change costs in a large world: how much CPU time it takes until a plan has it, for how long those who serve
//! requests are kept from it meanwhile, and what that does to requests.
//!
//! `cargo run --release -p tombolo-gateway --example change`
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

extern crate tombolo_gateway as gateway;

mod served;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use config::compile::Compiler;
use config::live::{self, Live, Publisher};
use config::snapshot::{Place, Snapshot};
use gateway::Inputs;
use gateway::health::census;
use gateway::health::checker::Checker;
use gateway::metrics::Metrics;
use gateway::plan::Plan;
use gateway::planner::Planner;
use gateway::tunnel::pool::PeerTable;
use prometheus::Registry;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use world::{CLUSTER, Large, name};

/// Changes of each kind.
const ROUNDS: usize = 21;

type Change = fn(&mut Large, usize);

const CHANGES: [(&str, Change); 3] = [
    ("one instance", Large::move_instance),
    ("one host", Large::turn_host),
    ("one certificate", Large::replace_certificate),
];

fn main() {
    served::begin_instance();
    for (services, instances) in [(1_000, 10), (1, 10_000)] {
        println!("{services} services of {instances} instances, parts in 9 other clusters, 5,000 hosts");
        let mut large = Large::new(services, instances);
        let began = cpu_time();
        let mut bench = Bench::new(&large);
        println!("  from nothing{:>39.2} ms {:>6.1} MiB", millis(cpu_time() - began), resident());
        for (what, change) in CHANGES {
            let mut spent: [Vec<Duration>; 4] = Default::default();
            for round in 0..ROUNDS {
                change(&mut large, round);
                let took = bench.change(&large);
                spent.iter_mut().zip(took).for_each(|(spent, took)| spent.push(took));
            }
            let [compile, plan, census, stall] = spent.map(median);
            println!(
                "  {what:<16} compile {compile:>7.2} ms  plan {plan:>7.2}  census {census:>6.2}  worker kept {stall:>7.2}"
            );
        }
        println!("  after all of them{:>40} {:>6.1} MiB", "", resident());
        drop(bench);
        served::measure(large);
    }
}

/// A planner in a runtime of one worker, and a clock in the same.
struct Bench {
    runtime: Runtime,
    compiler: Compiler,
    snapshots: Publisher<Snapshot>,
    plans: Live<Plan>,
    /// How long the clock's task had to wait for its turn, at worst, in microseconds.
    stall: Arc<AtomicU64>,
    /// Without these ends the planner lets go.
    _ends: Box<dyn std::any::Any>,
}

impl Bench {
    fn new(large: &Large) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut compiler = Compiler::new(Place { cluster: name(CLUSTER) });
        let (snapshots, snapshot) = live::channel(Arc::new(compiler.compile(&large.world)));
        let (keys, secrets) = live::channel(Arc::new(large.secrets.clone()));
        let (own, identities) = live::channel(Arc::default());
        let (publisher, plans) = live::channel(Arc::new(Plan::empty(snapshot.get())));
        let stop = CancellationToken::new();
        // No check runs: only the plans are measured.
        stop.cancel();
        let checker = Arc::new(Checker::new(Arc::new(|| {}), Arc::default(), stop));
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let stall = Arc::new(AtomicU64::new(0));
        let inputs = Inputs { snapshot, secrets, identities };
        let planner = runtime.block_on(async { Planner::new(inputs, publisher, checker, metrics) });
        runtime.spawn(planner.run());
        runtime.spawn(clock(stall.clone()));
        Bench { runtime, compiler, snapshots, plans, stall, _ends: Box::new((keys, own)) }
    }

    /// The CPU time of compile, plan and census, and how long the worker was kept.
    fn change(&mut self, large: &Large) -> [Duration; 4] {
        let Bench { runtime, compiler, snapshots, plans, stall, .. } = self;
        let mut plans = plans.clone();
        runtime.block_on(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            stall.store(0, Ordering::Relaxed);
            let began = cpu_time();
            let snapshot = Arc::new(compiler.compile(&large.world));
            let compiled = cpu_time();
            snapshots.publish(snapshot);
            while plans.load().snapshot.revision != large.world.revision {
                plans.changed().await;
            }
            let planned = cpu_time();
            census::take(&plans.load(), &PeerTable::default());
            let counted = cpu_time();
            tokio::time::sleep(Duration::from_millis(5)).await;
            let stall = Duration::from_micros(stall.load(Ordering::Relaxed));
            [compiled - began, planned - compiled, counted - planned, stall]
        })
    }
}

/// Asks for its turn each millisecond, as a request would.
async fn clock(worst: Arc<AtomicU64>) {
    let tick = Duration::from_millis(1);
    loop {
        let asked = Instant::now();
        tokio::time::sleep(tick).await;
        let late = asked.elapsed().saturating_sub(tick);
        worst.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    millis(all[all.len() / 2])
}

/// In milliseconds.
pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// Of the process: on a busy machine it is steadier than the clock.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// The process's resident memory, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
