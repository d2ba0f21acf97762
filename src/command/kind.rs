//! Kinds and resources as people type them: in any case, in the plural, or short.

use anyhow::{Context, Result, bail};
use config::resource::{Kind, Name, ResourceId};

/// What each kind is also called.
fn short_forms(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Cluster => &["cl"],
        Kind::Node => &["no"],
        Kind::Service => &["svc"],
        Kind::GlobalNamespace => &["gns"],
        Kind::PublicService => &["ps"],
        Kind::Certificate => &["cert", "certs"],
        Kind::AccessPolicy => &["ap"],
    }
}

/// Which resources are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// All of a kind; of them only those of that name, if there is one.
    Kind(Kind, Option<Name>),
    /// This one.
    One(ResourceId),
}

impl Selection {
    /// Reads `all`, `KIND`, or `KIND/…/NAME`.
    ///
    /// # Errors
    /// When there is no such kind, or no such resource can be.
    pub fn read(text: &str) -> Result<Self> {
        match text {
            text if text.eq_ignore_ascii_case("all") => Ok(Selection::All),
            text if text.contains('/') => Ok(Selection::One(id(text)?)),
            text => Ok(Selection::Kind(kind(text)?, None)),
        }
    }

    /// Only those of that name.
    ///
    /// # Errors
    /// When it is no kind that is narrowed.
    pub fn named(self, name: Option<Name>) -> Result<Self> {
        match (self, name) {
            (selection, None) => Ok(selection),
            (Selection::Kind(kind, _), name) => Ok(Selection::Kind(kind, name)),
            (Selection::All, Some(name)) => bail!("of which kind is {name}? write KIND {name}"),
            (Selection::One(id), Some(name)) => bail!("{id} is one resource already: leave {name} out"),
        }
    }
}

/// Reads `KIND/…/NAME`.
///
/// # Errors
/// When there is no such kind, or the parts are not those that it is known by.
pub fn id(text: &str) -> Result<ResourceId> {
    let (word, names) = text.split_once('/').with_context(|| format!("{text:?} has no name: write KIND/…/NAME"))?;
    Ok(format!("{}/{names}", kind(word)?).parse()?)
}

fn kind(word: &str) -> Result<Kind> {
    let typed = word.to_ascii_lowercase();
    let means = |kind: &Kind| {
        let long = kind.as_str().to_ascii_lowercase();
        typed == long || typed.strip_suffix('s') == Some(&long) || short_forms(*kind).contains(&typed.as_str())
    };
    Kind::ALL.into_iter().find(means).with_context(|| format!("there is no kind {word:?}: write one of {}", known()))
}

fn known() -> String {
    let shown = |kind: Kind| format!("{kind} ({})", short_forms(kind).join(", "));
    Kind::ALL.map(shown).join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kinds_have_many_spellings() {
        for text in ["PublicService", "publicservice", "PUBLICSERVICES", "ps"] {
            assert_eq!(kind(text).unwrap(), Kind::PublicService, "{text}");
        }
        for (text, meant) in [("gns", Kind::GlobalNamespace), ("certs", Kind::Certificate), ("svc", Kind::Service)] {
            assert_eq!(kind(text).unwrap(), meant);
        }
        for wrong in ["", "s", "pod", "publicservicess", "all"] {
            assert!(kind(wrong).is_err(), "{wrong}");
        }
        assert!(kind("pod").unwrap_err().to_string().contains("GlobalNamespace (gns)"));
    }

    #[test]
    fn a_resource_is_known_by_all_its_parts() {
        assert_eq!(id("ps/shop/web").unwrap().to_string(), "PublicService/shop/web");
        assert_eq!(id("services/north/shop/cart").unwrap().to_string(), "Service/north/shop/cart");
        for wrong in ["web", "ps/web", "ps/", "/", "pod/web", "cluster/North"] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_narrows_a_kind_and_nothing_else() {
        let web: Name = "web".parse().unwrap();
        let select = |text: &str, name: Option<&Name>| Selection::read(text).and_then(|s| s.named(name.cloned()));
        assert_eq!(select("ALL", None).unwrap(), Selection::All);
        assert_eq!(select("ps", Some(&web)).unwrap(), Selection::Kind(Kind::PublicService, Some(web.clone())));
        assert_eq!(select("ps/shop/web", None).unwrap(), Selection::One("PublicService/shop/web".parse().unwrap()));
        assert!(select("all", Some(&web)).is_err());
        assert!(select("ps/shop/web", Some(&web)).is_err());
    }
}
