//! The successor's side: it takes the sockets, makes itself ready, and serves in the running gateway's place.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use config::resource::Name;
use tokio::time::timeout;

use super::channel::{Channel, Place};
use super::{Message, PATIENCE, PROTOCOL, READY, TakeoverError, Terms, tuple};
use crate::listener::sockets::Sockets;
use crate::runtime::Handle;

/// From one look at what is missing to the next.
const LOOK: Duration = Duration::from_millis(20);
/// What was inherited and nobody has asked for is closed after so long.
const UNUSED: Duration = Duration::from_secs(10);

/// A takeover that has begun. When it is dropped, the running gateway goes on.
pub struct Claim {
    channel: Channel,
    terms: Terms,
}

/// Asks the gateway of this name that runs at the path for its sockets; nothing when none runs.
///
/// # Errors
/// When one runs that doesn't give them.
pub async fn claim(path: &Path, name: &Name) -> Result<Option<(Claim, Sockets)>, TakeoverError> {
    let Some(channel) = Channel::dial(path)? else { return Ok(None) };
    channel.send(&Message::Hello { protocol: PROTOCOL, name: name.clone() }, &[]).await?;
    let (terms, count) = match hear(&channel).await?.0 {
        Message::Terms { terms, sockets } => (terms, sockets),
        Message::Refused { reason } => return Err(TakeoverError::Refused(reason)),
        _ => return Err(TakeoverError::OutOfTurn),
    };
    let mut descriptors = Vec::new();
    while descriptors.len() < count {
        let (Message::Sockets, mut some) = hear(&channel).await? else { return Err(TakeoverError::OutOfTurn) };
        if some.is_empty() {
            return Err(TakeoverError::OutOfTurn);
        }
        descriptors.append(&mut some);
    }
    tracing::info!(sockets = count, "taking over from the running gateway");
    Ok(Some((Claim { channel, terms }, Sockets::inherit(descriptors)?)))
}

async fn hear(channel: &Channel) -> Result<(Message, Vec<OwnedFd>), TakeoverError> {
    let heard = timeout(PATIENCE, channel.receive()).await.map_err(|_| TakeoverError::Silent)?;
    heard?.ok_or(TakeoverError::Ended)
}

impl Claim {
    /// Waits until this gateway has what the running one has, and takes its place.
    ///
    /// # Errors
    /// When it doesn't come so far, or the running one goes on for a reason of its own.
    pub async fn complete(self, handle: &Handle, place: Option<Place>) -> Result<(), TakeoverError> {
        let alone = tokio::select! {
            ready = self.ready(handle) => {
                ready?;
                self.yours().await?
            }
            said = self.channel.receive::<Message>() => ended(said?.map(|(message, _)| message))?,
        };
        if alone {
            tracing::warn!("the running gateway is gone: serving at once");
        }
        place.map_or(Ok(()), Place::take)?;
        handle.sockets().accept(true);
        let sockets = handle.sockets().clone();
        tokio::spawn(async move {
            tokio::time::sleep(UNUSED).await;
            for address in sockets.close_unused() {
                tracing::info!(%address, "this gateway does not listen there any more");
            }
        });
        if !alone && let Err(error) = self.channel.send(&Message::Serving, &[]).await {
            tracing::warn!(%error, "the running gateway went away meanwhile");
        }
        tracing::info!("took over");
        Ok(())
    }

    async fn ready(&self, handle: &Handle) -> Result<(), TakeoverError> {
        let ready = async {
            while self.missing(handle).is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| TakeoverError::NotReady(self.missing(handle).unwrap_or_default());
        timeout(READY - PATIENCE, ready).await.map_err(late)
    }

    /// What the running gateway has and this one hasn't.
    fn missing(&self, handle: &Handle) -> Option<String> {
        let revision = handle.revision();
        if revision < self.terms.revision {
            return Some(format!("it acts on {revision:?}, the running gateway on {:?}", self.terms.revision));
        }
        let live: BTreeSet<_> = handle.live_peers().into_iter().map(tuple).collect();
        if let Some((_, cluster, gateway)) = self.terms.peers.iter().find(|peer| !live.contains(peer)) {
            return Some(format!("it has no tunnel to {gateway} of cluster {cluster}"));
        }
        let unchecked = handle.unchecked();
        (unchecked > 0).then(|| format!("{unchecked} instances were not checked yet"))
    }

    /// Whether the running gateway is gone, instead of making way.
    async fn yours(&self) -> Result<bool, TakeoverError> {
        self.channel.send(&Message::Ready, &[]).await?;
        let said = timeout(PATIENCE, self.channel.receive()).await.map_err(|_| TakeoverError::Silent)?;
        match said?.map(|(message, _)| message) {
            Some(Message::Yours) => Ok(false),
            other => ended(other),
        }
    }
}

/// Whether the running gateway is gone; else it says why it goes on.
fn ended(said: Option<Message>) -> Result<bool, TakeoverError> {
    match said {
        None => Ok(true),
        Some(Message::Refused { reason }) => Err(TakeoverError::Refused(reason)),
        Some(_) => Err(TakeoverError::OutOfTurn),
    }
}
