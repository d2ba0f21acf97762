//! Permits: values without which nothing is done for people. [`Caller::permit`] makes them, and who holds the controller
//! in its own process has them.

use std::fmt;
use std::marker::PhantomData;

use config::compile::membership::Membership;
use config::resource::{Name, Resource, ResourceId};

use super::caller::Caller;
use super::role::Role;
use crate::audit::Entry;
use crate::global::projection::global_namespace;

/// Something that a permit may be for.
pub(crate) trait Level: Send + Sync + 'static {
    /// The least role that has it.
    const ROLE: Role;
    /// It concerns more than single global namespaces, so whoever is limited to some hasn't it.
    const WHOLE_MESH: bool;
}

/// To look at resources: those of one's own global namespaces.
#[derive(Debug)]
pub(crate) enum Inspect {}
/// To look at the mesh as a whole.
#[derive(Debug)]
pub(crate) enum Oversee {}
/// To write resources: those of one's own global namespaces.
#[derive(Debug)]
pub(crate) enum Edit {}
/// To say who may do what.
#[derive(Debug)]
pub(crate) enum Administer {}

impl Level for Inspect {
    const ROLE: Role = Role::Viewer;
    const WHOLE_MESH: bool = false;
}

impl Level for Oversee {
    const ROLE: Role = Role::Viewer;
    const WHOLE_MESH: bool = true;
}

impl Level for Edit {
    const ROLE: Role = Role::Editor;
    const WHOLE_MESH: bool = false;
}

impl Level for Administer {
    const ROLE: Role = Role::Admin;
    const WHOLE_MESH: bool = true;
}

/// That a caller may do what `L` names.
pub(crate) struct Permit<L> {
    caller: Caller,
    level: PhantomData<fn() -> L>,
}

impl<L> fmt::Debug for Permit<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.caller).finish()
    }
}

impl<L> Permit<L> {
    pub(super) fn of(caller: Caller) -> Self {
        Permit { caller, level: PhantomData }
    }

    /// For the process that holds the controller, as `tombolo up` does: it could do everything anyway.
    pub(crate) fn of_process() -> Self {
        Permit::of(Caller::process())
    }

    /// The caller's name.
    pub(crate) fn name(&self) -> &str {
        self.caller.name()
    }

    /// An entry of the audit log in the caller's name.
    pub(crate) fn entry(&self, what: &str) -> Entry {
        self.caller.entry(what)
    }
}

impl Permit<Inspect> {
    /// Whether the caller may see a resource. What belongs to no global namespace is for those who oversee the mesh.
    pub(crate) fn sees(&self, resource: &Resource, membership: &Membership<'_>) -> bool {
        let gns = match &resource.id {
            ResourceId::Service { cluster, namespace, .. } => membership.owner(cluster, namespace),
            _ => global_namespace(resource),
        };
        gns.map_or(self.caller.is_unlimited(), |gns| self.caller.covers(gns))
    }
}

impl Permit<Inspect> {
    /// Whether the GNS is the caller's to look at.
    pub(crate) fn covers(&self, gns: &Name) -> bool {
        self.caller.covers(gns)
    }

    /// Whether the caller may look at what belongs to no GNS.
    pub(crate) fn oversees(&self) -> bool {
        self.caller.is_unlimited()
    }
}

impl Permit<Edit> {
    /// Whether the caller may write a resource.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows(&self, id: &ResourceId) -> Result<(), Forbidden> {
        self.caller.may_write(id)
    }

    /// Whether the caller may remove whatever a batch doesn't name.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.caller.is_unlimited()
    }
}

/// Why a caller may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The role is too low.
    #[error("the token {name:?} has the role {role}, and this needs {needed}: ask an admin for such a token")]
    Role {
        /// The token.
        name: String,
        /// Its role.
        role: Role,
        /// What it would need.
        needed: Role,
    },
    /// It concerns more.
    #[error("the token {name:?} is limited to the global namespaces {scope}, and this concerns the mesh as a whole")]
    Limited {
        /// The token.
        name: String,
        /// Its global namespaces.
        scope: String,
    },
    /// A resource of others.
    #[error("the token {name:?} is limited to the global namespaces {scope}: it may not write {id}")]
    Write {
        /// The token.
        name: String,
        /// Its global namespaces.
        scope: String,
        /// The resource.
        id: ResourceId,
    },
}
