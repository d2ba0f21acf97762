//! The streams of the agents: each gets the newest world of its cluster, and tells what it sees and how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use config::resource::{Name, ResourceId};
use config::wire::{Ack, Entries, Hello, MemberRole, Observed};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::link::Link;
use super::observed::Observation;
use super::projection::project;
use crate::http::ClientCertificate;
use crate::sync::relay::{self, Asker};
use crate::sync::{Feed, Published, Refusal, Session, Source};

/// The controller's side of the agents' streams.
pub(super) struct Agents {
    pub(super) core: Arc<Core>,
    /// Ends every stream.
    pub(super) shutdown: CancellationToken,
}

impl Source for Agents {
    fn mesh(&self) -> String {
        self.core.mesh.clone()
    }

    fn open(&self, peer: &ClientCertificate, hello: &Hello) -> Result<Feed, Refusal> {
        let cluster = self.admit(peer, hello)?;
        let mut published = Arc::default();
        project(&self.core.view(), [&cluster], &mut self.core.telling(), |_, world| published = Arc::new(world));
        let (feed, world) = watch::channel(published);
        let end = self.shutdown.child_token();
        let (asker, questions) = relay::line(hello);
        let stream = self.link(peer, hello, (feed, asker), end.clone())?;
        self.core.note_change(); // what changed since the projection above was made
        tracing::info!(%cluster, version = hello.version, "an agent is connected");
        let session = Box::new(AgentSession { core: Arc::clone(&self.core), cluster, stream });
        Ok(Feed { world, session, questions, end })
    }
}

impl Agents {
    /// Makes this stream the cluster's, in place of an older one, if the cluster is still in the mesh. Returns its
    /// number.
    fn link(
        &self,
        peer: &ClientCertificate,
        hello: &Hello,
        (feed, asker): (watch::Sender<Arc<Published>>, Asker),
        end: CancellationToken,
    ) -> Result<u64, Refusal> {
        let mut state = self.core.state();
        let cluster = self.admit(peer, hello)?; // again: it may have been replaced while the world was made
        if !state.view.desired.resources.contains_key(&ResourceId::Cluster(cluster.clone())) {
            return Err(Refusal(format!("the cluster {cluster} left the mesh: join again with a new token")));
        }
        state.streams += 1;
        let (stream, heard) = (state.streams, Instant::now());
        let link = Link { stream, hello: hello.clone(), connected: true, heard, ack: None, feed, asker, end };
        if let Some(older) = state.links.insert(cluster, link) {
            older.end.cancel();
        }
        Ok(stream)
    }

    fn admit(&self, peer: &ClientCertificate, hello: &Hello) -> Result<Name, Refusal> {
        let cluster = self.core.agent_of(peer).map_err(|error| Refusal(error.to_string()))?;
        if hello.role != MemberRole::Agent || hello.name != cluster {
            return Err(Refusal(format!("the certificate is that of the agent of {cluster}, not of {}", hello.name)));
        }
        Ok(cluster)
    }
}

/// One agent's stream.
struct AgentSession {
    core: Arc<Core>,
    cluster: Name,
    stream: u64,
}

impl AgentSession {
    /// Does nothing once a newer stream took this one's place.
    fn with_link(&self, change: impl FnOnce(&mut Link)) {
        let mut state = self.core.state();
        if let Some(link) = state.links.get_mut(&self.cluster).filter(|link| link.stream == self.stream) {
            change(link);
        }
    }
}

impl Session for AgentSession {
    fn heard(&mut self) {
        self.with_link(|link| link.heard = Instant::now());
    }

    fn observed(&mut self, step: Observed) -> Result<(), Refusal> {
        // Not under the lock, because it may be large. Nobody else changes what this cluster's agent sees.
        let old = self.core.state().view.observed.get(&self.cluster).cloned();
        let mut observation = old.map_or_else(|| Observation::new(self.cluster.clone()), Arc::unwrap_or_clone);
        observation.apply(step)?;
        let mut state = self.core.state();
        if state.links.get(&self.cluster).is_none_or(|link| link.stream != self.stream) {
            return Err(Refusal("a newer stream of this agent took the place of this one".to_owned()));
        }
        state.view.observed.insert(self.cluster.clone(), Arc::new(observation));
        state.unsaved.insert(self.cluster.clone());
        drop(state);
        self.core.note_change();
        Ok(())
    }

    fn seen(&self) -> Entries {
        let state = self.core.state();
        state.view.observed.get(&self.cluster).map(|seen| seen.entries().clone()).unwrap_or_default()
    }

    fn acknowledged(&mut self, ack: Arc<Ack>) {
        self.with_link(|link| link.ack = Some((ack, Instant::now())));
        self.core.note_progress();
    }
}

impl Drop for AgentSession {
    fn drop(&mut self) {
        self.with_link(|link| {
            link.connected = false;
            tracing::warn!(cluster = %self.cluster, "the stream of an agent is lost; what it saw last still counts");
        });
        self.core.note_news();
    }
}

impl Core {
    /// Gives every agent the newest world of its cluster. However many changes came before, it is one step for each.
    pub(super) fn publish(&self) {
        let state = self.state();
        let view = state.view.clone();
        let feeds: BTreeMap<_, _> =
            state.links.iter().map(|(cluster, link)| (cluster.clone(), link.feed.clone())).collect();
        drop(state);
        project(&view, feeds.keys(), &mut self.telling(), |cluster, newest| {
            let Some(feed) = feeds.get(cluster) else { return };
            feed.send_if_modified(|current| {
                let changed = !same(current, &newest);
                if changed {
                    *current = Arc::new(newest);
                }
                changed
            });
        });
    }
}

fn same(one: &Published, other: &Published) -> bool {
    one.revision == other.revision && one.entries == other.entries && one.secrets == other.secrets
}
