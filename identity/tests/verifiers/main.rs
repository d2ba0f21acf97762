//! The verifiers against right certificates and all wrong ones we can think of, in real TLS handshakes in memory.
//!
//! "Refused" always means: by the side that verifies, for the reason expected, and the other side gets an alert.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

extern crate tombolo_identity as identity;

mod control;
mod handshake;
mod mesh;
mod names;
mod settings;
mod tunnels;
mod workloads;
