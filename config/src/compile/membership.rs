//! Which GNS a namespace of a cluster belongs to: to one at most.

use std::cmp::Reverse;

use crate::resource::{GlobalNamespaceSpec, Matcher, MemberRow, Name};

/// The member rows of every GNS.
pub struct Membership<'w> {
    rows: Vec<(&'w Name, &'w MemberRow)>,
}

/// How closely a condition describes what it matches: exact beats prefix, a longer prefix beats a shorter.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Prefix(usize),
    Exact,
}

impl Specificity {
    fn of(matcher: &Matcher) -> Self {
        match matcher {
            Matcher::Exact(_) => Specificity::Exact,
            Matcher::Prefix(prefix) => Specificity::Prefix(prefix.len()),
        }
    }
}

impl<'w> Membership<'w> {
    /// Collects the rows.
    pub fn of(global_namespaces: impl Iterator<Item = (&'w Name, &'w GlobalNamespaceSpec)>) -> Self {
        let rows = global_namespaces.flat_map(|(name, spec)| spec.members.iter().map(move |row| (name, row)));
        Membership { rows: rows.collect() }
    }

    /// The GNS to which the namespace belongs. The row that describes the namespace most closely wins, among equals the
    /// one that describes the cluster most closely. The design's last tie-break is age; a world knows no age, so here
    /// it is the GNS's name: the same everywhere, at any time.
    pub fn owner(&self, cluster: &Name, namespace: &Name) -> Option<&'w Name> {
        let rank = |(gns, row): &(&'w Name, &'w MemberRow)| {
            (Specificity::of(&row.namespace), Specificity::of(&row.cluster), Reverse(*gns))
        };
        self.matching(cluster, namespace).max_by_key(rank).map(|(gns, _)| gns)
    }

    /// Every GNS that has a row for the namespace, whether it gets it or not; one with several rows several times.
    pub fn claimants(&self, cluster: &Name, namespace: &Name) -> impl Iterator<Item = &'w Name> {
        self.matching(cluster, namespace).map(|(gns, _)| gns)
    }

    /// Whether some row of the GNS matches the cluster.
    pub fn has_member(&self, gns: &Name, cluster: &Name) -> bool {
        self.rows.iter().any(|(name, row)| *name == gns && row.cluster.matches(cluster))
    }

    fn matching(&self, cluster: &Name, namespace: &Name) -> impl Iterator<Item = (&'w Name, &'w MemberRow)> {
        self.rows
            .iter()
            .copied()
            .filter(move |(_, row)| row.cluster.matches(cluster) && row.namespace.matches(namespace))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn owner(rows: &[(&str, serde_json::Value, serde_json::Value)]) -> Option<String> {
        let specs = rows.iter().map(|(name, cluster, namespace)| {
            let spec = json!({"domain": "a.internal", "members": [{"cluster": cluster, "namespace": namespace}]});
            (name.parse().unwrap(), serde_json::from_value(spec).unwrap())
        });
        let specs: Vec<(Name, GlobalNamespaceSpec)> = specs.collect();
        let membership = Membership::of(specs.iter().map(|(name, spec)| (name, spec)));
        let owner = membership.owner(&"north".parse().unwrap(), &"shop".parse().unwrap());
        owner.map(ToString::to_string)
    }

    #[test]
    fn the_closest_description_wins() {
        let exact = |name: &str| json!({ "exact": name });
        let prefix = |prefix: &str| json!({ "prefix": prefix });
        let all = || prefix("");
        assert_eq!(owner(&[("a", all(), prefix("sho")), ("b", all(), exact("shop"))]).as_deref(), Some("b"));
        assert_eq!(owner(&[("a", all(), prefix("sho")), ("b", all(), prefix("shop"))]).as_deref(), Some("b"));
        assert_eq!(owner(&[("a", all(), all()), ("b", exact("north"), all())]).as_deref(), Some("b"));
        assert_eq!(owner(&[("a", exact("north"), all()), ("b", all(), exact("shop"))]).as_deref(), Some("b"));
        assert_eq!(owner(&[("b", all(), all()), ("a", all(), all())]).as_deref(), Some("a"));
        assert_eq!(owner(&[("a", exact("south"), all()), ("b", all(), exact("cart"))]), None);
    }
}
