//! What a data plane does towards its agent: it enrols, follows the agent's world, and gets its identities.
//!
//! Everything that comes is kept on disk, so a restarted member has world, secrets and identities at once, whoever
//! else is gone.

pub mod credential;
pub mod holdings;
mod order;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::resource::{GatewayAddresses, Name, SecretRef};
use config::wire::{Ack, Hello, MemberRole, PROTOCOL, Rejection, Secret, TrustReport};
use config::world::World;
use identity::files::{FileError, read_private};
use identity::spiffe::SpiffeError;
use identity::{Identity, KeyedCertificate, PrivateKey, Role, RoleKind, SpiffeId, TrustDomain};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::client::{CallError, Client};
use crate::http::csr;
use crate::http::message::{ENROL, Enrol, Enrolled, IDENTITY};
use crate::http::token::Token;
use crate::sync::Published;
use crate::sync::cache::{Cache, make_private_dir, set_aside};
use crate::sync::client::{Follower, follow};
use crate::sync::reading::Reading;
use crate::sync::relay::Answerer;

use credential::{Credential, CredentialError, Keeper, Wanted, enrolment_client};
use holdings::{Held, Holdings, Needs, Recipe};

/// How a member stands to its agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// It follows.
    #[default]
    Here,
    /// A process that may succeed it follows in its name; it goes on by what it last had.
    Aside,
    /// It says that it leaves, and ends.
    Leaving,
    /// It ends without a word: a successor of the same name stays.
    Succeeded,
}

/// So often it is looked whether the agent has written another token: a re-made agent has another CA.
const LOOK: Duration = Duration::from_secs(2);

/// Who the member is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `member.token` that the agent wrote. It may come later than this process.
    pub token_file: PathBuf,
    /// The process's own state directory.
    pub state_dir: PathBuf,
    /// The member's name, unique in its cluster.
    pub name: Name,
    /// Gateway or DNS server.
    pub role: MemberRole,
    /// Where a gateway is reached.
    pub addresses: Option<GatewayAddresses>,
}

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum MemberError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(
        "neither {0} nor a member token says of which cluster this is ({1}): start the cluster's agent first, and give \
         the path of its member.token with --agent"
    )]
    Unknown(PathBuf, String),
    #[error(
        "{0} holds what a member of cluster {1} left, and the token is of cluster {2}: use another state directory"
    )]
    Moved(PathBuf, Name, Name),
}

/// The world as the agent last had it, read.
#[derive(Debug, Clone)]
pub struct Followed {
    /// What could be read.
    pub world: World,
    /// The keys of host certificates.
    pub secrets: Secrets,
    /// What couldn't be read; for the acknowledgement.
    pub rejected: Vec<Rejection>,
}

/// The keys of host certificates. Its `Debug` shows only how many.
#[derive(Clone, Default)]
pub struct Secrets(pub Arc<BTreeMap<SecretRef, Secret>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// The identities of a gateway, by GNS.
pub type Identities = Held<Identity>;

/// A data plane, as a member of its cluster.
pub struct Member {
    settings: Settings,
    cluster: Name,
    cache: Cache,
    world: watch::Sender<Option<Arc<Published>>>,
    reading: Reading,
    followed: watch::Sender<Option<Arc<Followed>>>,
    identities: Holdings<Identity>,
    own: watch::Sender<Option<TrustReport>>,
    answerer: Option<Answerer>,
}

impl Member {
    /// Takes up what is on disk; nobody is asked yet.
    ///
    /// # Errors
    /// When the state directory cannot be used, or neither it nor the token says of which cluster this is.
    pub fn build(settings: Settings) -> Result<Self, MemberError> {
        make_private_dir(&settings.state_dir)?;
        let cluster = cluster_of(&settings)?;
        let cache = Cache::open(&settings.state_dir)?;
        let recipe = identity_recipe(&cluster, &settings.name);
        let identities = Holdings::open(settings.state_dir.join("identities"), recipe)?;
        let world = cache.load().map(Arc::new);
        let mut reading = Reading::default();
        let followed = world.as_deref().map(|world| Arc::new(read(&mut reading, world)));
        let (world, followed) = (watch::Sender::new(world), watch::Sender::new(followed));
        let own = watch::Sender::default();
        Ok(Member { settings, cluster, cache, world, reading, followed, identities, own, answerer: None })
    }

    /// It answers questions, by this.
    #[must_use]
    pub fn answering(self, answerer: Answerer) -> Self {
        Member { answerer: Some(answerer), ..self }
    }

    /// The cluster whose member this is.
    pub fn cluster(&self) -> &Name {
        &self.cluster
    }

    /// The world: from disk, then as the agent has it; nothing until one was ever known.
    pub fn followed(&self) -> watch::Receiver<Option<Arc<Followed>>> {
        self.followed.subscribe()
    }

    /// The gateway's identities: from disk, then as they are renewed.
    pub fn identities(&self) -> watch::Receiver<Arc<Identities>> {
        self.identities.subscribe()
    }

    /// What the member shows to its agent, and by whom it knows that one; nothing until it has enrolled.
    pub fn own(&self) -> watch::Receiver<Option<TrustReport>> {
        self.own.subscribe()
    }

    /// Enrols and follows for as long as it is [`Standing::Here`], whoever goes and comes. When it is leaving the agent is
    /// told, which takes no longer than [`FAREWELL`](crate::sync::client::FAREWELL). `needs` says in which GNSs a gateway
    /// wants an identity; `ack` says how far it is.
    pub async fn run(
        self,
        needs: watch::Receiver<Arc<Needs>>,
        ack: watch::Receiver<Ack>,
        mut standing: watch::Receiver<Standing>,
    ) {
        let Member { settings, cluster, cache, world, mut reading, followed, identities, own, answerer } = self;
        let boot = format!("{:016x}", fastrand::u64(..));
        let wanted = watch::Sender::default();
        let link = Link {
            settings,
            cluster,
            boot,
            world: world.clone(),
            identities,
            own,
            wanted: wanted.subscribe(),
            answerer,
        };
        let to_keep = world.subscribe();
        // Without a sender nobody says how it stands: it ends.
        while let Ok(Standing::Here) = standing.wait_for(|now| *now != Standing::Aside).await.map(|now| *now) {
            let leaving = CancellationToken::new();
            tokio::select! {
                () = cache.clone().keep(to_keep.clone()) => {}
                () = publish(&mut reading, world.subscribe(), &followed, &wanted) => {}
                () = link.hold(needs.clone(), ack.clone(), leaving.clone()) => {}
                () = gone_aside(&mut standing, &leaving) => {}
            }
        }
    }
}

fn read(reading: &mut Reading, published: &Published) -> Followed {
    reading.read(published);
    let secrets = Secrets(published.secrets.clone());
    Followed { world: reading.world().clone(), secrets, rejected: reading.rejected() }
}

/// Comes back when the member shall neither follow nor say that it leaves; for leaving, it lets the link say so.
async fn gone_aside(standing: &mut watch::Receiver<Standing>, leaving: &CancellationToken) {
    let stands = standing.wait_for(|now| *now != Standing::Here).await.map_or(Standing::Succeeded, |now| *now);
    if stands == Standing::Leaving {
        leaving.cancel();
        std::future::pending().await
    }
}

async fn publish(
    reading: &mut Reading,
    mut world: watch::Receiver<Option<Arc<Published>>>,
    followed: &watch::Sender<Option<Arc<Followed>>>,
    wanted: &watch::Sender<Option<Arc<Wanted>>>,
) {
    while world.changed().await.is_ok() {
        let newest = world.borrow_and_update().clone();
        if let Some(newest) = newest {
            followed.send_replace(Some(Arc::new(read(reading, &newest))));
            let newest = Wanted::of(reading.world());
            wanted.send_if_modified(|wanted| (*wanted != newest).then(|| *wanted = newest).is_some());
        }
    }
}

/// From the token, or, when that isn't there, from what the last life of this member left.
fn cluster_of(settings: &Settings) -> Result<Name, MemberError> {
    let kept = Credential::load(&settings.state_dir.join("member.pem")).ok();
    let kept: Option<Name> = kept.and_then(|kept| kept.id().cluster()?.parse().ok());
    match (kept, read_token(&settings.token_file)) {
        (Some(kept), Ok(token)) if kept != token.cluster => {
            Err(MemberError::Moved(settings.state_dir.clone(), kept, token.cluster))
        }
        (Some(kept), _) => Ok(kept),
        (None, Ok(token)) => Ok(token.cluster),
        (None, Err(reason)) => Err(MemberError::Unknown(settings.state_dir.clone(), reason)),
    }
}

fn identity_recipe(cluster: &Name, name: &Name) -> Recipe<Identity> {
    let (cluster, name) = (cluster.to_string(), name.to_string());
    let id = move |domain: &str| {
        let role = Role::Gateway { cluster: cluster.clone(), name: name.clone() };
        SpiffeId::new(domain.parse()?, role)
    };
    let read = |text: &str| {
        let keyed = KeyedCertificate::from_pem(text, text).map_err(|e| e.to_string())?;
        Identity::new(keyed).map_err(|e| e.to_string())
    };
    Recipe { path: IDENTITY, id: Box::new(id), read }
}

/// The link to the agent: made anew when the agent's token changes, or the member's certificate expired.
struct Link {
    settings: Settings,
    cluster: Name,
    /// Of this life.
    boot: String,
    world: watch::Sender<Option<Arc<Published>>>,
    identities: Holdings<Identity>,
    own: watch::Sender<Option<TrustReport>>,
    /// What the agent says of the member's own certificate.
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    answerer: Option<Answerer>,
}

impl Link {
    async fn hold(&self, needs: watch::Receiver<Arc<Needs>>, ack: watch::Receiver<Ack>, shutdown: CancellationToken) {
        let mut said = String::new();
        while !shutdown.is_cancelled() {
            let attempt = async {
                let token = self.token()?;
                self.attend(&token, &needs, &ack, &shutdown).await.map_err(|e| e.to_string())
            };
            if let Err(reason) = attempt.await
                && said != reason
            {
                tracing::warn!(%reason, "not with the agent yet; trying again until it works");
                said = reason;
            }
            let pause = tokio::time::sleep(LOOK.mul_f64(0.4 + 0.2 * fastrand::f64()));
            shutdown.run_until_cancelled(pause).await;
        }
    }

    async fn attend(
        &self,
        token: &Token,
        needs: &watch::Receiver<Arc<Needs>>,
        ack: &watch::Receiver<Ack>,
        shutdown: &CancellationToken,
    ) -> Result<(), CredentialError> {
        let path = self.settings.state_dir.join("member.pem");
        let enrolled = shutdown.run_until_cancelled(self.credential(token, &path)).await;
        let Some(credential) = enrolled.transpose()? else { return Ok(()) };
        let tls = watch::Sender::new(Arc::new(credential.client_tls(RoleKind::Agent)?));
        let client = Client::new(token.address.clone(), tls.subscribe());
        let (client_of, answerer) = (client.clone(), self.answerer.clone());
        let follower = Follower { client: client_of, hello: self.hello(), seen: None, ack: ack.clone(), answerer };
        let keeper = Keeper { path: &path, server: RoleKind::Agent, client: &client, tls: &tls, told: &self.own };
        tokio::select! {
            () = follow(follower, self.world.clone(), shutdown.clone()) => {}
            () = keeper.keep_fresh(credential, self.wanted.clone()) => {}
            () = self.identities.keep_fresh(&client, needs.clone()) => {}
            () = self.token_changed(token) => tracing::info!("the agent wrote another token"),
        }
        Ok(())
    }

    fn token(&self) -> Result<Token, String> {
        let token = read_token(&self.settings.token_file)?;
        match token.cluster == self.cluster {
            true => Ok(token),
            false => Err(format!("the agent's token is of cluster {} now, not of {}", token.cluster, self.cluster)),
        }
    }

    /// Waits until the agent has written another token. An unreadable file is no other token.
    async fn token_changed(&self, token: &Token) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.token().is_ok_and(|newest| newest != *token) {
                return;
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            features: vec![],
            name: self.settings.name.clone(),
            boot: self.boot.clone(),
            role: self.settings.role,
            addresses: self.settings.addresses.clone(),
        }
    }

    /// The one on disk, if the CA that the token pins made it under this name and it lives; else a new one. Should the
    /// token be older than the agent's control CA, the one on disk serves on: it was renewed since.
    async fn credential(&self, token: &Token, path: &Path) -> Result<Credential, CredentialError> {
        let id = member_id(&self.settings, token)?;
        let kept = self.kept(&id, path);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_below(token)) {
            return Ok(kept.clone());
        }
        // The control CA is just being replaced: who enrols has left first, who renews stays.
        if let Some(kept) = kept.as_ref().filter(|kept| kept.believes(&token.ca_sha256))
            && let Ok(renewed) = kept.renewed_at(&token.address).await
        {
            renewed.store(path)?;
            return Ok(renewed);
        }
        let credential = match (enrol(&self.settings, token, &id).await, kept) {
            (Err(CredentialError::Call(error @ CallError::NotPinned { .. })), Some(kept)) => {
                tracing::warn!(%error, "the member token is old; what this member holds serves on");
                return Ok(kept);
            }
            (enrolled, _) => enrolled?,
        };
        credential.store(path)?;
        tracing::info!(id = %credential.id(), "enrolled");
        Ok(credential)
    }

    /// What is on disk and lives, in this name.
    fn kept(&self, id: &SpiffeId, path: &Path) -> Option<Credential> {
        let loaded = path.exists().then(|| Credential::load(path))?;
        let kept = loaded.map_err(|error| set_aside(path, &error.to_string())).ok()?;
        (kept.is_alive() && kept.id() == id).then_some(kept)
    }
}

fn member_id(settings: &Settings, token: &Token) -> Result<SpiffeId, SpiffeError> {
    let role = Role::Member { cluster: token.cluster.to_string(), name: settings.name.to_string() };
    SpiffeId::new(TrustDomain::mesh(&token.mesh)?, role)
}

async fn enrol(settings: &Settings, token: &Token, id: &SpiffeId) -> Result<Credential, CredentialError> {
    let key = PrivateKey::generate()?;
    let request = Enrol {
        secret: token.secret.to_string(),
        name: settings.name.clone(),
        role: settings.role,
        csr: csr::make(id, &key)?,
    };
    let answer: Enrolled = enrolment_client(token, RoleKind::Agent)?.post(ENROL, &request).await?;
    Credential::new(id, &answer.certificate, &answer.ca, &answer.order, &key)
}

/// Reads the token that an agent wrote.
///
/// # Errors
/// What is wrong with the file, and the remedy.
pub fn read_token(path: &Path) -> Result<Token, String> {
    let text = read_private(path).map_err(|e| format!("{e}; the cluster's agent writes it at its first start"))?;
    let text = std::str::from_utf8(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    text.parse().map_err(|e| format!("{}: {e}", path.display()))
}
