//! The running gateway's side: it offers its sockets to whoever succeeds it.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use config::resource::Name;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, DESCRIPTORS, Listener, Place};
use super::{Message, PATIENCE, PROTOCOL, READY, Terms, reached};
use crate::runtime::Handle;

/// So many peers go into a packet: each takes less than 256 bytes.
const PEERS: usize = 256;

/// Waits for a successor.
pub struct Offer {
    listener: Listener,
    name: Name,
    aside: Aside,
}

/// Told whether a successor is under way, which then speaks with the agent in both their names.
pub type Aside = Box<dyn Fn(bool) + Send + Sync>;

/// Why there is no successor after all.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Talk(#[from] io::Error),
    #[error("it is gone")]
    Gone,
    #[error("it took too long")]
    TooLate,
    #[error("{0}")]
    Refused(String),
}

impl Offer {
    /// Listens beside the path, at which successors look once the place is taken.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(path: &Path, name: Name, aside: Aside) -> io::Result<(Self, Place)> {
        let (listener, place) = Listener::beside(path)?;
        Ok((Offer { listener, name, aside }, place))
    }

    /// Serves one after another, until one has succeeded.
    pub(crate) async fn serve(self, handle: Handle, succeeded: CancellationToken) {
        loop {
            let channel = match self.listener.accept().await {
                Ok(channel) => channel,
                Err(error) => {
                    tracing::warn!(%error, "a successor could not be heard");
                    tokio::time::sleep(PATIENCE).await;
                    continue;
                }
            };
            match self.hand_over(&channel, &handle).await {
                Ok(()) => return succeeded.cancel(),
                Err(failure) => {
                    tracing::warn!(%failure, "a successor did not take over: going on");
                    handle.sockets().accept(true);
                    (self.aside)(false);
                    // Who only sees the channel's end takes this gateway for dead. Whoever is gone needs no reason.
                    let refused = Message::Refused { reason: failure.to_string() };
                    _ = timeout(PATIENCE, channel.send(&refused, &[])).await;
                }
            }
        }
    }

    async fn hand_over(&self, channel: &Channel, handle: &Handle) -> Result<(), Failure> {
        let hello = timeout(PATIENCE, hear(channel)).await.map_err(|_| Failure::TooLate)??;
        self.check(&hello)?;
        tracing::info!("a successor wants to take over");
        (self.aside)(true);
        let peers = handle.live_peers().into_iter().map(reached).collect();
        let terms = Terms { revision: handle.revision(), peers };
        let sockets = handle.sockets().all();
        timeout(PATIENCE, give(channel, &terms, &sockets)).await.map_err(|_| Failure::TooLate)??;
        let ready = timeout(READY, hear(channel)).await.map_err(|_| Failure::TooLate)?;
        let Message::Ready = ready? else { return Err(out_of_turn()) };
        handle.sockets().accept(false);
        channel.send(&Message::Yours, &[]).await?;
        // Without a deadline: it serves, or is gone. If this gateway went on besides, there would be two of one name.
        match hear(channel).await? {
            Message::Serving => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    fn check(&self, hello: &Message) -> Result<(), Failure> {
        match hello {
            Message::Hello { protocol: PROTOCOL, name } if *name == self.name => Ok(()),
            Message::Hello { protocol: PROTOCOL, name } => {
                Err(Failure::Refused(format!("it is {}, and the successor {name}", self.name)))
            }
            _ => Err(Failure::Refused("it is of a version that hands over in another way".to_owned())),
        }
    }
}

fn out_of_turn() -> Failure {
    Failure::Refused("the successor spoke out of turn".to_owned())
}

/// What [`take`](super::claim::take) takes.
pub(super) async fn give(channel: &Channel, terms: &Terms, sockets: &[impl AsFd]) -> io::Result<()> {
    let Terms { revision, peers } = terms;
    let counts = Message::Terms { revision: *revision, peers: peers.len(), sockets: sockets.len() };
    channel.send(&counts, &[]).await?;
    for some in peers.chunks(PEERS) {
        channel.send(&Message::Peers { peers: some.to_vec() }, &[]).await?;
    }
    for some in sockets.chunks(DESCRIPTORS) {
        let descriptors: Vec<_> = some.iter().map(AsFd::as_fd).collect();
        channel.send(&Message::Sockets, &descriptors).await?;
    }
    Ok(())
}

async fn hear(channel: &Channel) -> Result<Message, Failure> {
    Ok(channel.receive().await?.ok_or(Failure::Gone)?.0)
}
