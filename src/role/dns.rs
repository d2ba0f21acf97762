//! `tombolo dns`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use config::explain::{Answer, Question};
use config::live::{self, Live};
use config::snapshot::Snapshot;
use config::wire::{Ack, MemberRole, TrustReport};
use dns::{DnsServer, Health, Settings};
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{expiry, member};
use crate::admin::Admin;
use crate::lifeline;

mod health;

/// A DNS server's flags.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    #[command(flatten)]
    pub member: member::MemberArgs,
    /// Where it answers, over UDP and TCP.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:53")]
    pub listen: SocketAddr,
    /// Where metrics and health are asked for.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7471")]
    pub admin: SocketAddr,
    /// The admin port of this cluster's gateways, whose health it follows.
    #[arg(long, value_name = "PORT", default_value_t = 7470)]
    pub gateway_admin_port: u16,
}

/// Runs a DNS server until a signal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    serve(args, lifeline::stop_token()?).await
}

/// Runs a DNS server until told to stop.
pub async fn serve(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let registry = Registry::new();
    let following = member::follow(args.member, MemberRole::Dns, None)?;
    let (publisher, health) = live::channel(Arc::new(Health::default()));
    let settings = Settings { listen: args.listen };
    let server = Arc::new(DnsServer::build(settings, following.snapshot.clone(), health, &registry)?);
    let explaining = server.clone();
    following.answer_by(Box::new(move |question| {
        let server = explaining.clone();
        Box::pin(async move {
            match question {
                Question::Name { name, port } => server.explain(&name, port).await,
                _ => Answer::default(),
            }
        })
    }));
    let (asked, told) = (server.clone(), following.ack.subscribe());
    expiry::register(&registry, move || expiry::of_holder(&told.borrow().trust, "leaf"))?;
    let ready = Arc::new(move || asked.ready());
    Admin::bind(args.admin, registry, ready).await?.spawn(stop.clone());
    following.begin();
    tokio::spawn(health::follow(following.snapshot.clone(), args.gateway_admin_port, publisher, stop.clone()));
    tokio::spawn(acknowledge(following.snapshot.clone(), following.own.clone(), following.ack.clone()));
    tracing::info!(cluster = %following.place.cluster, address = %args.listen, "the DNS server is up");
    let served = server.run(stop).await.context("the DNS server stopped");
    following.leave().await;
    served
}

/// Where each of this cluster's gateways is asked about health.
type Gateways = BTreeMap<config::resource::Name, IpAddr>;

/// Tells the agent what is acted on.
async fn acknowledge(
    mut snapshots: Live<Snapshot>,
    mut own: watch::Receiver<Option<TrustReport>>,
    ack: watch::Sender<Ack>,
) {
    loop {
        let trust = own.borrow_and_update().clone().into_iter().collect();
        ack.send_replace(Ack { at: snapshots.get().revision, trust, ..Ack::default() });
        let more = tokio::select! {
            snapshot = snapshots.changed() => snapshot.is_some(),
            changed = own.changed() => changed.is_ok(),
        };
        if !more {
            return;
        }
    }
}
