//! An agent and its members over real TLS on loopback, with a controller that does only what they need.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

extern crate tombolo_controller as controller;

#[path = "../connection/mod.rs"]
#[allow(dead_code)] // of the two that share it, one knocks and one speaks
mod connection;
mod controller_fake;
mod life;
mod refusals;
mod releases;
mod workload_api;
mod workloads;
