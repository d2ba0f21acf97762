//! One attempt: the request goes out, and an answer's head comes back, or doesn't.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use decide::headers::hop_by_hop;
use decide::health::{Fault, Shown};
use decide::retry::Outcome;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode, Version};
use pingora_http::ResponseHeader;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::admit::ANSWER_DEADLINE;
use super::replay::Replay;
use super::upload::{Step, Upload};
use super::{Order, Patience};
use crate::choose::Destination;
use crate::exchange::{Exchange, Proven};
use crate::health::Target;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::runtime::Core;
use crate::tunnel::metadata::{Metadata, REFUSAL};
use crate::upstream::{self, Call, CallError, Event, Receiving};

/// A far end that takes no more of the request has its answer out by then.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An answer that says that it is no longer than this, in bytes, is held until it is complete, so that whoever breaks
/// it off costs the client nothing.
const HELD: u64 = 16 * 1024;

/// But no longer than this.
const HOLDING: Duration = Duration::from_secs(1);

/// An answer whose head is here.
pub struct Answer {
    /// What is left of the request.
    pub upload: Upload,
    /// From whom the rest comes.
    pub receiving: Receiving,
    /// The head.
    pub head: Box<ResponseHeader>,
    /// The rest, when it was held.
    pub held: Option<Held>,
    /// Who serves it, when it is an instance of this cluster.
    pub instance: Option<Arc<Target>>,
}

impl Answer {
    /// Whether a server says that it can't serve: another might. Nothing of it was passed on yet. Not while the request
    /// is still on its way there: what another attempt reads of the body would be missing, should this answer be the
    /// best one after all.
    pub fn is_unavailable(&self) -> bool {
        Shown::Status(self.head.status.as_u16()).fault() == Some(Fault::Unavailable) && self.upload.is_done()
    }
}

/// What came of an answer's body before its head was passed on.
#[derive(Default)]
pub struct Held {
    /// The body, so far.
    pub body: SmallVec<[Bytes; 1]>,
    /// Whether that is all.
    pub whole: bool,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
}

impl Held {
    /// Takes what comes until the end. May be dropped, and keeps what came by then.
    async fn fill(&mut self, receiving: &mut Receiving) -> Result<(), CallError> {
        let mut room = HELD;
        while !self.whole {
            match receiving.next().await? {
                Event::Body(part) => {
                    let longer = || CallError::BadAnswer("it is longer than it said".to_owned());
                    room = room.checked_sub(part.len() as u64).ok_or_else(longer)?;
                    self.body.push(part);
                }
                Event::Trailers(trailers) => (self.whole, self.trailers) = (true, Some(trailers)),
                Event::End => self.whole = true,
            }
        }
        Ok(())
    }
}

/// An attempt that brought no answer.
pub struct Failure {
    /// How it ended, by which it may be tried again; nothing when it must not be, whatever the rules.
    pub outcome: Option<Outcome>,
    /// What to tell the client, if it was the last attempt.
    pub refusal: Refusal,
    /// What it shows of the instance, if anything.
    pub shown: Option<Shown>,
    /// For the access log.
    pub cause: String,
}

impl Failure {
    fn client(refusal: Refusal) -> Self {
        Failure { outcome: None, refusal, shown: None, cause: "the client broke off".to_owned() }
    }

    fn cut() -> Self {
        let cause = "found dead while the request waited".to_owned();
        Failure { outcome: Some(Outcome::Cut), refusal: Refusal::InstanceEjected, shown: None, cause }
    }

    fn deadline(patience: Duration) -> Self {
        let cause = format!("no answer within {patience:?}");
        // Trying again would take as long again: the client has waited enough.
        // A caller that gives less time than it takes says nothing of the instance.
        let shown = (patience >= ANSWER_DEADLINE).then_some(Shown::Timeout);
        Failure { outcome: None, refusal: Refusal::InstanceTimeout, shown, cause }
    }

    /// The answer broke off behind its head.
    fn broken(error: CallError) -> Self {
        let failure = Failure::from(error);
        Failure { shown: failure.shown.map(|_| Shown::Broken), ..failure }
    }

    fn slow_client() -> Self {
        let cause = "the client sent its body too slowly".to_owned();
        Failure { outcome: None, refusal: Refusal::ClientTimeout, shown: None, cause }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let cause = error.to_string();
        let (outcome, refusal, shown) = match error {
            CallError::NotSent(_) => (Outcome::NotSent, Refusal::ConnectFailed, None),
            CallError::Unreachable(_) => (Outcome::NotSent, Refusal::ConnectFailed, Some(Shown::Connect)),
            CallError::Slow(_) => (Outcome::NotSent, Refusal::ConnectFailed, Some(Shown::ConnectTimeout)),
            CallError::Left(_) => (Outcome::Left, Refusal::ConnectFailed, None),
            CallError::Stale(_) => (Outcome::Stale, Refusal::InstanceReset, None),
            CallError::Broken(_) => (Outcome::NoHead, Refusal::InstanceReset, Some(Shown::Reset)),
            CallError::BadAnswer(_) => (Outcome::NoHead, Refusal::BadAnswer, Some(Shown::Reset)),
        };
        Failure { outcome: Some(outcome), refusal, shown, cause }
    }
}

impl Patience {
    /// How long the next step of a request may take.
    fn until(self, upload: &Upload) -> Duration {
        match upload.awaits_client() && self.paced {
            true => self.answer.min(upload.patience()),
            false => self.answer,
        }
    }
}

/// Sends the request to the destination and waits for the head of its answer, and for the whole of it when it is small.
pub async fn run<E: Exchange>(
    core: &Core,
    exchange: &mut E,
    order: &Order,
    destination: &Destination,
    number: u32,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<Answer, Failure> {
    let caller = exchange.entry().door.caller().cloned();
    let started = start(order, destination, number, caller.as_deref()).await;
    let mut result = match started {
        Ok(call) => converse(exchange, order, call, replay, record).await,
        Err(error) => Err(error.into()),
    };
    learn(core, order, destination, &result);
    if let (Ok(answer), Destination::Instance(target)) = (&mut result, destination) {
        answer.instance = Some(target.clone());
    }
    result
}

async fn start(
    order: &Order,
    destination: &Destination,
    number: u32,
    caller: Option<&Proven>,
) -> Result<Call, CallError> {
    match destination {
        Destination::Instance(target) => upstream::to_instance(target.clone(), &order.outgoing).await,
        Destination::Peer(peer, tunnel) => {
            let metadata = Metadata {
                cluster: &peer.cluster,
                service: &order.wanted.service.name,
                port: order.wanted.port,
                version: order.wanted.version.as_ref(),
                attempt: number,
                source: caller.map(|caller| &caller.text),
            };
            upstream::through(tunnel.clone(), &metadata, &order.outgoing).await
        }
    }
}

async fn converse<E: Exchange>(
    exchange: &mut E,
    order: &Order,
    call: Call,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<Answer, Failure> {
    let (sending, mut receiving) = call;
    let mut upload = Upload::new(sending, replay);
    // Once for all that is waited for: whoever dies knows of everyone who waits on it.
    let lifeline = receiving.lifeline();
    let mut cut = pin!(lifeline.cut());
    let head = await_head(exchange, order.patience, &mut upload, &mut receiving, cut.as_mut(), replay, record).await?;
    if let Some(failure) = refused(&receiving, &head) {
        return Err(failure);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return switched(order, receiving, head, replay);
    }
    if order.outgoing.switch.is_some() && head.status.is_success() && exchange.head().version == Version::HTTP_2 {
        // There it would mean that it has switched (RFC 8441 section 5).
        let cause = format!("it answered {} and did not switch protocols", head.status);
        return Err(Failure { outcome: None, refusal: Refusal::BadAnswer, shown: None, cause });
    }
    if receiving.ended() || !is_held(&head, &order.outgoing.method) || !upload.is_done() {
        return Ok(Answer { upload, receiving, head, held: None, instance: None });
    }
    let mut held = Held::default();
    tokio::select! {
        biased;
        () = cut => return Err(Failure::cut()),
        all = held.fill(&mut receiving) => all.map_err(Failure::broken)?,
        _ = exchange.gone() => return Err(Failure::client(Refusal::ClientGone)),
        // A slow answer is worth more to its client now than whole.
        () = tokio::time::sleep(HOLDING) => {}
    }
    Ok(Answer { upload, receiving, head, held: Some(held), instance: None })
}

/// Passes the body on while it comes, until the answer's head is here, or who shall bring it is found dead, or nothing
/// has moved for too long.
async fn await_head<E: Exchange>(
    exchange: &mut E,
    patience: Patience,
    upload: &mut Upload,
    receiving: &mut Receiving,
    mut cut: Pin<&mut impl Future<Output = ()>>,
    replay: &mut Replay,
    record: &mut Record,
) -> Result<Box<ResponseHeader>, Failure> {
    let mut broken = None;
    let deadline = tokio::time::sleep(patience.until(upload));
    tokio::pin!(deadline);
    loop {
        let step = tokio::select! {
            // A tunnel that is found dead breaks its calls at the same moment: the cause shall be what is told.
            biased;
            () = &mut cut => return Err(Failure::cut()),
            head = receiving.head() => {
                let mut head = head?;
                if !is_interim(&head) {
                    return Ok(head);
                }
                for name in hop_by_hop(&head.headers) {
                    head.remove_header(&name);
                }
                exchange.inform(head).await.map_err(|_| Failure::client(Refusal::ClientGone))?;
                // Hints buy no time: an instance could send them for ever.
                continue;
            }
            step = upload.step(exchange, replay, record) => step.map_err(Failure::client)?,
            () = &mut deadline => return Err(match broken {
                Some(error) => Failure::from(error),
                None if upload.awaits_client() => Failure::slow_client(),
                None => {
                    receiving.distrust();
                    Failure::deadline(patience.answer)
                }
            }),
        };
        // Who answers early may close before the request is out (RFC 9112 section 9.6): the answer counts, if it comes.
        let bound = match step {
            Step::Moved => patience.until(upload),
            Step::Stopped(error) => {
                broken = Some(error);
                LAST_WORDS
            }
        };
        deadline.as_mut().reset(Instant::now() + bound);
    }
}

/// RFC 9110 section 15.2; 101 is final, as far as the request is concerned.
fn is_interim(head: &ResponseHeader) -> bool {
    head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
}

/// A peer gateway's refusal: 503 when no instance has seen the request, another status when one may have.
fn refused(from: &Receiving, head: &ResponseHeader) -> Option<Failure> {
    let code = head.headers.get(REFUSAL).filter(|_| from.is_tunnelled())?;
    let cause = format!("refused: {}", String::from_utf8_lossy(code.as_bytes()));
    let (outcome, refusal) = match head.status {
        StatusCode::SERVICE_UNAVAILABLE => (Some(Outcome::NotSent), Refusal::NoInstance),
        StatusCode::BAD_GATEWAY if code == Refusal::InstanceEjected.code() => {
            (Some(Outcome::Cut), Refusal::InstanceEjected)
        }
        StatusCode::BAD_GATEWAY => (Some(Outcome::NoHead), Refusal::InstanceReset),
        StatusCode::GATEWAY_TIMEOUT => (None, Refusal::InstanceTimeout),
        // These are about the body, which an instance may have seen a part of.
        StatusCode::PAYLOAD_TOO_LARGE => (None, Refusal::BodyTooLarge),
        StatusCode::REQUEST_TIMEOUT => (None, Refusal::ClientTimeout),
        StatusCode::BAD_REQUEST => (None, Refusal::ClientBody),
        // It lets this gateway's request to no instance: another cluster may.
        _ => (Some(Outcome::NotSent), Refusal::NoInstance),
    };
    Some(Failure { outcome, refusal, shown: None, cause })
}

/// The far end has switched protocols: from here on bytes go both ways until one side ends, and nothing is tried again.
fn switched(
    order: &Order,
    mut receiving: Receiving,
    head: Box<ResponseHeader>,
    replay: &mut Replay,
) -> Result<Answer, Failure> {
    if order.outgoing.switch.is_none() {
        return Err(CallError::BadAnswer("it switched protocols unasked".into()).into());
    }
    let sending = receiving.switched()?;
    *replay = Replay::new(false, None);
    Ok(Answer { upload: Upload::new(Some(sending), replay), receiving, head, held: None, instance: None })
}

fn is_held(head: &ResponseHeader, method: &Method) -> bool {
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    *method != Method::HEAD && length.is_some_and(|length| length <= HELD)
}

/// What the attempt shows of the instance.
fn learn(core: &Core, order: &Order, destination: &Destination, result: &Result<Answer, Failure>) {
    let Destination::Instance(target) = destination else { return };
    let learn = |shown| core.checker.shown(&order.wanted.service, &target.health, shown);
    match result {
        Ok(answer) => learn(Shown::Status(answer.head.status.as_u16())),
        Err(failure) => drop(failure.shown.map(learn)),
    }
}

/// What the end of an answer shows of the instance. A stream that was silent for too long may just have had nothing to
/// say, and what follows a switch of protocols is no answer.
pub fn learn_end(core: &Core, order: &Order, instance: &Target, status: u16, ended: &Result<(), Refusal>) {
    let shown = match ended {
        Ok(()) => Shown::Whole,
        Err(Refusal::InstanceReset) if status != StatusCode::SWITCHING_PROTOCOLS => Shown::Broken,
        Err(_) => return,
    };
    core.checker.shown(&order.wanted.service, &instance.health, shown);
}
