//! The request's body on its way from the client to where an attempt sends it. It moves beside the answer, never in its
//! way: a far end may answer while it is still being sent to.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use decide::pace::Pace;
use http::HeaderMap;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::replay::Replay;
use crate::exchange::{Exchange, Gone};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::upstream::{CallError, Sending};

/// One attempt's way out.
pub struct Upload {
    sending: Option<Sending>,
    /// What is to be sent, the next of it last: at a further attempt, first what was read before. There is never a second
    /// part but then.
    waiting: SmallVec<[Bytes; 1]>,
    /// The end follows.
    end: bool,
    /// With this.
    trailers: Option<HeaderMap>,
    /// The far end takes no more: it has answered already, or broke off.
    stopped: bool,
    /// How fast the client sends.
    pace: Pace,
}

/// What a step of an upload found.
pub enum Step {
    /// It goes on.
    Moved,
    /// The far end takes no more, and why.
    Stopped(CallError),
}

impl Upload {
    /// Sends what was read of the body before, then what comes.
    pub fn new(sending: Option<Sending>, replay: &Replay) -> Self {
        let waiting = replay.parts().iter().rev().cloned().collect();
        let trailers = replay.trailers().cloned();
        Upload { sending, waiting, end: replay.ended(), trailers, stopped: false, pace: Pace::default() }
    }

    /// Whether it goes on only when the client sends more.
    pub fn awaits_client(&self) -> bool {
        self.sending.is_some() && !self.stopped && self.waiting.is_empty() && !self.end
    }

    /// How long the client may still be waited for, by what it has sent so far.
    pub fn patience(&self) -> Duration {
        self.pace.patience()
    }

    /// Whether the far end takes no more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether all of the body went out.
    pub fn is_done(&self) -> bool {
        self.sending.is_none() && !self.stopped
    }

    /// Moves the body on by one step: takes a part from the client, or sends some. Where there is nothing to do, it waits
    /// for the client to leave. May be dropped and called again.
    pub async fn step<E: Exchange>(
        &mut self,
        exchange: &mut E,
        replay: &mut Replay,
        record: &mut Record,
    ) -> Result<Step, Refusal> {
        let asked = Instant::now();
        let reads = !replay.ended() && !self.stopped && self.waiting.is_empty();
        tokio::select! {
            // What has come already goes out together with what waits to go before it.
            biased;
            part = from_client(exchange, reads) => {
                match part? {
                    // The frame that ends a body is often empty: there is nothing to send, and no room to wait for.
                    Part::Data(part) if part.is_empty() => self.pace.came(asked.elapsed(), 0),
                    Part::Data(part) => {
                        self.pace.came(asked.elapsed(), part.len());
                        record.bytes_in(part.len());
                        replay.push(&part)?;
                        self.waiting.push(part);
                        if exchange.body_done() {
                            // Its end can go out with it.
                            self.finish(exchange.request_trailers().await.map_err(|_| Refusal::ClientBody)?, replay);
                        }
                    }
                    Part::End(trailers) => self.finish(trailers, replay),
                }
                Ok(Step::Moved)
            }
            sent = self.send() => Ok(sent.map_or_else(|error| self.stop(error), |()| Step::Moved)),
        }
    }

    fn finish(&mut self, trailers: Option<HeaderMap>, replay: &mut Replay) {
        replay.end(trailers.clone());
        (self.end, self.trailers) = (true, trailers);
    }

    async fn send(&mut self) -> Result<(), CallError> {
        let Some(sending) = self.sending.as_mut().filter(|_| !self.stopped) else { return pending().await };
        let last = self.end && self.trailers.is_none() && self.waiting.len() == 1;
        match self.waiting.last_mut() {
            Some(part) => {
                let ended = sending.send(part, last).await?;
                if part.is_empty() {
                    self.waiting.pop();
                }
                if ended {
                    self.sending = None;
                }
            }
            None if self.end => {
                sending.end(&mut self.trailers).await?;
                self.sending = None;
            }
            None => {
                sending.flush().await?;
                pending().await
            }
        }
        Ok(())
    }

    /// What sends stays as it is: to drop it would break off the answer that may still come.
    fn stop(&mut self, error: CallError) -> Step {
        self.stopped = true;
        Step::Stopped(error)
    }
}

/// A part of a request's body.
enum Part {
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// The next part of the body; or, when none is wanted now, only the client's leaving.
async fn from_client<E: Exchange>(exchange: &mut E, reads: bool) -> Result<Part, Refusal> {
    match reads {
        true => next_part(exchange).await.map_err(|_| Refusal::ClientBody),
        false => {
            exchange.gone().await;
            Err(Refusal::ClientGone)
        }
    }
}

async fn next_part<E: Exchange>(exchange: &mut E) -> Result<Part, Gone> {
    match exchange.read_body().await? {
        Some(part) => Ok(Part::Data(part)),
        None => Ok(Part::End(exchange.request_trailers().await?)),
    }
}
