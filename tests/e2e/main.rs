//! End-to-end tests: the real binary, real sockets, real TLS. Each test's name is the sentence that it proves.
//!
//! What only reads shares one demo of three clusters; what kills or rewires has its own. Nothing here sleeps for an
//! effect: everything waits for a condition, with a deadline that a slow machine meets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

mod bounds;
mod clock;
mod control;
mod control_ca;
mod demo;
mod disconnected;
mod discovery;
mod dns;
mod durability;
mod east_west;
mod enrol;
mod explain;
mod failover;
mod floods;
mod hostile;
mod http1;
mod isolation;
mod mesh;
mod modes;
mod observability;
mod operation;
mod partitions;
mod peering;
mod protocols;
mod public;
mod readme;
mod releases;
mod resilience;
mod restart;
mod revocation;
mod rotation;
mod secrets;
mod streams;
mod takeover;
mod up;
#[allow(dead_code)] // not all of it is needed here
#[path = "../../controller/tests/connection/words.rs"]
mod words;
mod workers;
#[path = "../../controller/tests/agent/workload_api.rs"]
mod workload_api;
mod workloads;
