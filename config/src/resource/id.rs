//! What makes a resource the same resource: its kind, where its name counts, and its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::name::Name;

/// The kinds that this version of Tombolo makes work. Those it only knows by name are in `manifest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // each is documented where its spec is
pub enum Kind {
    Cluster,
    Node,
    Service,
    GlobalNamespace,
    PublicService,
    Certificate,
    AccessPolicy,
}

impl Kind {
    /// Every kind, in the order in which a reader meets them.
    pub const ALL: [Kind; 7] = [
        Kind::Cluster,
        Kind::Node,
        Kind::Service,
        Kind::GlobalNamespace,
        Kind::PublicService,
        Kind::Certificate,
        Kind::AccessPolicy,
    ];

    /// As it is written in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Cluster => "Cluster",
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::GlobalNamespace => "GlobalNamespace",
            Kind::PublicService => "PublicService",
            Kind::Certificate => "Certificate",
            Kind::AccessPolicy => "AccessPolicy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The identity of a resource. Two resources with equal identities are one resource, whoever wrote them.
///
/// Its text form is the kind, then what scopes the name, then the name: `Cluster/north`, `PublicService/shop/web`,
/// `Service/north/shop/cart`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // of fields: they are what their names say
pub enum ResourceId {
    /// A cluster's name counts in the whole mesh.
    Cluster(Name),
    /// A node's name counts in its cluster.
    Node { cluster: Name, name: Name },
    /// A service's name counts in a namespace of its cluster.
    Service { cluster: Name, namespace: Name, name: Name },
    /// A global namespace's name counts in the whole mesh.
    GlobalNamespace(Name),
    /// A public service's name counts in its global namespace.
    PublicService { global_namespace: Name, name: Name },
    /// A certificate's name counts in its global namespace.
    Certificate { global_namespace: Name, name: Name },
    /// An access policy's name counts in the global namespace whose services it opens.
    AccessPolicy { global_namespace: Name, name: Name },
}

impl ResourceId {
    /// The kind of the resource.
    pub fn kind(&self) -> Kind {
        match self {
            ResourceId::Cluster(_) => Kind::Cluster,
            ResourceId::Node { .. } => Kind::Node,
            ResourceId::Service { .. } => Kind::Service,
            ResourceId::GlobalNamespace(_) => Kind::GlobalNamespace,
            ResourceId::PublicService { .. } => Kind::PublicService,
            ResourceId::Certificate { .. } => Kind::Certificate,
            ResourceId::AccessPolicy { .. } => Kind::AccessPolicy,
        }
    }

    /// The last part of the identity.
    pub fn name(&self) -> &Name {
        match self {
            ResourceId::Cluster(name)
            | ResourceId::GlobalNamespace(name)
            | ResourceId::Node { name, .. }
            | ResourceId::Service { name, .. }
            | ResourceId::PublicService { name, .. }
            | ResourceId::Certificate { name, .. }
            | ResourceId::AccessPolicy { name, .. } => name,
        }
    }

    /// What scopes the name, outermost first.
    pub fn scope(&self) -> Vec<&Name> {
        match self {
            ResourceId::Cluster(_) | ResourceId::GlobalNamespace(_) => vec![],
            ResourceId::Node { cluster, .. } => vec![cluster],
            ResourceId::Service { cluster, namespace, .. } => vec![cluster, namespace],
            ResourceId::PublicService { global_namespace, .. }
            | ResourceId::Certificate { global_namespace, .. }
            | ResourceId::AccessPolicy { global_namespace, .. } => vec![global_namespace],
        }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        for part in self.scope() {
            write!(f, "/{part}")?;
        }
        write!(f, "/{}", self.name())
    }
}

/// Why a text is not a [`ResourceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a resource: write KIND/NAME, PublicService/GNS/NAME, Node/CLUSTER/NAME or Service/CLUSTER/NAMESPACE/NAME"
)]
pub struct ResourceIdError(String);

impl FromStr for ResourceId {
    type Err = ResourceIdError;

    fn from_str(text: &str) -> Result<Self, ResourceIdError> {
        let wrong = || ResourceIdError(text.to_owned());
        let mut parts = text.split('/');
        let kind = parts.next().unwrap_or_default();
        let names = parts.map(|part| part.parse().map_err(|_| wrong())).collect::<Result<Vec<Name>, _>>()?;
        match (kind, names.as_slice()) {
            ("Cluster", [name]) => Ok(ResourceId::Cluster(name.clone())),
            ("GlobalNamespace", [name]) => Ok(ResourceId::GlobalNamespace(name.clone())),
            ("Node", [cluster, name]) => Ok(ResourceId::Node { cluster: cluster.clone(), name: name.clone() }),
            ("Service", [cluster, namespace, name]) => {
                Ok(ResourceId::Service { cluster: cluster.clone(), namespace: namespace.clone(), name: name.clone() })
            }
            ("PublicService", [gns, name]) => {
                Ok(ResourceId::PublicService { global_namespace: gns.clone(), name: name.clone() })
            }
            ("Certificate", [gns, name]) => {
                Ok(ResourceId::Certificate { global_namespace: gns.clone(), name: name.clone() })
            }
            ("AccessPolicy", [gns, name]) => {
                Ok(ResourceId::AccessPolicy { global_namespace: gns.clone(), name: name.clone() })
            }
            _ => Err(wrong()),
        }
    }
}

impl Serialize for ResourceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_text_form_round_trips() {
        for text in [
            "Cluster/north",
            "Service/north/shop/cart",
            "PublicService/shop/web",
            "Node/north/n1",
            "AccessPolicy/shop/in",
        ] {
            assert_eq!(text.parse::<ResourceId>().unwrap().to_string(), text);
        }
        for wrong in ["", "Cluster", "Cluster/a/b", "Pod/x", "Service/north/cart", "Cluster/North"] {
            assert!(wrong.parse::<ResourceId>().is_err(), "{wrong}");
        }
    }
}
