//! Questions that go down a stream beside the world, and their answers. Neither end waits for the other: a stream holds
//! only so many questions, each has its time, and an answer that nobody waits for any more is dropped.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::resource::Name;
use config::wire::{Answer, Ask, Down, Hello, Json, Outcome, Unanswered, Up, feature};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pipe::{Ending, Outlet};

/// So many questions may wait for their answers on one stream.
const OUTSTANDING: usize = 64;
/// Nobody waits longer for an answer. In releases before this one it is 2 s: what takes longer there is late.
const LONGEST: Duration = Duration::from_secs(5);
/// Whoever passes a question on leaves so much of its time for the way back.
pub(crate) const ONWARD: Duration = Duration::from_millis(50);
/// The longest question, in bytes. One that no frame holds would end the stream.
const LONGEST_QUESTION: usize = 64 * 1024;
/// The longest answer that is sent or taken, in bytes.
const LONGEST_ANSWER: usize = 256 * 1024;

/// Answers questions. What it returns is dropped when nobody waits any more.
pub type Answerer = Arc<dyn Fn(Ask) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// What is said of an attempt at an answer.
pub fn outcome(answered: Result<Json, Unanswered>) -> Outcome {
    match answered {
        Ok(answer) if answer.as_str().len() > LONGEST_ANSWER => Outcome::Unanswered(Unanswered::TooLong),
        Ok(answer) => Outcome::Answered(answer),
        Err(reason) => Outcome::Unanswered(reason),
    }
}

/// Asks the follower of one stream. Cheap to clone; it may outlive the stream.
#[derive(Clone)]
pub struct Asker {
    questions: mpsc::Sender<Question>,
    /// Whether the follower answers questions.
    able: bool,
}

struct Question {
    member: Option<Name>,
    within: Duration,
    content: Json,
    reply: oneshot::Sender<Outcome>,
}

/// What a follower that says this hello is asked by, and the stream's end of it.
pub fn line(hello: &Hello) -> (Asker, Questions) {
    let (sender, receiver) = mpsc::channel(OUTSTANDING);
    let able = feature::has(&hello.features, feature::ASK);
    (Asker { questions: sender, able }, Questions { receiver, awaited: Awaited::default(), next: 0 })
}

impl Asker {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, member: Option<Name>, content: Json, within: Duration) -> Result<Json, Unanswered> {
        if !self.able {
            return Err(Unanswered::Unable);
        }
        if content.as_str().len() > LONGEST_QUESTION {
            return Err(Unanswered::TooLong);
        }
        let (reply, answer) = oneshot::channel();
        let within = within.min(LONGEST);
        let sent = self.questions.try_send(Question { member, within, content, reply });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Away,
        })?;
        match timeout(within, answer).await {
            Ok(Ok(Outcome::Answered(answer))) => Ok(answer),
            Ok(Ok(Outcome::Unanswered(reason))) => Err(reason),
            // The stream ended.
            Ok(Err(_)) => Err(Unanswered::Away),
            Err(_) => Err(Unanswered::Late),
        }
    }
}

/// What one follower is asked: the end of it that its stream holds.
pub struct Questions {
    receiver: mpsc::Receiver<Question>,
    awaited: Awaited,
    next: u64,
}

impl Questions {
    /// By which the stream takes answers in.
    pub(super) fn awaited(&self) -> Awaited {
        self.awaited.clone()
    }

    /// Sends what is asked.
    pub(super) async fn carry(&mut self, outlet: &Outlet) -> Result<Infallible, Ending> {
        while let Some(Question { member, within, content, reply }) = self.receiver.recv().await {
            if self.awaited.add(self.next, reply) {
                let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                let ask = Ask { id: self.next, member, within_ms, question: content };
                outlet.message(&Down::Ask(ask)).await?;
            }
            self.next += 1;
        }
        // Nobody can ask any more; the stream has other uses.
        std::future::pending().await
    }
}

/// The questions of a stream that have no answer yet.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<Mutex<BTreeMap<u64, oneshot::Sender<Outcome>>>>);

impl Awaited {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Outcome>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room for one more.
    fn add(&self, id: u64, reply: oneshot::Sender<Outcome>) -> bool {
        let mut all = self.all();
        all.retain(|_, reply| !reply.is_closed());
        if all.len() >= OUTSTANDING {
            _ = reply.send(Outcome::Unanswered(Unanswered::Busy));
            return false;
        }
        all.insert(id, reply);
        true
    }

    /// An answer came; perhaps too late, or to nothing that was asked.
    pub(super) fn answered(&self, Answer { id, outcome }: Answer) {
        if let Some(reply) = self.all().remove(&id) {
            let outcome = match outcome {
                Outcome::Answered(answer) => self::outcome(Ok(answer)),
                unanswered => unanswered,
            };
            _ = reply.send(outcome); // who asked may wait no longer
        }
    }
}

/// Where a follower's stream puts what it is asked.
pub(super) struct Asked(mpsc::Sender<Ask>);

impl Asked {
    /// What there is no room for is not answered: whoever asks so much waits in vain.
    pub(super) fn put(&self, ask: Ask) {
        if let Err(error) = self.0.try_send(ask) {
            tracing::warn!(%error, "a question was dropped");
        }
    }
}

/// The questions that a follower works at.
pub(super) struct Answering {
    answerer: Option<Answerer>,
    asked: mpsc::Receiver<Ask>,
    under_way: JoinSet<Answer>,
}

impl Answering {
    pub(super) fn new(answerer: Option<Answerer>) -> (Asked, Self) {
        let (sender, asked) = mpsc::channel(OUTSTANDING);
        (Asked(sender), Answering { answerer, asked, under_way: JoinSet::new() })
    }

    /// Answers, for as long as the stream lives.
    pub(super) async fn carry(&mut self, outlet: &Outlet) -> Result<Infallible, Ending> {
        loop {
            tokio::select! {
                Some(ask) = self.asked.recv() => self.begin(ask),
                Some(answer) = self.under_way.join_next() => match answer {
                    Ok(answer) => outlet.message(&Up::Answer(answer)).await?,
                    Err(error) => tracing::error!(%error, "a question found no answer"),
                },
                // Without its other end there is no stream.
                else => std::future::pending().await,
            }
        }
    }

    fn begin(&mut self, ask: Ask) {
        let (id, within) = (ask.id, Duration::from_millis(ask.within_ms).min(LONGEST));
        let answer = match &self.answerer {
            _ if self.under_way.len() >= OUTSTANDING => unanswered(Unanswered::Busy),
            None => unanswered(Unanswered::Unable),
            Some(answerer) => answerer(ask),
        };
        self.under_way.spawn(async move {
            let outcome = timeout(within, answer).await;
            Answer { id, outcome: outcome.unwrap_or(Outcome::Unanswered(Unanswered::Late)) }
        });
    }
}

fn unanswered(reason: Unanswered) -> BoxFuture<'static, Outcome> {
    Box::pin(ready(Outcome::Unanswered(reason)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use config::wire::{MemberRole, PROTOCOL};
    use serde_json::json;

    use super::*;

    fn hello(features: &[&str]) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: String::new(),
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
            name: "gw".parse().unwrap(),
            boot: String::new(),
            role: MemberRole::Gateway,
            addresses: None,
        }
    }

    fn question() -> Json {
        json!({"kind": "test"}).into()
    }

    async fn ask(asker: &Asker) -> Result<Json, Unanswered> {
        asker.ask(None, question(), LONGEST).await
    }

    #[tokio::test]
    async fn whoever_does_not_answer_questions_is_not_asked() {
        let (asker, mut questions) = line(&hello(&["other"]));
        assert_eq!(ask(&asker).await, Err(Unanswered::Unable));
        assert!(questions.receiver.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_late_and_a_lost_stream_is_away() {
        let (asker, questions) = line(&hello(&[feature::ASK]));
        assert_eq!(ask(&asker).await, Err(Unanswered::Late));
        let (answer, ()) = tokio::join!(ask(&asker), async { drop(questions) });
        assert_eq!(answer, Err(Unanswered::Away));
        assert_eq!(ask(&asker).await, Err(Unanswered::Away));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_takes_no_more_than_its_place() {
        let (asker, mut questions) = line(&hello(&[feature::ASK]));
        let (outlet, _body) = Outlet::new();
        let carrying = questions.carry(&outlet);
        let asking = futures_util::future::join_all((0..4 * OUTSTANDING).map(|_| ask(&asker)));
        let answers = tokio::select! {
            answers = asking => answers,
            _ = carrying => unreachable!("the stream ended"),
        };
        let busy = answers.iter().filter(|answer| **answer == Err(Unanswered::Busy)).count();
        assert!(busy >= 2 * OUTSTANDING, "{busy} of {}", answers.len());
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_finds_its_question() {
        let awaited = Awaited::default();
        let (first, one) = oneshot::channel();
        let (second, two) = oneshot::channel();
        assert!(awaited.add(1, first) && awaited.add(2, second));
        for (id, outcome) in [(2, json!("two")), (9, json!("nothing")), (1, json!("one")), (1, json!("again"))] {
            awaited.answered(Answer { id, outcome: Outcome::Answered(outcome.into()) });
        }
        assert_eq!(one.await.unwrap(), Outcome::Answered(json!("one").into()));
        assert_eq!(two.await.unwrap(), Outcome::Answered(json!("two").into()));
        assert!(awaited.all().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_too_long_is_not_sent_and_the_stream_goes_on() {
        let (asker, mut questions) = line(&hello(&[feature::ASK]));
        // Its quotes count, too.
        let text = |length: usize| Json::from(json!("x".repeat(length - 2)));
        let long = asker.ask(None, text(LONGEST_QUESTION + 1), LONGEST).await;
        assert_eq!(long, Err(Unanswered::TooLong));
        let awaited = questions.awaited();
        let (outlet, _body) = Outlet::new();
        let asking = asker.ask(None, text(LONGEST_QUESTION), LONGEST);
        let answering = async {
            while awaited.all().is_empty() {
                tokio::task::yield_now().await;
            }
            awaited.answered(Answer { id: 0, outcome: Outcome::Answered(json!("it").into()) });
            std::future::pending::<()>().await;
        };
        let answer = tokio::select! {
            answer = asking => answer,
            _ = questions.carry(&outlet) => unreachable!("the stream ended"),
            () = answering => unreachable!("it waits for ever"),
        };
        assert_eq!(answer, Ok(json!("it").into()));
    }

    #[test]
    fn an_answer_that_is_too_long_is_not_sent() {
        let long = Json::from(json!("x".repeat(LONGEST_ANSWER)));
        assert_eq!(outcome(Ok(long)), Outcome::Unanswered(Unanswered::TooLong));
    }
}
