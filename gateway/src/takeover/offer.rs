//! The running gateway's side: it offers its sockets to whoever succeeds it.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use config::resource::Name;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, DESCRIPTORS, Listener, Place};
use super::{Message, PATIENCE, PROTOCOL, READY, Terms, tuple};
use crate::runtime::Handle;

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
                    if let Failure::Refused(reason) = failure {
                        // Whoever is gone needs no reason.
                        _ = channel.send(&Message::Refused { reason }, &[]).await;
                    }
                }
            }
        }
    }

    async fn hand_over(&self, channel: &Channel, handle: &Handle) -> Result<(), Failure> {
        let hello = timeout(PATIENCE, hear(channel)).await.map_err(|_| Failure::TooLate)??;
        self.check(&hello)?;
        tracing::info!("a successor wants to take over");
        (self.aside)(true);
        give(channel, handle).await?;
        let ready = timeout(READY, hear(channel)).await.map_err(|_| Failure::Refused("it took too long".to_owned()))?;
        let Message::Ready = ready? else { return Err(out_of_turn()) };
        handle.sockets().accept(false);
        channel.send(&Message::Yours, &[]).await?;
        match timeout(PATIENCE, hear(channel)).await.map_err(|_| Failure::TooLate)?? {
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

async fn give(channel: &Channel, handle: &Handle) -> Result<(), Failure> {
    let all = handle.sockets().all();
    let peers = handle.live_peers().into_iter().map(tuple).collect();
    let terms = Terms { revision: handle.revision(), peers };
    channel.send(&Message::Terms { terms, sockets: all.len() }, &[]).await?;
    for some in all.chunks(DESCRIPTORS) {
        let descriptors: Vec<_> = some.iter().map(|listener| listener.as_fd()).collect();
        channel.send(&Message::Sockets, &descriptors).await?;
    }
    Ok(())
}

async fn hear(channel: &Channel) -> Result<Message, Failure> {
    Ok(channel.receive().await?.ok_or(Failure::Gone)?.0)
}
