//! What the controller signs by itself, for the audit log.

use std::collections::BTreeSet;

use identity::Facts;
use identity::ca::Chain;
use identity::pem::decode_certificates;
use time::{Duration, OffsetDateTime};

use super::core::Core;
use super::view::Made;
use crate::audit::Entry;

/// NotBefore lies a minute in the past; what is no older than this was made by this process.
const BACKDATED: Duration = Duration::minutes(2);

impl Core {
    /// Writes down the GNS CAs and host certificates that were made since. They are there already, as they come of changes
    /// that were written down, or of time: so a failure is told in the log. At the start nothing is known of `before`,
    /// and what is old is passed over.
    pub(super) fn write_down(&self, before: &Made, made: &Made) {
        let known: BTreeSet<&str> = texts(before).map(|(_, text)| text).collect();
        for (level, text) in texts(made).filter(|(_, text)| !known.contains(text)) {
            let Ok(chain) = decode_certificates(text) else { continue };
            if !is_new(&chain) {
                continue;
            }
            if let Err(error) = self.audit.record(&Entry::issue("controller", &chain).detail("level", level)) {
                tracing::error!(%error, "a certificate was made, and isn't in the audit log");
            }
        }
    }
}

/// All that was made, in PEM, with its level.
fn texts(made: &Made) -> impl Iterator<Item = (&'static str, &str)> {
    let roots = made.trust.values().flat_map(|trust| trust.roots.iter().map(|root| ("gns", root.as_str())));
    roots.chain(made.host_certificates.values().map(|certificate| ("host", &*certificate.chain)))
}

fn is_new(chain: &Chain) -> bool {
    let facts = chain.first().and_then(|leaf| Facts::read(leaf).ok());
    facts.is_some_and(|facts| facts.not_before + BACKDATED > OffsetDateTime::now_utc())
}
