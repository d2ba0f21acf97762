//! The door for workloads, a service's port: in plain text or by mutual TLS, as the global namespace's mTLS mode has it.
//!
//! Requests say for themselves which service they are for, so that the mode which counts is known only then; on the port
//! of a stream it is that of its service.

use std::sync::Arc;
use std::time::Duration;

use config::resource::MtlsMode;
use decide::proxy_header::Addresses;
use identity::trust::TrustView;
use rustls::ServerConfig;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::doors::{OPENING, converse, failed, no_request, plain, standing, while_believed};
use super::opening::Inbound;
use super::stream::Connection;
use super::tls::{HandshakeError, Hello};
use crate::exchange::{Door, Entry, Proven};
use crate::plan::{MeshPort, Plan};
use crate::planner::MESH_ALPN;
use crate::runtime::Core;
use crate::standings::Peer;
use crate::stream;
use config::resource::Name;

/// On the port of a stream a caller of the mesh says so within this time: who is silent for longer waits for the service
/// to speak first. That it may be a slow caller does no harm: the service then gets its bytes, and no handshake is done.
const FIRST_WORD: Duration = Duration::from_millis(200);

/// A connection of a workload.
pub(super) async fn enter(core: &Arc<Core>, io: Inbound, entry: Entry, between: Addresses) {
    let stream = stream_port(&core.plan.load(), entry.port);
    match stream {
        Some(of) => Box::pin(enter_stream(core, io, entry, between, of)).await,
        None => Box::pin(enter_http(core, io, entry)).await,
    }
}

/// The one service of a stream's port.
struct StreamPort {
    global_namespace: Name,
    mode: MtlsMode,
    /// For callers of the mesh; nothing while this gateway has no identity there.
    tls: Option<Arc<ServerConfig>>,
    /// Whom that believes.
    trust: Arc<TrustView>,
}

fn stream_port(plan: &Plan, port: u16) -> Option<StreamPort> {
    let Some(MeshPort::Stream(service)) = plan.mesh.get(&port) else { return None };
    let global_namespace = service.service.global_namespace.clone();
    let gns = plan.snapshot.namespaces.get(&global_namespace)?;
    let tls = plan.callers.get(&global_namespace).map(|tls| tls.stream.clone());
    Some(StreamPort { mode: gns.mtls, tls, global_namespace, trust: plan.trust.clone() })
}

async fn enter_http(core: &Arc<Core>, mut io: Inbound, entry: Entry) {
    match timeout(OPENING, io.speaks_tls()).await {
        Ok(Ok(false)) => plain(core, io, entry).await,
        Ok(Ok(true)) => match secure(core, io).await {
            Ok((stream, caller)) => {
                let entry = Entry { door: Door::Mesh { caller: Some(caller.proven) }, ..entry };
                let serving = Box::pin(converse(core, Connection::Tls(stream), entry.clone()));
                while_believed(core, caller.peer, &entry, serving).await;
            }
            Err(error) => failed(core, entry.door.as_str(), entry.client, &error),
        },
        // It went away by itself, as those do that only look whether somebody listens.
        Ok(Err(error)) => tracing::debug!(client = %entry.client, %error, "a new connection brought no request"),
        Err(_) => no_request(core, &entry),
    }
}

/// Mutual TLS for requests: the name that the caller asks for says which GNS it calls.
async fn secure(core: &Core, io: Inbound) -> Result<(Box<TlsStream<Inbound>>, Caller), HandshakeError> {
    let hello = Hello::read(io).await?;
    let (asked, trust) = {
        let plan = core.plan.load();
        (asked(&plan, hello.name()), plan.trust.clone())
    };
    match asked {
        Ok((config, opened_for)) => prove(core, hello, (config, trust), opened_for).await,
        Err(why) => Err(Box::pin(hello.refuse_for(why)).await),
    }
}

/// Whose TLS is asked for by the name, and for which GNS.
pub fn asked(plan: &Plan, name: Option<String>) -> Result<(Arc<ServerConfig>, Name), HandshakeError> {
    let Some(name) = name else { return Err(HandshakeError::UnknownName(None)) };
    let Some((gns, _)) = plan.snapshot.namespace_of(&name) else {
        return Err(HandshakeError::UnknownName(Some(name)));
    };
    match plan.callers.get(&gns.name) {
        Some(tls) => Ok((tls.http.clone(), gns.name.clone())),
        None if gns.mtls == MtlsMode::Off => Err(HandshakeError::Off(name)),
        None => Err(HandshakeError::NoIdentity(name)),
    }
}

/// A caller that has proved who it is, and what that rests on.
struct Caller {
    proven: Arc<Proven>,
    peer: Peer,
}

async fn prove(
    core: &Core,
    hello: Hello,
    (config, trust): (Arc<ServerConfig>, Arc<TrustView>),
    opened_for: Name,
) -> Result<(Box<TlsStream<Inbound>>, Caller), HandshakeError> {
    let stream = hello.terminate(config).await?;
    let unnamed = || std::io::Error::other("the certificate names no caller");
    let standing = standing(&stream).ok_or_else(unnamed)?;
    core.metrics.handshake("ok");
    let proven = Arc::new(Proven::new(standing.id().clone(), opened_for));
    Ok((stream, Caller { proven, peer: Peer { standing, trust } }))
}

async fn enter_stream(core: &Arc<Core>, mut io: Inbound, entry: Entry, between: Addresses, of: StreamPort) {
    let patience = match of.mode {
        MtlsMode::Off => return pass(core, io, &entry, between).await,
        MtlsMode::Permissive => FIRST_WORD,
        MtlsMode::Strict => OPENING,
    };
    // Who says nothing, or nothing more, has at least not begun TLS.
    let Ok(Ok(true)) = timeout(patience, io.begins_hello()).await else { return pass(core, io, &entry, between).await };
    let hello = match Hello::read(io).await {
        Ok(hello) => hello,
        Err(error) => return failed(core, entry.door.as_str(), entry.client, &error),
    };
    if !hello.offers(MESH_ALPN) && of.mode == MtlsMode::Permissive {
        return pass(core, hello.pass(), &entry, between).await;
    }
    match secure_stream(core, hello, of).await {
        Ok((stream, caller)) => {
            let entry = Entry { door: Door::Mesh { caller: Some(caller.proven) }, ..entry };
            core.metrics.opened(entry.door.as_str(), "stream");
            let serving = Box::pin(stream::serve_proven(core, stream, &entry, between));
            while_believed(core, caller.peer, &entry, serving).await;
        }
        Err(error) => failed(core, entry.door.as_str(), entry.client, &error),
    }
}

async fn secure_stream(
    core: &Core,
    hello: Hello,
    of: StreamPort,
) -> Result<(Box<TlsStream<Inbound>>, Caller), HandshakeError> {
    let why = match of.tls {
        _ if !hello.offers(MESH_ALPN) => HandshakeError::NotOfMesh,
        Some(config) => return prove(core, hello, (config, of.trust), of.global_namespace).await,
        None => HandshakeError::NoIdentity(hello.name().unwrap_or_default()),
    };
    Err(Box::pin(hello.refuse_for(why)).await)
}

/// A stream of which no more is known than whence it comes.
async fn pass(core: &Arc<Core>, io: Inbound, entry: &Entry, between: Addresses) {
    core.metrics.opened(entry.door.as_str(), "stream");
    Box::pin(stream::serve(core, io, entry, between)).await;
}
