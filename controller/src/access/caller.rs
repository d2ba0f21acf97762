//! Who asks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use config::resource::{Name, ResourceId};

use super::permit::{Forbidden, Level, Permit};
use super::role::Role;
use crate::audit::Entry;

/// Somebody who showed who they are: the holder of an API token, or this process itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The token's name.
    name: String,
    role: Role,
    /// The GNSs to which the role is limited; `None` for all of the mesh.
    scope: Option<BTreeSet<Name>>,
    /// From where they call.
    from: Option<IpAddr>,
}

impl Caller {
    pub(super) fn new(name: &str, role: Role, scope: Option<BTreeSet<Name>>, from: IpAddr) -> Self {
        Caller { name: name.to_owned(), role, scope, from: Some(from) }
    }

    /// The process that holds the controller, as `tombolo up` does.
    pub(super) fn process() -> Self {
        Caller { name: "this process".to_owned(), role: Role::Admin, scope: None, from: None }
    }

    /// A permit for what this level allows.
    ///
    /// # Errors
    /// When the role allows less, or is limited where the level knows no limits.
    pub(crate) fn permit<L: Level>(self) -> Result<Permit<L>, Forbidden> {
        match &self.scope {
            _ if self.role < L::ROLE => Err(Forbidden::Role { name: self.name, role: self.role, needed: L::ROLE }),
            Some(scope) if L::WHOLE_MESH => Err(Forbidden::Limited { scope: list(scope), name: self.name }),
            _ => Ok(Permit::of(self)),
        }
    }

    /// Whether they have the whole mesh in view.
    pub(super) fn is_unlimited(&self) -> bool {
        self.scope.is_none()
    }

    /// Whether this GNS is theirs to look at or write in, as their role is.
    pub(super) fn covers(&self, gns: &Name) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.contains(gns))
    }

    /// Whether they may write this resource.
    pub(super) fn may_write(&self, id: &ResourceId) -> Result<(), Forbidden> {
        let (name, id) = (self.name.clone(), id.clone());
        match (&id, &self.scope) {
            (ResourceId::Cluster(_), _) if self.role < Role::Admin => {
                Err(Forbidden::Role { name, role: self.role, needed: Role::Admin })
            }
            (_, None) => Ok(()),
            // Member rows take namespaces from others, so not even one's own.
            (ResourceId::GlobalNamespace(_), Some(scope)) => Err(Forbidden::Write { scope: list(scope), name, id }),
            (_, Some(scope)) => match global_namespace(&id) {
                Some(gns) if scope.contains(gns) => Ok(()),
                _ => Err(Forbidden::Write { scope: list(scope), name, id }),
            },
        }
    }

    /// What they are called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An entry of the audit log in their name.
    pub(super) fn entry(&self, what: &str) -> Entry {
        Entry::new(&self.name, what).from(self.from)
    }
}

/// The GNS that scopes a resource's name.
fn global_namespace(id: &ResourceId) -> Option<&Name> {
    match id {
        ResourceId::PublicService { global_namespace, .. } | ResourceId::Certificate { global_namespace, .. } => {
            Some(global_namespace)
        }
        _ => None,
    }
}

fn list(scope: &BTreeSet<Name>) -> String {
    scope.iter().map(Name::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::permit::{Administer, Edit, Inspect, Oversee};
    use super::*;

    fn caller(role: Role, scope: Option<&str>) -> Caller {
        let scope = scope.map(|gns| BTreeSet::from([gns.parse().unwrap()]));
        Caller::new("ada", role, scope, "127.0.0.1".parse().unwrap())
    }

    #[test]
    fn a_role_allows_what_those_below_it_allow_and_no_more() {
        let levels = |role: Role| {
            let may = |caller: Caller| {
                let (view, edit) =
                    (caller.clone().permit::<Inspect>().is_ok(), caller.clone().permit::<Edit>().is_ok());
                (view, caller.clone().permit::<Oversee>().is_ok(), edit, caller.permit::<Administer>().is_ok())
            };
            (may(caller(role, None)), may(caller(role, Some("shop"))))
        };
        assert_eq!(levels(Role::Viewer), ((true, true, false, false), (true, false, false, false)));
        assert_eq!(levels(Role::Editor), ((true, true, true, false), (true, false, true, false)));
        assert_eq!(levels(Role::Admin), ((true, true, true, true), (true, false, true, false)));
    }

    #[test]
    fn a_limited_editor_writes_in_its_own_global_namespaces_only() {
        let may = |caller: &Caller, id: &str| caller.may_write(&id.parse().unwrap()).is_ok();
        let (shop, editor, admin) =
            (caller(Role::Editor, Some("shop")), caller(Role::Editor, None), caller(Role::Admin, None));
        assert!(may(&shop, "PublicService/shop/web") && may(&shop, "Certificate/shop/web"));
        for foreign in ["PublicService/bank/web", "GlobalNamespace/shop", "Cluster/north", "Service/north/shop/cart"] {
            assert!(!may(&shop, foreign), "{foreign}");
        }
        assert!(may(&editor, "GlobalNamespace/shop") && may(&editor, "PublicService/bank/web"));
        assert!(!may(&editor, "Cluster/north") && may(&admin, "Cluster/north"));
    }
}
