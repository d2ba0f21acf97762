//! One line of the audit log.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use identity::Facts;
use identity::ca::Chain;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Something that was done, or was about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, as in RFC 3339.
    pub at: String,
    /// Who: the name of an API token, or the SPIFFE ID of an agent or member.
    pub who: String,
    /// From which address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// What: `apply`, `delete`, `certificate.issue`, `token.create`, …
    pub what: String,
    /// The resources, or whom a certificate names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Entry {
    /// An entry of this moment.
    pub fn new(who: impl fmt::Display, what: &str) -> Self {
        let at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let (on, details) = (Vec::new(), BTreeMap::new());
        Entry { at, who: who.to_string(), from: None, what: what.to_owned(), on, details }
    }

    /// For a certificate that was signed and not yet handed out.
    pub fn issue(who: impl fmt::Display, chain: &Chain) -> Self {
        let entry = Entry::new(who, "certificate.issue");
        let Some(facts) = chain.first().and_then(|leaf| Facts::read(leaf).ok()) else { return entry };
        let until = facts.not_after.format(&Rfc3339).unwrap_or_default();
        let entry = entry.detail("serial", &facts.serial).detail("notAfter", until);
        let (uris, hosts) = (facts.uris.into_iter(), facts.dns_names.into_iter());
        let names: Vec<String> = if facts.is_ca { uris.collect() } else { uris.chain(hosts).collect() };
        let common_name = names.is_empty().then_some(facts.subject.common_name).flatten();
        names.into_iter().chain(common_name).fold(entry, Entry::on)
    }

    /// From which address it was asked for.
    #[must_use]
    pub fn from(self, from: Option<IpAddr>) -> Self {
        Entry { from, ..self }
    }

    /// One more that it is about.
    #[must_use]
    pub fn on(mut self, what: impl fmt::Display) -> Self {
        self.on.push(what.to_string());
        self
    }

    /// One more thing to say.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.details.insert(name.to_owned(), value.to_string());
        self
    }
}
