//! A cluster: a place where services run.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::name::{Host, Name};

/// A place where services run: a Kubernetes cluster, or a set of machines. Made by `tombolo join`; its labels name
/// its `region` and `zone`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Where others reach this cluster's gateways. When empty, what the gateways themselves announce counts; write
    /// them when peers must dial something else, as behind a load balancer or a NAT.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<GatewayAddresses>,
    /// Which plain-text callers, by address, stand in which namespace. An address in no row is nobody: a gateway
    /// refuses its calls to services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workloads>,
}

/// Where one gateway is reached, by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct GatewayAddresses {
    /// The gateway's name, unique in its cluster.
    pub name: Name,
    /// Where gateways of other clusters dial their tunnels: host name or IP address, and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub east_west: Option<Address>,
    /// The IP address at which clients reach public services; what DNS answers for public hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<IpAddr>,
    /// The IP address at which this cluster's workloads reach services; what DNS answers for names of a GNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<IpAddr>,
}

/// The callers of a range of addresses stand in this namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Workloads {
    /// The range.
    pub cidr: Cidr,
    /// The namespace.
    pub namespace: Name,
}

/// A host (name or IP address) and a port: `gw1.north.example.com:7445`, `192.0.2.7:7445`, `[2001:db8::7]:7445`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The host part.
    pub host: AddressHost,
    /// The TCP port, never 0.
    pub port: u16,
}

/// The host part of an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AddressHost {
    /// An IP address.
    Ip(IpAddr),
    /// A host name, looked up whenever it is dialled.
    Name(Host),
}

/// A range of IP addresses (RFC 4632): `10.1.0.0/16`, `2001:db8::/32`. The bits below the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is not an [`Address`] or a [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AddressError {
    #[error("{0:?} is not an address: write HOST:PORT, with the port from 1 to 65535 and an IPv6 host in brackets")]
    Address(String),
    #[error("{0:?} is not a range of addresses: write IP/PREFIX with no bit set below the prefix, as in 10.1.0.0/16")]
    Cidr(String),
}

impl Cidr {
    /// Whether the address lies in the range. An IPv4-mapped IPv6 address counts as its IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => (base.to_bits() ^ ip.to_bits()) & mask4(self.prefix) == 0,
            (IpAddr::V6(base), IpAddr::V6(ip)) => (base.to_bits() ^ ip.to_bits()) & mask6(self.prefix) == 0,
            _ => false,
        }
    }

    /// How many leading bits are fixed: the longer, the more specific.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Cidr(text.to_owned());
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (base, prefix): (IpAddr, u8) = (base.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
        let clean = match base {
            IpAddr::V4(ip) => prefix <= 32 && ip.to_bits() & !mask4(prefix) == 0,
            IpAddr::V6(ip) => prefix <= 128 && ip.to_bits() & !mask6(prefix) == 0,
        };
        if clean { Ok(Cidr { base, prefix }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Address(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bracketed, host.parse()) {
            (Some(v6), _) => AddressHost::Ip(IpAddr::V6(v6.parse().map_err(|_| wrong())?)),
            (None, Ok(v4)) => AddressHost::Ip(IpAddr::V4(v4)),
            (None, Err(_)) => AddressHost::Name(host.parse().map_err(|_| wrong())?),
        };
        Ok(Address { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            AddressHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            AddressHost::Ip(ip) => write!(f, "{ip}:{}", self.port),
            AddressHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

macro_rules! as_text {
    ($type:ident, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}
as_text!(Address, "HOST:PORT");
as_text!(Cidr, "IP/PREFIX");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["192.0.2.7:7445", "[2001:db8::7]:7445", "gw.example.com:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for wrong in ["", "a", "a:", "a:0", "a:65536", "2001:db8::7:7445", "[a]:1", "A_b:1", ":1"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_hold_what_is_in_them() {
        let range: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(range.contains("10.1.255.1".parse().unwrap()));
        assert!(range.contains("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!range.contains("10.2.0.0".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!("::/0".parse::<Cidr>().unwrap().contains("::1".parse().unwrap()));
        for wrong in ["10.1.0.0", "10.1.0.1/16", "10.0.0.0/33", "::1/64", "x/8", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
