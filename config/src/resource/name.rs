//! Names: parsed once, compared cheaply, never empty or malformed afterwards.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a name. The message says what is wrong with which text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {why}")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

/// One DNS label as RFC 1123 section 2.1 has it, in lower case: 1 to 63 of `a–z`, `0–9`, `-`, not at an end.
/// Names clusters, namespaces, services, versions, global namespaces and the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A fully qualified DNS host name in lower case, without the final dot, at most 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

fn label_fault(label: &str) -> Option<&'static str> {
    let well = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match label {
        "" => Some("a label is empty"),
        l if l.len() > 63 => Some("a label is longer than 63 characters"),
        l if l.starts_with('-') || l.ends_with('-') => Some("a label starts or ends with '-'"),
        l if !l.bytes().all(well) => Some("only a-z, 0-9 and '-' may stand in a label"),
        _ => None,
    }
}

fn host_fault(host: &str) -> Option<&'static str> {
    if host.len() > 253 {
        return Some("it is longer than 253 characters");
    }
    host.split('.').find_map(label_fault)
}

impl Host {
    /// Whether this is `domain` itself or stands below it.
    pub fn within(&self, domain: &Host) -> bool {
        self.labels_below(domain).is_some()
    }

    /// Whether the two are the same, or one stands below the other.
    pub fn overlaps(&self, other: &Host) -> bool {
        self.within(other) || other.within(self)
    }

    /// What stands before `domain` in this host: `""` for the domain itself, `cart` for `cart.shop.internal`
    /// below `shop.internal`, and `None` when it is elsewhere.
    pub fn labels_below(&self, domain: &Host) -> Option<&str> {
        domain.labels_of(&self.0)
    }

    /// The same the other way round: what stands before this domain in a host, of which nobody knows yet whether it is one.
    pub fn labels_of<'h>(&self, host: &'h str) -> Option<&'h str> {
        match host.strip_suffix(&*self.0)? {
            "" => Some(""),
            below => below.strip_suffix('.'),
        }
    }
}

macro_rules! text_type {
    ($type:ident, $what:literal, $fault:ident) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the text could be one.
            pub fn fits(text: &str) -> bool {
                $fault(text).is_none()
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                match $fault(text) {
                    None => Ok($type(Arc::from(text))),
                    Some(why) => Err(NameError { what: $what, text: text.to_owned(), why }),
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $what })
            }
        }
    };
}
text_type!(Name, "name", label_fault);
text_type!(Host, "host name", host_fault);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn good_and_bad_names() {
        for good in ["a", "cart", "v1", "a-b-c", "0"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "A", "-a", "a-", "a.b", "a_b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_know_what_stands_below_a_domain() {
        let domain: Host = "shop.internal".parse().unwrap();
        let below = |host: &str| host.parse::<Host>().unwrap().labels_below(&domain).map(str::to_owned);
        assert_eq!(below("shop.internal").as_deref(), Some(""));
        assert_eq!(below("v1.cart.shop.internal").as_deref(), Some("v1.cart"));
        assert_eq!(below("myshop.internal"), None);
        assert_eq!(below("internal"), None);
    }
}
