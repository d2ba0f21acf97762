//! Services that an agent finds in its directory, while people edit them.

use std::net::SocketAddr;

use http::StatusCode;

use crate::support::demo::{Demo, SERVICE};
use crate::support::http::{Protocol, plain};
use crate::support::{eventually, holds, upstream};

#[tokio::test]
async fn a_half_written_manifest_leaves_the_last_good_in_force_and_the_whole_one_takes_effect() {
    let demo = Demo::own().await;
    let services = demo.state.join("north/services");
    let file = services.join("parcel.yaml");
    let instances = [40, 41].map(|host| SocketAddr::new(demo.address(0, 1, host), 9000));
    for at in instances {
        upstream::serve(at).await;
    }
    std::fs::write(&file, upstream::service("north", "parcel", &instances[..1])).unwrap();
    let at = SocketAddr::new(demo.gateway(0, 0), SERVICE);
    let mut connection = plain(demo.workload(0), at, "parcel.shop.internal", Protocol::Http1).await.unwrap();
    let answers = async |connection: &mut crate::support::http::Connection| connection.get("/").await.unwrap().status;
    eventually("the service is found", async || {
        holds(answers(&mut connection).await == StatusCode::OK, || "not yet".to_owned())
    })
    .await;

    let whole = upstream::service("north", "parcel", &instances);
    std::fs::write(&file, &whole[..whole.len() - 30]).unwrap();
    let named = || {
        let log = demo.log_of("north-agent");
        std::future::ready(holds(log.contains("parcel.yaml"), || log))
    };
    eventually("the agent names the file", named).await;
    for _ in 0..20 {
        assert_eq!(answers(&mut connection).await, StatusCode::OK, "the last good stays");
    }
    let instances_of = || demo.cli(|cli| cli.json(&["get", "svc/north/shop/parcel"]))["spec"].to_string();
    assert!(!instances_of().contains(&instances[1].ip().to_string()));

    std::fs::write(&file, &whole).unwrap();
    let effective = || {
        let spec = instances_of();
        std::future::ready(holds(spec.contains(&instances[1].ip().to_string()), || spec))
    };
    eventually("the whole manifest takes effect", effective).await;
    assert_eq!(answers(&mut connection).await, StatusCode::OK);
}
