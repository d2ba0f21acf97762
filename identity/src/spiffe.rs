//! SPIFFE IDs: the one name that a certificate proves.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The longest SPIFFE ID in bytes (SPIFFE-ID section 2.3).
const MAX_ID: usize = 2048;
/// The longest trust domain, and the longest dotted name, in bytes: what a DNS name may have.
const MAX_NAME: usize = 253;
/// The longest DNS label in bytes (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// Why a text is no SPIFFE ID of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpiffeError {
    /// Longer than 2048 bytes.
    #[error("the SPIFFE ID has {0} bytes, more than {MAX_ID}")]
    TooLong(usize),
    /// Another scheme, or none; the scheme is compared as written.
    #[error("it does not begin with spiffe:// in lower case")]
    Scheme,
    /// The trust domain has a port, user information, upper case, or is no name at all.
    #[error("the trust domain {0:?} is no lower-case DNS name")]
    TrustDomain(String),
    /// The path has none of the known forms.
    #[error(
        "the path {0:?} is none of /cluster/<c>/ns/<n>/svc/<s>, /cluster/<c>/gateway/<name>, \
         /cluster/<c>/member/<name>, /cluster/<c>/agent, /controller"
    )]
    Path(String),
    /// A segment has bytes that names do not have.
    #[error("{0:?} is no lower-case name of letters, digits and hyphens")]
    Segment(String),
}

/// The namespace of identities with its own roots: `<gns>.<mesh>` for a global namespace, `<mesh>` for the
/// control plane. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The mesh's own trust domain, that of agents, members and the controller.
    ///
    /// # Errors
    /// When `mesh` is no lower-case DNS name.
    pub fn mesh(mesh: &str) -> Result<Self, SpiffeError> {
        mesh.parse()
    }

    /// A global namespace's trust domain in `mesh`.
    ///
    /// # Errors
    /// When `gns` is no lower-case DNS label, or the two joined by a dot are too long.
    pub fn global_namespace(gns: &str, mesh: &str) -> Result<Self, SpiffeError> {
        format!("{}.{mesh}", label(gns)?).parse()
    }

    /// Whether this is the trust domain of a global namespace of `mesh`.
    #[must_use]
    pub fn is_within(&self, mesh: &Self) -> bool {
        self.0.split_once('.').is_some_and(|(_, parent)| parent == mesh.as_str())
    }

    /// The name, without scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        match is_dotted_name(text) {
            true => Ok(Self(text.into())),
            false => Err(SpiffeError::TrustDomain(text.into())),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the holder of an identity is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the fields are the design's nouns
pub enum Role {
    /// An instance of a service, as a caller or as a server.
    Workload { cluster: String, namespace: String, service: String },
    /// A gateway, in one global namespace's identity.
    Gateway { cluster: String, name: String },
    /// The local controller of a cluster.
    Agent { cluster: String },
    /// The global controller.
    Controller,
    /// A data-plane process, enrolled with its agent.
    Member { cluster: String, name: String },
}

/// A [`Role`] without its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleKind {
    /// [`Role::Workload`]
    Workload,
    /// [`Role::Gateway`]
    Gateway,
    /// [`Role::Agent`]
    Agent,
    /// [`Role::Controller`]
    Controller,
    /// [`Role::Member`]
    Member,
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workload => "workload",
            Self::Gateway => "gateway",
            Self::Agent => "agent",
            Self::Controller => "controller",
            Self::Member => "member",
        })
    }
}

impl Role {
    /// The role without its names.
    #[must_use]
    pub fn kind(&self) -> RoleKind {
        match self {
            Self::Workload { .. } => RoleKind::Workload,
            Self::Gateway { .. } => RoleKind::Gateway,
            Self::Agent { .. } => RoleKind::Agent,
            Self::Controller => RoleKind::Controller,
            Self::Member { .. } => RoleKind::Member,
        }
    }

    /// The cluster that the holder is of; the controller is of none.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        match self {
            Self::Controller => None,
            Self::Workload { cluster, .. }
            | Self::Gateway { cluster, .. }
            | Self::Agent { cluster }
            | Self::Member { cluster, .. } => Some(cluster),
        }
    }

    fn from_path(path: &str) -> Result<Self, SpiffeError> {
        let segments: Vec<&str> = path.split('/').collect();
        Ok(match segments.as_slice() {
            ["cluster", c, "ns", n, "svc", s] => {
                Self::Workload { cluster: label(c)?, namespace: label(n)?, service: label(s)? }
            }
            ["cluster", c, "gateway", name] => Self::Gateway { cluster: label(c)?, name: dotted(name)? },
            ["cluster", c, "member", name] => Self::Member { cluster: label(c)?, name: dotted(name)? },
            ["cluster", c, "agent"] => Self::Agent { cluster: label(c)? },
            ["controller"] => Self::Controller,
            _ => return Err(SpiffeError::Path(format!("/{path}"))),
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { cluster, namespace, service } => {
                write!(f, "cluster/{cluster}/ns/{namespace}/svc/{service}")
            }
            Self::Gateway { cluster, name } => write!(f, "cluster/{cluster}/gateway/{name}"),
            Self::Agent { cluster } => write!(f, "cluster/{cluster}/agent"),
            Self::Controller => f.write_str("controller"),
            Self::Member { cluster, name } => write!(f, "cluster/{cluster}/member/{name}"),
        }
    }
}

/// A parsed SPIFFE ID. There is one text per value, so texts may be compared byte by byte. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    role: Arc<Role>,
}

impl SpiffeId {
    /// The ID of `role` in `trust_domain`.
    ///
    /// # Errors
    /// When a name in the role is no lower-case name.
    pub fn new(trust_domain: TrustDomain, role: Role) -> Result<Self, SpiffeError> {
        // By way of its text: what can be built is exactly what can be read, and a `/` in a name makes no other role.
        let path = role.to_string();
        match Role::from_path(&path)? == role {
            true => Ok(Self { trust_domain, role: Arc::new(role) }),
            false => Err(SpiffeError::Path(format!("/{path}"))),
        }
    }

    /// The trust domain, whose roots alone can vouch for this ID.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What the holder is.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The cluster that the holder is of; the controller is of none.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.role.cluster()
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MAX_ID {
            return Err(SpiffeError::TooLong(text.len()));
        }
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or_else(|| SpiffeError::Path(String::new()))?;
        Ok(Self { trust_domain: domain.parse()?, role: Arc::new(Role::from_path(path)?) })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.role)
    }
}

fn label(text: &str) -> Result<String, SpiffeError> {
    is_label(text).then(|| text.to_owned()).ok_or_else(|| SpiffeError::Segment(text.to_owned()))
}

fn dotted(text: &str) -> Result<String, SpiffeError> {
    is_dotted_name(text).then(|| text.to_owned()).ok_or_else(|| SpiffeError::Segment(text.to_owned()))
}

/// RFC 1123 section 2.1, in lower case.
fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_dotted_name(text: &str) -> bool {
    text.len() <= MAX_NAME && text.split('.').all(is_label)
}
