//! `tombolo explain`: what becomes of a request, step by step.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use config::explain::{Answer, Asked, Caller, Explanation, Hop, Origin, Question, Step, Verdict, Who};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::api::Api;
use super::output::{Format, printable, show};
use super::{context, verdict};

/// A gateway has so long to answer on its admin port.
const PATIENCE: Duration = Duration::from_secs(2);
/// Its answer is no longer than this, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// A request that is asked about; nobody sends it.
#[derive(clap::Args)]
#[command(after_help = verdict::CODES)]
pub struct Args {
    /// The method
    method: String,
    /// The URL: of a public host, or, with --from, of a name of a global namespace with the service's port
    url: String,
    /// Who calls: a service of a cluster, or whoever has an address there. Over https:// a service shows its certificate
    #[arg(long, value_name = "CLUSTER/[NAMESPACE/]SERVICE|CLUSTER/ADDRESS")]
    from: Option<Origin>,
    /// The address to which the caller's resolver led it, when the mesh's DNS servers are not asked or not believed
    #[arg(long, value_name = "ADDRESS")]
    at: Option<IpAddr>,
    /// Ask only the gateway with this admin port, without the controller: what it knows by itself
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "at")]
    admin: Option<SocketAddr>,
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t, value_name = "table|yaml|json", hide_possible_values = true)]
    output: Format,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// Asks and shows.
pub async fn run(args: Args) -> Result<ExitCode> {
    let explained = match args.admin {
        Some(admin) => ask_gateway(admin, &args).await,
        None => ask_controller(&args).await,
    };
    verdict::conclude(explained, |explanation| show(args.output, explanation, || text(&args, explanation)))
}

async fn ask_controller(args: &Args) -> Result<Explanation> {
    let from = args.from.as_ref().map(Origin::to_string);
    let question = json!({"method": args.method, "url": args.url, "from": from, "at": args.at});
    Api::open(&args.context)?.explain_request(&question).await
}

/// What one gateway knows. Where requests go on to other clusters, nobody was asked.
async fn ask_gateway(admin: SocketAddr, args: &Args) -> Result<Explanation> {
    let caller = args.from.as_ref().map_or(Caller::Outside, |origin| match &origin.who {
        Who::Address(address) => Caller::Address(*address),
        Who::Service(namespace, service) => Caller::Service {
            global_namespace: None,
            namespace: namespace.clone(),
            service: service.clone(),
            address: None,
        },
    });
    let asked = Asked::of(&args.method, &args.url, caller)?;
    let Answer { mut steps, onward, .. } = timeout(PATIENCE, post(admin, &Question::Request(asked)))
        .await
        .with_context(|| format!("the gateway at {admin} does not answer within {PATIENCE:?}"))??;
    steps.extend(onward.iter().map(|onward| {
        let verdict = if onward.taken { Verdict::Unknown } else { Verdict::Impaired };
        let what = format!("the request may go on to cluster {}, which was not asked", onward.cluster);
        Step::new(Hop::Tunnel, verdict, what).remedy("ask the controller: leave --admin out")
    }));
    Ok(Explanation::of(steps))
}

async fn post(admin: SocketAddr, question: &Question) -> Result<Answer> {
    let stream = TcpStream::connect(admin).await.with_context(|| format!("no gateway answers at {admin}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/v1/explain")
        .header("host", admin.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(question)?)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
    let body = body.to_bytes();
    if !status.is_success() {
        bail!(
            "{admin} answers {status}: {}; is it a gateway's admin port?",
            printable(&String::from_utf8_lossy(&body))
        );
    }
    serde_json::from_slice(&body).with_context(|| format!("the answer of {admin} cannot be read"))
}

fn text(args: &Args, explanation: &Explanation) -> String {
    let mut text = format!("{} {}: {}\n", printable(&args.method), printable(&args.url), explanation.verdict);
    for Step { hop, verdict, what, resource, remedy, by } in &explanation.steps {
        let by = by.as_deref().unwrap_or("-");
        _ = writeln!(text, "  {verdict:<8}  {hop:<8}  {}  [{}]", printable(what), printable(by));
        let lines = [("resource", resource), ("remedy", remedy)];
        let wrong = *verdict != Verdict::Ok;
        for (name, line) in lines.into_iter().filter_map(|(name, line)| Some((name, line.as_ref().filter(|_| wrong)?)))
        {
            _ = writeln!(text, "  {:<8}  {:<8}  {name}: {}", "", "", printable(line));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let args = Line::parse_from(["explain", "GET", "http://cart.shop.internal/"]).args;
        let steps = vec![
            Step::ok(Hop::Dns, "it means 127.0.0.1").about("Cluster/north").by("north/dns"),
            Step::failed(Hop::Endpoint, "closed\u{1b}[2J")
                .about("Service/north/shop/cart")
                .remedy("start it")
                .by("north/gw"),
        ];
        let expected = "GET http://cart.shop.internal/: failed\n\
            \x20 ok        dns       it means 127.0.0.1  [north/dns]\n\
            \x20 failed    endpoint  closed [2J  [north/gw]\n\
            \x20                     resource: Service/north/shop/cart\n\
            \x20                     remedy: start it\n";
        assert_eq!(text(&args, &Explanation::of(steps)), expected);
    }
}
