//! ★ The life of a request, in order: admitted, attempted, forwarded, recorded.

mod admit;
mod attempt;
mod replay;
mod reply;
mod switch;
mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use decide::retry::{self, Verdict};

use crate::choose::{self, Reach, Tried, Wanted};
use crate::exchange::Exchange;
use crate::plan::Plan;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::respond;
use crate::runtime::Core;
use crate::upstream::Outgoing;
use admit::Admitted;
pub use admit::is_member;
use attempt::Failure;
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
}

/// Serves one request, whatever comes of it.
pub async fn serve<E: Exchange>(core: &Core, exchange: &mut E) {
    let plan = core.plan.get();
    let mut record = core.log.begin(exchange);
    let in_flight = (core.begin(), exchange.entry().lifetime.begin());
    let taken_on = core.overload.admit(exchange, core.in_flight());
    let ended = match taken_on.and_then(|()| admit::admit(core, &plan, exchange)) {
        Ok(Admitted::Order(order)) => fulfil(core, plan, exchange, order, &mut record).await,
        Ok(Admitted::Redirect(location)) => respond::redirect(exchange, &location, &mut record).await,
        Ok(Admitted::Report(global_namespace)) => {
            // It lasts as long as its tunnel: it must keep neither a plan in memory nor a stopping gateway waiting.
            drop((plan, in_flight));
            return reply::report(core, exchange, &global_namespace).await;
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = ended {
        core.metrics.refused(refusal.code());
        respond::refuse(exchange, refusal, &mut record).await;
    }
    core.log.write(record);
}

/// Answers what could not even be read as a request.
pub async fn refuse<E: Exchange>(core: &Core, exchange: &mut E, refusal: Refusal) {
    let mut record = core.log.begin(exchange);
    let _in_flight = core.begin();
    core.metrics.refused(refusal.code());
    respond::refuse(exchange, refusal, &mut record).await;
    core.log.write(record);
}

/// Tries until an attempt brings an answer, or none can be made any more; then forwards the answer.
async fn fulfil<E: Exchange>(
    core: &Core,
    plan: Arc<Plan>,
    exchange: &mut E,
    order: Box<Order>,
    record: &mut Record,
) -> Result<(), Refusal> {
    let service = &order.wanted.service.service;
    record.service(&service.global_namespace, &service.name);
    core.budget.request(Instant::now());
    let mut replay =
        Replay::new(order.outgoing.switch.is_some() || exchange.body_done(), core.settings.limits.body_bytes);
    let mut tried = Tried::default();
    let ended = loop {
        let number = record.attempt();
        let Some(destination) = choose::next(core, &plan, &order.wanted, &tried, number) else {
            break Err(tried.last_refusal().unwrap_or(Refusal::NoInstance));
        };
        let failure = match attempt::run(core, exchange, &order, &destination, number, &mut replay, record).await {
            Ok(answer) => {
                // A long answer must not keep an old plan in memory.
                drop(plan);
                break reply::forward(core, exchange, &order, answer, &mut replay, record).await;
            }
            Err(failure) => failure,
        };
        record.failure(&destination.describe(), &failure.cause);
        tried.add(destination, failure.refusal);
        if !again(core, &order, &failure, number, &replay) {
            break Err(failure.refusal);
        }
        core.metrics.retries.inc();
    };
    let metrics = &order.wanted.service.metrics;
    metrics.count(ended.as_ref().map_or_else(|refusal| refusal.status().as_u16(), |()| record.answered()));
    metrics.duration.observe(record.seconds());
    ended
}

/// Whether what failed may be tried again.
fn again(core: &Core, order: &Order, failure: &Failure, number: u32, replay: &Replay) -> bool {
    let Some(outcome) = failure.outcome else { return false };
    // The origin knows better where else to go; here only what no instance has seen may go to another.
    if order.wanted.reach == Reach::Here && outcome != retry::Outcome::NotSent {
        return false;
    }
    let attempt =
        retry::Attempt { outcome, method: &order.outgoing.method, number, body_replayable: replay.is_whole() };
    retry::decide(&attempt, &core.budget, Instant::now()) == Verdict::Retry
}
