//! The global controller over its real HTTPS port: applying, joining, following, and whatever must be refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

extern crate tombolo_controller as controller;

mod access;
mod apply;
#[path = "../connection/mod.rs"]
mod connection;
mod enrolment;
mod harness;
mod past;
mod releases;
mod stream;
mod waiting;
