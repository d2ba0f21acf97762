//! Replaces the control CA in time, and tells everybody of it: the agent's port, the token for members, the members.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::wire::MemberReport;
use identity::TrustBundle;
use identity::files::write_private;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::{Control, ControlView};
use crate::audit::AuditLog;
use crate::http::token::Token;
use crate::local::certificates::Certificates;
use crate::local::roster::Roster;
use crate::member::credential::Wanted;

/// While one takes the other's place, or a step failed, it is looked so often whether one is due.
const LOOK: Duration = Duration::from_secs(1);
/// Otherwise so often, because clocks may be set.
const SELDOM: Duration = Duration::from_secs(60);

/// Keeps it.
pub(in crate::local) struct ControlKeeper {
    pub(in crate::local) control: Control,
    pub(in crate::local) token: Token,
    pub(in crate::local) token_file: PathBuf,
    pub(in crate::local) certificates: Arc<Certificates>,
    pub(in crate::local) roster: Arc<Roster>,
    pub(in crate::local) audit: Arc<AuditLog>,
    /// What the controller orders.
    pub(in crate::local) wanted: watch::Receiver<Option<Arc<Wanted>>>,
    pub(in crate::local) view: watch::Sender<Arc<ControlView>>,
}

impl ControlKeeper {
    /// For ever.
    pub(in crate::local) async fn keep(mut self) {
        loop {
            let ordered = self.wanted.borrow_and_update().as_deref().map(|wanted| wanted.order.issuing);
            let stepped = tokio::task::spawn_blocking(move || {
                self.step(ordered);
                self
            });
            let Ok(keeper) = stepped.await else { return }; // the runtime ends
            self = keeper;
            let pause = if self.control.is_moving() { LOOK } else { SELDOM };
            tokio::select! {
                () = sleep(pause) => {}
                Ok(()) = self.wanted.changed() => {}
            }
        }
    }

    fn step(&mut self, ordered: Option<u64>) {
        let members = self.roster.reports();
        if let Err(error) = self.control.advance(&members, ordered, &self.audit, OffsetDateTime::now_utc()) {
            tracing::error!(%error, "the replacement of the control CA could not go on; it is tried again");
        }
        self.tell(&members);
    }

    /// First the port believes, then members are told whom to believe; the token pins the one that signs.
    fn tell(&mut self, members: &[MemberReport]) {
        let view = match self.control.view(members) {
            Ok(view) => Arc::new(view),
            Err(error) => return tracing::error!(%error, "members cannot be told of the control CA"),
        };
        match TrustBundle::new(view.roots.iter().cloned()) {
            Ok(roots) => self.certificates.believe(roots),
            Err(error) => return tracing::error!(%error, "the control CA cannot be used"),
        }
        self.pin(&view.report.signing);
        self.view.send_if_modified(|last| (last.report != view.report).then(|| *last = view).is_some());
    }

    fn pin(&mut self, signing: &str) {
        if self.token.ca_sha256 == signing {
            return;
        }
        let token = Token { ca_sha256: signing.to_owned(), ..self.token.clone() };
        match write_private(&self.token_file, Zeroizing::new(format!("{token}\n")).as_bytes()) {
            Ok(()) => self.token = token,
            Err(error) => tracing::error!(%error, "the members' token could not be replaced; it is tried again"),
        }
    }
}
