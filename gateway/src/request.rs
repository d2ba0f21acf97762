//! ★ The life of a request, in order: admitted, attempted, forwarded, recorded.

mod admit;
mod attempt;
mod replay;
mod reply;
mod switch;
mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use decide::retry::{self, Outcome, Verdict};
use pingora_http::RequestHeader;

use crate::choose::{self, Destination, Reach, Tried, Wanted};
use crate::exchange::{Entry, Exchange};
use crate::overload::Unanswered;
use crate::plan::Plan;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::respond;
use crate::runtime::Core;
use crate::upstream::Outgoing;
use admit::Admitted;
pub use admit::peer_of;
use attempt::{Answer, Failure};
use replay::Replay;

/// What a request was found to want, once it is known that it may have it.
pub struct Order {
    wanted: Wanted,
    /// Whether the answer says who served it.
    tells_server: bool,
    patience: Patience,
    outgoing: Outgoing,
}

/// How long silence is borne.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Until the answer's head, while nothing of the request moves either.
    answer: Duration,
    /// Between two parts, once the answer has begun.
    pause: Duration,
    /// Whether the client must send its body at some pace until then.
    paced: bool,
}

/// Serves one request, whatever comes of it.
pub async fn serve<E: Exchange>(core: &Core, exchange: &mut E) {
    let plan = core.plan.get();
    let mut record = core.log.begin(exchange);
    let in_flight = (core.begin(), exchange.entry().lifetime.begin());
    let taken_on = core.overload.admit(exchange);
    let admitted = taken_on.and_then(|unanswered| Ok((admit(core, &plan, exchange)?, unanswered)));
    let ended = match admitted {
        Ok((Admitted::Order(mut order), unanswered)) => {
            record.mark(&mut order.outgoing.headers);
            fulfil(core, (plan, unanswered), exchange, &order, &mut record).await
        }
        Ok((Admitted::Redirect(location), _)) => respond::redirect(exchange, &location, &mut record).await,
        Ok((Admitted::Report(global_namespace, told), unanswered)) => {
            // It lasts as long as its tunnel: it must keep neither a plan in memory nor a stopping gateway waiting.
            drop((plan, in_flight, unanswered));
            return reply::report(core, exchange, &global_namespace, told.as_ref()).await;
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = ended {
        core.metrics.refused(refusal.code());
        respond::refuse(exchange, refusal, &mut record).await;
    }
    core.log.write(record);
}

fn admit<E: Exchange>(core: &Core, plan: &Plan, exchange: &mut E) -> Result<Admitted, Refusal> {
    let bodiless = exchange.body_done();
    admit::admit(core, plan, (exchange.head(), bodiless), exchange.entry())
}

/// What a request is found to want, without its being served.
pub enum Foreseen {
    /// This of a service, with the path and query in normal form.
    Service(Wanted, String),
    /// To be sent to this URL.
    Redirect(String),
    /// How this gateway is.
    Report,
}

/// What would be decided about a request with this head and no body.
///
/// # Errors
/// How it would be refused.
pub fn foresee(core: &Core, plan: &Plan, head: &RequestHeader, entry: &Entry) -> Result<Foreseen, Refusal> {
    Ok(match admit::admit(core, plan, (head, true), entry)? {
        Admitted::Order(order) => Foreseen::Service(order.wanted, (*order.outgoing.target).to_owned()),
        Admitted::Redirect(url) => Foreseen::Redirect(url),
        Admitted::Report(..) => Foreseen::Report,
    })
}

/// Answers what could not even be read as a request.
pub async fn refuse<E: Exchange>(core: &Core, exchange: &mut E, refusal: Refusal) {
    let mut record = core.log.begin(exchange);
    let _in_flight = core.begin();
    core.metrics.refused(refusal.code());
    respond::refuse(exchange, refusal, &mut record).await;
    core.log.write(record);
}

/// Gets an answer, and forwards it.
async fn fulfil<E: Exchange>(
    core: &Core,
    (plan, unanswered): (Arc<Plan>, Unanswered<'_>),
    exchange: &mut E,
    order: &Order,
    record: &mut Record,
) -> Result<(), Refusal> {
    let service = &order.wanted.service;
    record.service(&service.service.global_namespace, &service.service.name);
    service.budget.request(Instant::now());
    let _under_way = service.metrics.begin();
    let bodiless = order.outgoing.switch.is_some() || exchange.body_done();
    let mut replay = Replay::new(bodiless, core.settings.limits.body_bytes);
    let attempted = attempts(core, &plan, exchange, order, &mut replay, record).await;
    // A long answer must not keep an old plan in memory, nor the place of another request.
    drop((plan, unanswered));
    let ended = match attempted {
        Ok(answer) => {
            let (instance, status) = (answer.instance.clone(), answer.head.status);
            let ended = reply::forward(exchange, order, answer, &mut replay, record).await;
            if let Some(instance) = instance {
                attempt::learn_end(core, order, &instance, status.as_u16(), &ended);
            }
            ended
        }
        Err(refusal) => Err(refusal),
    };
    service.metrics.count(ended.as_ref().map_or_else(|refusal| refusal.status().as_u16(), |()| record.answered()));
    record.measure(&service.metrics);
    ended
}

/// Tries until an attempt brings an answer, or none can be made any more. An answer of 503 (or its like) is kept while
/// another attempt looks for a better one.
async fn attempts<E: Exchange>(
    core: &Core,
    plan: &Plan,
    exchange: &mut E,
    order: &Order,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<Answer, Refusal> {
    let (mut tried, mut spare) = (Tried::default(), None);
    loop {
        let number = record.attempts() + 1;
        let Some(destination) = choose::next(core, plan, &order.wanted, &tried, number) else {
            return spare.ok_or(tried.last_refusal().unwrap_or(Refusal::NoInstance));
        };
        record.attempt();
        let (outcome, refusal, cause) =
            match attempt::run(core, exchange, order, &destination, number, replay, record).await {
                Ok(answer) if !answer.is_unavailable() => return Ok(answer),
                Ok(answer) => {
                    let cause = format!("answered {}", answer.head.status);
                    spare = Some(answer);
                    (Some(Outcome::Unavailable), Refusal::NoInstance, cause)
                }
                Err(Failure { outcome, refusal, cause, .. }) => (outcome, refusal, cause),
            };
        record.failure(&destination, &cause);
        match (&destination, outcome) {
            // Only the connection was old. A gateway that leaves its tunnel is leaving.
            (Destination::Instance(_), Some(Outcome::Left | Outcome::Stale)) => {}
            _ => tried.add(destination, refusal),
        }
        if !outcome.is_some_and(|outcome| again(order, outcome, number, replay)) {
            return spare.ok_or(refusal);
        }
        order.wanted.service.metrics.retries.inc();
        if let Some(pause) = retry::pause_before(number + 1, fastrand::f64()) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether what failed may be tried again.
fn again(order: &Order, outcome: Outcome, number: u32, replay: &Replay) -> bool {
    // The origin knows better where else to go; here only what no instance has seen may go to another, and what met an
    // old connection to a new one.
    if order.wanted.reach == Reach::Here && !matches!(outcome, Outcome::NotSent | Outcome::Left | Outcome::Stale) {
        return false;
    }
    let attempt =
        retry::Attempt { outcome, method: &order.outgoing.method, number, body_replayable: replay.is_whole() };
    retry::decide(&attempt, &order.wanted.service.budget, Instant::now()) == Verdict::Retry
}
