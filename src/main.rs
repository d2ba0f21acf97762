//! Tombolo: a gateway-centric multicluster edge router. This file only starts things.

mod admin;
mod cli;
mod command;
mod demo;
mod lifeline;
mod role;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// A proxy allocates small things for each request. Without huge pages (`no_thp`) an idle gateway holds 5 MB of memory of
/// its own, with them 19.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_LOG: &str = "info,h2=warn";

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let filter = EnvFilter::try_from_env("TOMBOLO_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(ansi).with_target(false).init();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("the TLS provider was installed already");
    }
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}
