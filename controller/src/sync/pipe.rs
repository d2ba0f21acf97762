//! The two directions of a stream as whole frames: bounded, and never waiting for ever.

use std::fmt;
use std::io;

use bytes::Bytes;
use config::wire::Secret;
use config::wire::frame::{self, Decoder, Frame, FrameError};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::steps::JoinError;
use super::{Refusal, SILENCE};
use crate::http::client::CallError;

/// So many frames wait for the network; whoever makes more waits too.
const WAITING: usize = 2;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the peer said goodbye: {0}")]
    Goodbye(String),
    #[error("the follower leaves")]
    Left,
    #[error("nothing was heard for {SILENCE:?}")]
    Silent,
    #[error("the peer took nothing for {SILENCE:?}")]
    Stuck,
    #[error("the connection ended")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the peer spoke out of turn: {0}")]
    OutOfTurn(&'static str),
    #[error("what the peer sends makes no sense: {0}")]
    Frame(#[from] FrameError),
    #[error("what the peer sends makes no sense: {0}")]
    Join(#[from] JoinError),
}

/// What is heard.
pub(super) struct Inlet<B> {
    body: B,
    decoder: Decoder,
}

impl<B> Inlet<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    pub(super) fn new(body: B) -> Self {
        Inlet { body, decoder: Decoder::default() }
    }

    /// The next frame; the end of the stream, and a silence that is too long, are errors.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Frame<T>, Ending> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(frame);
            }
            let part = timeout(SILENCE, self.body.frame()).await.map_err(|_| Ending::Silent)?;
            let part = part.ok_or(Ending::Closed)?.map_err(|e| Ending::Broken(e.to_string()))?;
            if let Ok(bytes) = part.into_data() {
                self.decoder.push(&bytes);
            }
        }
    }
}

/// What is said.
pub(super) struct Outlet(mpsc::Sender<Bytes>);

impl Outlet {
    /// An outlet, and the body that brings its frames to the peer.
    pub(super) fn new() -> (Self, BoxBody<Bytes, io::Error>) {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let frames = stream::poll_fn(move |context| {
            receiver.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
        });
        (Outlet(sender), BodyExt::boxed(StreamBody::new(frames)))
    }

    pub(super) async fn message(&self, message: &impl Serialize) -> Result<(), Ending> {
        self.send(frame::message(message)?).await
    }

    pub(super) async fn secret(&self, secret: &Secret) -> Result<(), Ending> {
        self.send(frame::secret(secret)?).await
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Ending> {
        let sent = timeout(SILENCE, self.0.send(bytes)).await.map_err(|_| Ending::Stuck)?;
        sent.map_err(|_| Ending::Closed)
    }
}
