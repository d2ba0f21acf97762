//! The successor's side: it takes the sockets, makes itself ready, and serves in the running gateway's place.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use config::resource::Name;
use tokio::time::timeout;

use super::channel::{Channel, Place, is_gone};
use super::{Message, PATIENCE, PROTOCOL, READY, TakeoverError, Terms, reached};
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
    let (terms, sockets) = take(&channel).await?;
    tracing::info!(sockets = sockets.len(), "taking over from the running gateway");
    Ok(Some((Claim { channel, terms }, Sockets::inherit(sockets)?)))
}

/// What [`give`](super::offer::give) gives.
pub(super) async fn take(channel: &Channel) -> Result<(Terms, Vec<OwnedFd>), TakeoverError> {
    let Message::Terms { revision, peers, sockets } = hear(channel).await?.0 else {
        return Err(TakeoverError::OutOfTurn);
    };
    let mut terms = Terms { revision, peers: Vec::new() };
    while terms.peers.len() < peers {
        match hear(channel).await?.0 {
            Message::Peers { peers: mut some } if !some.is_empty() => terms.peers.append(&mut some),
            _ => return Err(TakeoverError::OutOfTurn),
        }
    }
    let mut descriptors = Vec::new();
    while descriptors.len() < sockets {
        match hear(channel).await? {
            (Message::Sockets, mut some) if !some.is_empty() => descriptors.append(&mut some),
            _ => return Err(TakeoverError::OutOfTurn),
        }
    }
    Ok((terms, descriptors))
}

async fn hear(channel: &Channel) -> Result<(Message, Vec<OwnedFd>), TakeoverError> {
    let heard = timeout(PATIENCE, channel.receive()).await.map_err(|_| TakeoverError::Silent)?;
    match heard?.ok_or(TakeoverError::Ended)? {
        (Message::Refused { reason }, _) => Err(TakeoverError::Refused(reason)),
        heard => Ok(heard),
    }
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
        handle.sockets().accept(true);
        if !alone && let Err(error) = self.serving(place.as_ref()).await {
            handle.sockets().accept(false);
            return Err(error);
        }
        // Only now: up to here the running gateway may go on, and successors must find that one.
        if let Some(Err(error)) = place.map(Place::take) {
            tracing::warn!(%error, "successors will not find this gateway");
        }
        tokio::spawn(close_unused(handle.sockets().clone()));
        tracing::info!("took over");
        Ok(())
    }

    /// Tells the running gateway, which then ends. If it has ended already, nobody else must have come into its place.
    async fn serving(&self, place: Option<&Place>) -> Result<(), TakeoverError> {
        let Err(error) = self.channel.send(&Message::Serving, &[]).await else { return Ok(()) };
        tracing::warn!(%error, "the running gateway went away meanwhile");
        match place.is_some_and(Place::is_taken) {
            true => Err(TakeoverError::Replaced),
            false => Ok(()),
        }
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
        let live: BTreeSet<_> = handle.live_peers().into_iter().map(reached).collect();
        if let Some((_, cluster, gateway)) = self.terms.peers.iter().find(|peer| !live.contains(peer)) {
            return Some(format!("it has no tunnel to {gateway} of cluster {cluster}"));
        }
        let unchecked = handle.unchecked();
        (unchecked > 0).then(|| format!("{unchecked} instances were not checked yet"))
    }

    /// Whether the running gateway is gone, instead of making way.
    pub(super) async fn yours(&self) -> Result<bool, TakeoverError> {
        match self.channel.send(&Message::Ready, &[]).await {
            // What it said last can still be heard.
            Err(error) if is_gone(&error) => {}
            sent => sent?,
        }
        let said = timeout(PATIENCE, self.channel.receive()).await.map_err(|_| TakeoverError::Silent)?;
        match said?.map(|(message, _)| message) {
            Some(Message::Yours) => Ok(false),
            other => ended(other),
        }
    }
}

async fn close_unused(sockets: Sockets) {
    tokio::time::sleep(UNUSED).await;
    for address in sockets.close_unused() {
        tracing::info!(%address, "this gateway does not listen there any more");
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
