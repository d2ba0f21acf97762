//! The agent: the local controller of one cluster. It only ever dials out to the controller, and keeps its gateways
//! and DNS servers going when that is away.
//!
//! ```text
//! controller ══ sync ══▶ world ─┬─▶ merged ══ sync ══▶ members
//!            ◀═ Observed ═ seen ─┘      ▲
//!                 services directory ───┘  roster (members, their gateways' addresses)
//! ```

mod admission;
mod asking;
mod certificates;
mod control;
mod office;
mod report;
mod roster;
mod run;
mod server_tls;
mod services;
mod source;
mod standing;
mod workloads;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use config::resource::cluster::AddressHost;
use config::resource::{Address, Name};
use config::wire::Ack;
use identity::ca::{CaError, IssuingCa};
use identity::files::FileError;
use identity::{SpiffeId, TrustDomain};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditError, AuditLog};
use crate::http::client::CallError;
use crate::http::message::ISSUING;
use crate::http::token::{Token, TokenError};
use crate::member::credential::{Credential, CredentialError};
use crate::member::holdings::{Holdings, Recipe};
use crate::sync::cache::{Cache, make_private_dir};

use admission::{Admission, admit, next_incarnation, write_member_token};
use certificates::Certificates;
pub use control::ControlError;
use control::{Control, ControlView};
use roster::Roster;
use services::Services;
pub use workloads::SocketError;
use workloads::{Ledger, Socket};

use crate::workload::Declaration;
use crate::workload::directory::{self, DirectoryError};

/// The audit log, in the state directory.
const AUDIT_LOG: &str = "audit.log";

/// How an agent is to be.
#[derive(Clone)]
pub struct Settings {
    /// Where it keeps what outlives it.
    pub state_dir: PathBuf,
    /// Where its members dial it; port 0 takes any.
    pub listen: SocketAddr,
    /// The address in the member token, when members must dial another than [`Self::listen`].
    pub advertise: Option<Address>,
    /// The directory with the manifests of this cluster's services and nodes.
    pub services_dir: Option<PathBuf>,
    /// The join token's text. Needed once; afterwards the state directory has what it brought.
    pub join: Option<String>,
    /// Join in place of a cluster of that name which is already in the mesh.
    pub replace: bool,
    /// The cluster's labels, for the controller: `region`, `zone`.
    pub labels: BTreeMap<String, String>,
    /// The controller's address, when it is another than the token said.
    pub controller: Option<Address>,
    /// The workloads of this machine whose identities it keeps.
    pub workloads: Vec<Declaration>,
    /// Where it answers them, if it does.
    pub workload_socket: Option<PathBuf>,
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum AgentError {
    #[error("{0} holds no credential: make a join token with `tombolo token create --cluster NAME`, and join with it")]
    NoToken(PathBuf),
    #[error("{0} with the controller's address is gone: give the address")]
    NoController(PathBuf),
    #[error("this is {0} already: join another mesh or cluster with another state directory")]
    AlreadyIn(SpiffeId),
    #[error("the certificate of {0} has expired, because the controller was away too long: join anew with --replace")]
    Expired(SpiffeId),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("could not join: {0}")]
    Join(#[source] CallError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Name(#[from] identity::spiffe::SpiffeError),
    #[error("the cluster's control CA: {0}")]
    Control(#[from] ControlError),
    #[error("the system gave no randomness")]
    Randomness,
    #[error("cannot listen on {0}: {1}; is another process there?")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("the services' directory {0}: {1}; make it, or give another")]
    Services(PathBuf, #[source] io::Error),
    #[error("the agent's own certificate: {0}")]
    Keyed(#[from] identity::keyed::KeyedError),
    #[error("the agent's own certificate: {0}")]
    Request(#[from] identity::csr::CsrError),
    #[error("the cluster control CA cannot be used: {0}")]
    Root(#[from] identity::bundle::BundleError),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("a workload's directory: {0}")]
    WorkloadDirectory(#[from] DirectoryError),
    #[error(transparent)]
    WorkloadSocket(#[from] SocketError),
    #[error("the agent was run before: build another")]
    RunTwice,
}

/// The local controller of one cluster.
pub struct Agent {
    state_dir: PathBuf,
    cluster: Name,
    mesh: TrustDomain,
    address: SocketAddr,
    /// Whether members can be told a world.
    known: watch::Sender<bool>,
    /// What the controller was told last.
    ack: watch::Sender<Ack>,
    parts: Mutex<Option<Parts>>,
}

/// What a run takes with it.
struct Parts {
    listener: TcpListener,
    credential: Credential,
    controller: Address,
    control: Control,
    control_view: watch::Sender<Arc<ControlView>>,
    certificates: Arc<Certificates>,
    token: Token,
    cache: Cache,
    roster: Arc<Roster>,
    issuing: Holdings<IssuingCa>,
    services: Option<Services>,
    incarnation: u64,
    audit: Arc<AuditLog>,
    workloads: Vec<Declaration>,
    workload_socket: Option<Socket>,
    ledger: Arc<Ledger>,
}

impl Agent {
    /// Binds the port, joins if it must, and takes up what is on disk.
    ///
    /// # Errors
    /// When the port is taken, the state directory cannot be used, or the join is refused.
    pub async fn build(settings: Settings) -> Result<Self, AgentError> {
        make_private_dir(&settings.state_dir)?;
        let (listener, address) = bind(settings.listen).map_err(|e| AgentError::Listen(settings.listen, e))?;
        let Admission { credential, controller, cluster, mesh } = admit(&settings).await?;
        let folder = settings.state_dir;
        let control = Control::open(&folder, &mesh, &cluster)?;
        let view = control.view(&[])?;
        settings.workloads.iter().try_for_each(prepare_directory)?;
        let advertised = settings.advertise.unwrap_or_else(|| reachable(address));
        let certificates = Certificates::open(folder.join("certificates.json"), mesh.clone(), &view.roots)?;
        let parts = Parts {
            certificates: Arc::new(certificates),
            token: write_member_token(&folder, advertised, &mesh, &cluster, &view)?,
            issuing: Holdings::open(folder.join("issuing"), issuing_recipe(credential.id()))?,
            services: settings.services_dir.map(|services| open_services(services, &cluster, &folder)).transpose()?,
            cache: Cache::open(&folder)?,
            roster: Arc::new(Roster::open(folder.join("members.json"))),
            incarnation: next_incarnation(&folder)?,
            audit: Arc::new(AuditLog::open(folder.join(AUDIT_LOG))?),
            ledger: Arc::new(Ledger::open(folder.join("workloads.json"))),
            workload_socket: settings.workload_socket.map(Socket::bind).transpose()?,
            workloads: settings.workloads,
            listener,
            credential,
            controller,
            control,
            control_view: watch::Sender::new(Arc::new(view)),
        };
        let (known, ack, parts) = (watch::Sender::new(false), watch::Sender::default(), Mutex::new(Some(parts)));
        Ok(Agent { state_dir: folder, cluster, mesh, address, known, ack, parts })
    }

    /// Whether it can serve members: it runs, and knows a world, from disk or from its controller.
    pub fn ready(&self) -> bool {
        *self.known.borrow()
    }

    /// What the controller was told last: how far the cluster is, whom the agent believes, and what it holds.
    pub fn told(&self) -> Ack {
        self.ack.borrow().clone()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Name {
        &self.cluster
    }

    /// The mesh's name.
    pub fn mesh(&self) -> &str {
        self.mesh.as_str()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with which members of the same machine are started.
    pub fn member_token_file(&self) -> PathBuf {
        admission::member_token_path(&self.state_dir)
    }

    /// Runs until `shutdown`, once.
    ///
    /// # Errors
    /// When the listener cannot be used, the agent's own certificate cannot be made, or it was run before.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        run::run(self, parts.ok_or(AgentError::RunTwice)?, shutdown).await
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Where processes of the same machine reach a listener.
fn reachable(address: SocketAddr) -> Address {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Address { host: AddressHost::Ip(ip), port: address.port() }
}

/// The request for an issuing CA is in the agent's own name, whatever the GNS.
fn issuing_recipe(agent: &SpiffeId) -> Recipe<IssuingCa> {
    let agent = agent.clone();
    let read = |text: &str| IssuingCa::import(text).map_err(|e| e.to_string());
    Recipe { path: ISSUING, id: Box::new(move |_| Ok(agent.clone())), read }
}

fn prepare_directory(workload: &Declaration) -> Result<(), DirectoryError> {
    workload.directory.as_deref().map_or(Ok(()), |path| directory::prepare(path, Some(workload.uid)))
}

fn open_services(services: PathBuf, cluster: &Name, state_dir: &std::path::Path) -> Result<Services, AgentError> {
    let kept = state_dir.join("services.json");
    Services::open(services.clone(), cluster.clone(), kept).map_err(|e| AgentError::Services(services, e))
}
