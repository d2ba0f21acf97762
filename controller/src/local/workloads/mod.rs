//! Identities of the cluster's workloads: who may have which, kept fresh, and handed out by directory, by socket, or
//! for a request.
//!
//! ```text
//! signer ── who may have a certificate, and the certificate
//!  ├─ keeper       one current identity for each declared workload
//!  │   ├─▶ workload/directory.rs    written for the workload to read
//!  │   └─▶ spiffe/                  the SPIFFE Workload API on a Unix socket
//!  └─ desk         for whoever shows the member token: `tombolo certs issue`
//!
//! keeper, desk ─▶ outstanding     which roots those certificates need, for the controller
//! ```

mod desk;
mod keeper;
mod outstanding;
mod signer;
mod spiffe;
mod territory;

use std::sync::Arc;

pub(super) use self::desk::{Desk, router};
pub(super) use self::outstanding::{Ledger, Outstanding};
pub(super) use self::signer::Signer;
pub(super) use self::spiffe::Socket;
pub use self::spiffe::SocketError;
pub(super) use self::territory::Territory;

use self::keeper::Keeper;
use crate::audit::AuditLog;
use crate::workload::Declaration;

/// Keeps the declared workloads' identities, and answers on the socket, for as long as it is polled.
pub(super) async fn run(
    declarations: Vec<Declaration>,
    socket: Option<Socket>,
    signer: Signer,
    audit: Arc<AuditLog>,
    ledger: Arc<Ledger>,
) -> Result<(), SocketError> {
    let keeper = Keeper::new(declarations, signer, audit, ledger);
    let standings = keeper.subscribe();
    let serving = async {
        match socket {
            Some(socket) => socket.serve(standings).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = serving => served,
        () = keeper.keep() => std::future::pending().await,
    }
}
