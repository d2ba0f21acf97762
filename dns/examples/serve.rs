//! A DNS server over a small world of its own, to be measured without agent and gateways:
//!
//! ```sh
//! cargo run --release -p tombolo-dns --example serve -- 127.0.0.1:5300 &
//! echo 'shop.example.com A' | dnsperf -s 127.0.0.1 -p 5300 -l 5 -c 4 -T 1 -q 100
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use config::live::channel;
use config::resource::{GatewayAddresses, ResourceId, Scheme, Span, TlsMode};
use config::snapshot::{Place, PublicHost, Snapshot};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tombolo_dns::{DnsServer, Health, Settings};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let [listen, gateways] = [1, 2].map(|n| std::env::args().nth(n));
    let listen: SocketAddr =
        listen.ok_or("say where to listen, and for how many gateways: 127.0.0.1:5300 1")?.parse()?;
    let snapshot = world(gateways.map_or(Ok(1), |number| number.parse())?)?;
    let (_snapshots, snapshot) = channel(Arc::new(snapshot));
    let (_healths, health) = channel(Arc::new(Health::default()));
    let server = DnsServer::build(Settings { listen }, snapshot, health, &Registry::new())?;
    Ok(server.run(CancellationToken::new()).await?)
}

/// One public host, `shop.example.com`, and so many gateways in one cluster.
fn world(gateways: u8) -> Result<Snapshot, Failure> {
    let mut snapshot = Snapshot::empty(Place { cluster: "north".parse()? });
    let one = |n| -> Result<_, Failure> {
        let address = Some([192, 0, 2, n].into());
        Ok(GatewayAddresses { name: format!("gw-{n}").parse()?, east_west: None, public: address, mesh: address })
    };
    let gateways = (1..=gateways).map(one).collect::<Result<_, _>>()?;
    snapshot.gateways.insert("north".parse()?, gateways);
    let host = PublicHost {
        host: "shop.example.com".parse()?,
        global_namespace: "shop".parse()?,
        public_service: ResourceId::PublicService { global_namespace: "shop".parse()?, name: "web".parse()? },
        mode: TlsMode::Http,
        certificate: None,
        scheme: Scheme::RoundRobin,
        ttl: Span::from_millis(10_000),
        routes: Vec::new(),
        service_info: false,
    };
    Arc::make_mut(&mut snapshot.public_hosts).insert(host.host.clone(), Arc::new(host));
    Ok(snapshot)
}
