//! The global controller: it holds the desired state, the authorities and what agents see, and tells each cluster what
//! that cluster must know.

mod access;
mod admin;
mod administration;
mod apply;
mod asking;
pub(crate) mod certificates;
mod commits;
pub(crate) mod core;
mod enrolment;
mod error;
pub(crate) mod explain;
mod freshness;
mod holders;
mod issued;
mod link;
mod members;
mod observed;
mod past;
pub(crate) mod phases;
pub(crate) mod projection;
mod readiness;
pub(crate) mod revocation;
pub(crate) mod rotation;
mod session;
pub(crate) mod status;
mod telling;
mod token;
mod view;
mod waiting;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::resource::cluster::AddressHost;
use config::resource::{Address, Name};
use identity::ca::renew_at;
use identity::tls::control_server_config;
use identity::{Accept, Identity, RoleKind, Trust};
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::core::Core;
use crate::access::Permit;
use crate::api;
use crate::http::SERVER_ALPN;
use crate::http::server::serve;
use crate::http::token::Token;
use crate::store::{EmbeddedStore, Store};
use crate::vault::SealKeys;

pub use crate::ca::Revocation;
pub use admin::{AdminContext, read_admin_context, write_admin_context};
pub use apply::{Action, Applied, Apply, MAX_BATCH, Outcome};
pub use certificates::{CertificateRow, CertificatesStatus, Level, TrustRow};
pub use error::Error;
pub use past::Rollback;
pub use phases::{Phase, Rotation};
pub use revocation::Revoke;
pub use rotation::Rotate;
pub use status::{AuthorityStatus, ClusterStatus, MemberStatus, MeshStatus, PeerRow};
pub use waiting::{Await, Awaited, Readiness};

/// So often what failed is tried again, and it is looked for certificates to renew though none seems to be due.
const MAINTENANCE: Duration = Duration::from_secs(60);
/// What is said at about the same time is looked at once.
const TOGETHER: Duration = Duration::from_millis(20);
/// Between two rounds of telling agents what changed.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// So often what agents see is written to disk, if it changed.
const SAVING: Duration = Duration::from_secs(1);

/// How a global controller is set up.
#[derive(Debug)]
pub struct Settings {
    /// Where its database, keys and caches are.
    pub state_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Under which host names and IP addresses agents and people reach it; the first stands in tokens and in the
    /// admin context. When empty, the address that it listens on.
    pub advertised: Vec<String>,
    /// The mesh's name: the trust domain of the control plane. Cannot be changed later.
    pub mesh: String,
    /// Where the admin context is written.
    pub admin_context: Option<PathBuf>,
    /// The keys that seal its secrets, where it shall not keep its own.
    pub seal_keys: SealKeys,
    /// So many revisions of the desired state are kept at least, if they aren't too long.
    pub history: u64,
}

/// A global controller, listening.
pub struct Controller {
    handle: Handle,
    listener: TcpListener,
    names: Vec<String>,
    tls: watch::Sender<Arc<ServerConfig>>,
    renew_at: OffsetDateTime,
    ready: watch::Sender<bool>,
}

/// What other roles of the same process may ask of a global controller. Cheap to clone. Its methods wait for the disk:
/// call them outside the async runtime, or in `spawn_blocking`.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
    address: Address,
}

impl Controller {
    /// Opens the state directory, at the first start makes what must be in it, and binds the address. Blocks.
    ///
    /// # Errors
    /// What is wrong with the settings, the state directory or the address, and the remedy.
    pub fn build(settings: Settings) -> Result<Self, Error> {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&settings.state_dir)?.keeping(settings.history));
        let core = Arc::new(Core::open(&settings.mesh, &settings.state_dir, settings.seal_keys, store)?);
        let listener = TcpListener::bind(settings.listen).map_err(|error| Error::Listen(settings.listen, error))?;
        let bound = nonblocking(&listener).map_err(|error| Error::Listen(settings.listen, error))?;
        let address = advertised_address(&settings.advertised, bound)?;
        let names = names(&settings.advertised, &address, bound);
        let (config, renew_at) = server_config(&core, &names)?;
        if let Some(path) = settings.admin_context.as_deref() {
            admin::ensure_admin(&core, path, format!("https://{address}"))?;
        }
        tracing::info!(mesh = settings.mesh, address = %bound, "the controller listens");
        Ok(Controller {
            handle: Handle { core, address },
            listener,
            names,
            tls: watch::channel(Arc::new(config)).0,
            renew_at,
            ready: watch::channel(false).0,
        })
    }

    /// For other roles of the same process.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Becomes true when requests are answered.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When the runtime doesn't take the listener.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Controller { handle: Handle { core, address }, listener, names, tls, renew_at, ready } = self;
        let bound = listener.local_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| Error::Listen(bound, error))?;
        let source = Arc::new(session::Agents { core: Arc::clone(&core), shutdown: shutdown.child_token() });
        let router = api::router(Arc::clone(&core), address, source);
        ready.send_replace(true);
        tokio::join!(
            serve(listener, tls.subscribe(), router, shutdown.clone()),
            publish(&core, &shutdown),
            save(&core, &shutdown),
            maintain(&core, &names, &tls, renew_at, &shutdown),
        );
        blocking(&core, Core::save_observations).await;
        Ok(())
    }
}

impl Handle {
    /// Applies manifests, all or none.
    ///
    /// # Errors
    /// Every reason why they are refused, or why the store cannot be written.
    pub fn apply(&self, apply: Apply) -> Result<Applied, Error> {
        self.core.apply(&Permit::of_process(), apply)
    }

    /// Makes a token with which the cluster may join.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn create_token(&self, cluster: &Name) -> Result<Token, Error> {
        self.core.create_token(&Permit::of_process(), cluster, self.address.clone())
    }

    /// How the mesh is doing. Doesn't block.
    #[must_use]
    pub fn status(&self) -> MeshStatus {
        self.core.status(&Permit::of_process())
    }

    /// The certificates of the mesh. Doesn't block.
    #[must_use]
    pub fn certificates(&self) -> CertificatesStatus {
        self.core.certificates()
    }

    /// Where agents and people reach it.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The top-level CA's certificate in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.core.ca_pem()
    }
}

fn nonblocking(listener: &TcpListener) -> std::io::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    listener.local_addr()
}

/// Where others reach the controller, as tokens and the admin context say it.
fn advertised_address(advertised: &[String], bound: SocketAddr) -> Result<Address, Error> {
    let host = |text: &String| match text.parse::<IpAddr>() {
        Ok(ip) => Ok(AddressHost::Ip(ip)),
        Err(_) => text.parse().map(AddressHost::Name).map_err(|_| Error::Advertised(text.clone())),
    };
    let hosts = advertised.iter().map(host).collect::<Result<Vec<_>, _>>()?;
    let own = match bound.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    Ok(Address { host: hosts.into_iter().next().unwrap_or(AddressHost::Ip(own)), port: bound.port() })
}

/// The names that the controller's certificate is good for.
fn names(advertised: &[String], address: &Address, bound: SocketAddr) -> Vec<String> {
    let own = match &address.host {
        AddressHost::Ip(ip) => ip.to_string(),
        AddressHost::Name(name) => name.to_string(),
    };
    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let bound = Some(bound.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    let mut names: Vec<String> = advertised.iter().cloned().chain([own]).chain(bound).chain(local).collect();
    names.sort();
    names.dedup();
    names
}

/// A configuration with a fresh certificate, and when that is to be renewed.
fn server_config(core: &Core, names: &[String]) -> Result<(ServerConfig, OffsetDateTime), Error> {
    let identity: Identity = core.identity(names)?;
    let accept = Accept::new(identity.id().trust_domain().clone(), [RoleKind::Agent]);
    let trust: Arc<dyn Trust> = core.enrolments.clone();
    let facts = identity.keyed().facts();
    let renewal = renew_at(facts.not_before, facts.not_after, fastrand::f64());
    Ok((control_server_config(&identity, trust, accept, SERVER_ALPN)?, renewal))
}

/// Runs what waits for the disk where waiting harms nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    core: &Arc<Core>,
    work: impl FnOnce(&Core) -> T + Send + 'static,
) -> Option<T> {
    let core = Arc::clone(core);
    tokio::task::spawn_blocking(move || work(&core)).await.ok()
}

async fn publish(core: &Arc<Core>, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(core.changed.notified()).await.is_some() {
        let begun = tokio::time::Instant::now();
        blocking(core, Core::publish).await;
        // As long as it took: however fast changes come, telling of them takes half of a core at most.
        tokio::time::sleep(begun.elapsed().min(LONGEST_REST)).await;
    }
}

async fn save(core: &Arc<Core>, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(SAVING)).await.is_some() {
        blocking(core, Core::save_observations).await;
    }
}

/// Renews what is due, and goes on with rotations as their holders report.
async fn maintain(
    core: &Arc<Core>,
    names: &[String],
    tls: &watch::Sender<Arc<ServerConfig>>,
    renewal: OffsetDateTime,
    shutdown: &CancellationToken,
) {
    let mut own = Own { top_level: core.top_level(), renewal };
    let mut swept = tokio::time::Instant::now();
    while shutdown.run_until_cancelled(something_due(core)).await.is_some() {
        if swept.elapsed() >= MAINTENANCE || core.hosts_are_due() {
            swept = tokio::time::Instant::now();
            blocking(core, Core::maintain).await;
        }
        blocking(core, Core::advance).await;
        own.keep_fresh(core, names, tls).await;
    }
}

async fn something_due(core: &Core) {
    if let Ok(()) = tokio::time::timeout(core.idle(), core.progress.notified()).await {
        tokio::time::sleep(TOGETHER).await;
    }
}

/// The controller's own certificate.
struct Own {
    /// The top-level CAs when it was made: who signed it, and whose successor that is.
    top_level: Vec<String>,
    renewal: OffsetDateTime,
}

impl Own {
    /// Has it signed anew when it is due, when another root signs, and when the one before is dropped, which is shown with it.
    async fn keep_fresh(&mut self, core: &Arc<Core>, names: &[String], tls: &watch::Sender<Arc<ServerConfig>>) {
        let top_level = core.top_level();
        if OffsetDateTime::now_utc() < self.renewal && top_level == self.top_level {
            return;
        }
        let names = names.to_vec();
        match blocking(core, move |core| server_config(core, &names)).await {
            Some(Ok((config, renewal))) => {
                tls.send_replace(Arc::new(config));
                *self = Own { top_level, renewal };
            }
            Some(Err(error)) => tracing::error!(%error, "the controller's certificate could not be renewed"),
            None => {}
        }
    }
}
