//! The world that members follow: the controller's, with what the agent itself sees in its cluster.

use std::sync::Arc;

use config::resource::Name;
use config::wire::{Ack, Hello, MemberRole, Observed, RevisionPair};
use config::world::{Fact, MeshTrust};
use identity::{Role, SpiffeId};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::roster::Roster;
use crate::http::{ClientCertificate, Stale};
use crate::sync::client::Seen;
use crate::sync::relay;
use crate::sync::{Feed, Published, Refusal, Session, Source};

/// The agent as a source for its members.
pub(super) struct LocalSource {
    pub(super) mesh: String,
    pub(super) roster: Arc<Roster>,
    pub(super) certificates: Arc<Certificates>,
    /// Whether a controller's world is known.
    pub(super) known: watch::Receiver<bool>,
    /// The world as gateways get it; empty until one is known.
    pub(super) feed: watch::Receiver<Arc<Published>>,
    /// The same as DNS servers get it.
    pub(super) names: watch::Receiver<Arc<Published>>,
    /// Ends every stream.
    pub(super) shutdown: CancellationToken,
}

impl Source for LocalSource {
    fn mesh(&self) -> String {
        self.mesh.clone()
    }

    fn open(&self, peer: &ClientCertificate, hello: &Hello) -> Result<Feed, Refusal> {
        check_name(&peer.id, hello)?;
        if !*self.known.borrow() {
            // An empty world would take away what the member serves from its own disk.
            return Err(Refusal("the agent itself knows no world yet: its controller was never in reach".into()));
        }
        self.meet(peer, &hello.name)?;
        let end = self.shutdown.child_token();
        let (asker, questions) = relay::line(hello);
        let number = self.roster.open_stream(hello, end.clone(), asker)?;
        let session = MemberSession { roster: self.roster.clone(), name: hello.name.clone(), number };
        // Again: of a successor that enrols meanwhile hears either the roster, which ends this stream, or this.
        self.meet(peer, &hello.name)?;
        tracing::info!(member = %hello.name, role = ?hello.role, "a member follows");
        let world = if hello.role == MemberRole::Dns { &self.names } else { &self.feed };
        Ok(Feed { world: world.clone(), session: Box::new(session), questions, end })
    }
}

impl LocalSource {
    fn meet(&self, peer: &ClientCertificate, name: &Name) -> Result<(), Refusal> {
        let met = peer.check(&*self.certificates, OffsetDateTime::now_utc());
        met.and_then(|()| self.certificates.meet(peer, name)).map_err(|stale: Stale| Refusal(stale.to_string()))
    }
}

fn check_name(peer: &SpiffeId, hello: &Hello) -> Result<(), Refusal> {
    let Role::Member { name, .. } = peer.role() else {
        return Err(Refusal(format!("{peer} is no member: only gateways and DNS servers follow an agent")));
    };
    if hello.role == MemberRole::Agent {
        return Err(Refusal("an agent follows the controller, not another agent".into()));
    }
    let announced = hello.addresses.as_ref().is_none_or(|addresses| addresses.name == hello.name);
    match hello.name.as_str() == name && announced {
        true => Ok(()),
        false => Err(Refusal(format!("{peer} said hello as {}: a member speaks only for itself", hello.name))),
    }
}

struct MemberSession {
    roster: Arc<Roster>,
    name: Name,
    number: u64,
}

impl Session for MemberSession {
    fn heard(&mut self) {
        self.roster.heard(&self.name, self.number);
    }

    fn observed(&mut self, _: Observed) -> Result<(), Refusal> {
        Err(Refusal("a member observes nothing; only agents do".into()))
    }

    fn acknowledged(&mut self, ack: Arc<Ack>) {
        self.roster.acknowledged(&self.name, self.number, ack);
    }

    fn leaving(&mut self) {
        self.roster.leave(&self.name, self.number);
    }
}

impl Drop for MemberSession {
    fn drop(&mut self) {
        self.roster.lost(&self.name, self.number);
    }
}

/// The controller's world, but what the agent sees of its own cluster as it is now: so local changes take effect at
/// once, also when the controller is away. Of the control plane members are told whom *they* believe there: the top-level
/// CA is in no data plane.
pub(super) fn merge(cluster: &Name, controller: &Published, seen: &Seen, trust: Fact) -> Published {
    let own = ["Service", "Node", "remote"].map(|kind| format!("{kind}/{cluster}/"));
    let mut entries = (*controller.entries).clone();
    for (folder, _) in controller.entries.folders().filter(|(name, _)| own.iter().any(|own| name.starts_with(own))) {
        entries.remove_folder(folder);
    }
    for (name, folder) in seen.entries.folders() {
        match entries.folder(name).is_some() {
            true => entries.extend(folder.iter().map(|(key, value)| (Arc::clone(key), value.clone()))),
            false => entries.put_folder(Arc::clone(name), Arc::clone(folder)),
        }
    }
    let trust = trust.entry().inspect_err(|error| tracing::error!(%error, "members cannot be told whom to believe"));
    entries.remove(MeshTrust::KEY);
    entries.extend(trust);
    Published {
        revision: RevisionPair { global: controller.revision.global, agent: seen.at },
        entries: Arc::new(entries),
        secrets: controller.secrets.clone(),
        ..Published::default()
    }
}

/// What of members' world a DNS server gets: certificates of hosts and their keys are for those who terminate TLS.
pub(super) fn names(world: &Published) -> Published {
    let is_certificate = |name: &str| ["Certificate/", "hostCertificate/"].iter().any(|kind| name.starts_with(kind));
    let mut entries = (*world.entries).clone();
    for (folder, _) in world.entries.folders().filter(|(name, _)| is_certificate(name)) {
        entries.remove_folder(folder);
    }
    Published { revision: world.revision, entries: Arc::new(entries), ..Published::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use config::resource::SecretRef;
    use config::wire::{Entries, Order, PROTOCOL, Secret};
    use serde_json::json;

    #[test]
    fn a_dns_server_gets_neither_certificates_nor_keys() {
        let entries =
            |keys: &[&str]| -> Arc<Entries> { Arc::new(keys.iter().map(|key| (*key, json!(1).into())).collect()) };
        let reference = SecretRef { key_sha256: "a".into() };
        let secrets = [(reference.clone(), Secret::new(reference, String::new().into()))];
        let world = Published {
            revision: RevisionPair { global: 7, ..RevisionPair::default() },
            entries: entries(&["Certificate/shop/web", "PublicService/shop/web", "hostCertificate/shop/web", "mesh"]),
            secrets: Arc::new(secrets.into()),
            ..Published::default()
        };
        let names = names(&world);
        assert_eq!(names.entries, entries(&["PublicService/shop/web", "mesh"]));
        assert!(names.secrets.is_empty() && names.revision == world.revision, "it is as far as the others");
    }

    #[test]
    fn of_its_own_cluster_the_agent_knows_better() {
        let entries = |items: &[(&str, u8)]| -> Arc<Entries> {
            Arc::new(items.iter().map(|(key, value)| ((*key).to_owned(), json!(value).into())).collect())
        };
        let theirs = entries(&[("Service/north/a/gone", 1), ("gateways/north", 1), ("gateways/south", 1), ("mesh", 1)]);
        let controller = Published { entries: theirs, ..Published::default() };
        let seen = Seen { entries: entries(&[("Service/north/a/new", 2), ("gateways/north", 2)]), ..Seen::default() };
        let trust = MeshTrust { roots: vec!["the control CA".into()], order: Order::default() };
        let mut merged = merge(&"north".parse().unwrap(), &controller, &seen, Fact::Mesh(Arc::new(trust.clone())));
        let own = Arc::make_mut(&mut merged.entries).remove("mesh").unwrap();
        assert_eq!(own.read::<Fact>().unwrap(), Fact::Mesh(Arc::new(trust)), "not the top-level CA");
        let expected = entries(&[("Service/north/a/new", 2), ("gateways/north", 2), ("gateways/south", 1)]);
        assert_eq!(merged.entries, expected);
    }

    #[test]
    fn a_member_speaks_only_for_itself() {
        let hello = |name: &str, role| Hello {
            protocol: PROTOCOL,
            version: String::new(),
            features: vec![],
            name: name.parse().unwrap(),
            boot: String::new(),
            role,
            addresses: None,
        };
        let peer = |text: &str| text.parse::<SpiffeId>().unwrap();
        let gw1 = peer("spiffe://m/cluster/north/member/gw1");
        assert_eq!(check_name(&gw1, &hello("gw1", MemberRole::Gateway)), Ok(()));
        assert!(check_name(&gw1, &hello("gw2", MemberRole::Gateway)).is_err());
        assert!(check_name(&gw1, &hello("gw1", MemberRole::Agent)).is_err());
        let agent = peer("spiffe://m/cluster/north/agent");
        assert!(check_name(&agent, &hello("gw1", MemberRole::Gateway)).is_err());
    }
}
