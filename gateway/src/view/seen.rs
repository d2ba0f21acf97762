//! What a gateway has told of its view, as a DNS server keeps it.

use std::collections::{BTreeMap, BTreeSet};

use super::line::Line;
use super::{Gateways, Serving};
use crate::news::ServiceKey;

/// A gateway may tell of so many services.
const MAX_SERVICES: usize = 200_000;

/// The view of one gateway, as far as it was told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// It takes no new requests.
    pub draining: bool,
    /// The gateways of other clusters that it knows.
    pub gateways: Gateways,
    /// Where services have healthy instances.
    pub services: BTreeMap<ServiceKey, Serving>,
    sequence: u64,
}

/// What a line changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Whether the gateway drains, or the gateways that it knows.
    pub gateways: bool,
    /// These services.
    pub services: BTreeSet<ServiceKey>,
}

/// Why a line doesn't add up with what came before it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeenError {
    /// What it changes was never said.
    #[error("its view changes view {0}, which did not come before it")]
    Gap(u64),
    /// It is too much.
    #[error("it tells of more than {MAX_SERVICES} services")]
    TooMuch,
}

impl Seen {
    /// Takes a line in, and returns what is otherwise than before.
    ///
    /// # Errors
    /// When it makes no sense: then all is as before, and the whole view must be asked for anew.
    pub fn take(&mut self, line: Line) -> Result<Changed, SeenError> {
        let whole = line.since.is_none();
        if let Some(since) = line.since.filter(|since| *since != self.sequence) {
            return Err(SeenError::Gap(since));
        }
        let told: BTreeMap<_, _> = line.told().collect();
        // What is told anew of a known service counts twice here: the bound is generous.
        if told.len() + if whole { 0 } else { self.services.len() } > MAX_SERVICES {
            return Err(SeenError::TooMuch);
        }
        let mut changed = Changed { gateways: self.draining != line.draining, ..Changed::default() };
        if whole {
            let gone: Vec<_> = self.services.keys().filter(|key| !told.contains_key(*key)).cloned().collect();
            gone.into_iter().for_each(|key| self.set(key, None, &mut changed));
        }
        told.into_iter().for_each(|(key, serving)| self.set(key, serving, &mut changed));
        let gateways = line.gateways.or(whole.then(Gateways::new));
        if let Some(gateways) = gateways.filter(|gateways| *gateways != self.gateways) {
            (self.gateways, changed.gateways) = (gateways, true);
        }
        (self.draining, self.sequence) = (line.draining, line.sequence);
        Ok(changed)
    }

    fn set(&mut self, key: ServiceKey, serving: Option<Serving>, changed: &mut Changed) {
        if self.services.get(&key) == serving.as_ref() {
            return;
        }
        match serving {
            Some(serving) => drop(self.services.insert(key.clone(), serving)),
            None => drop(self.services.remove(&key)),
        }
        changed.services.insert(key);
    }
}
