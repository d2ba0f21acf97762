//! Acknowledgements, told as what changed: most say nothing new but how far somebody is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Ack, MemberReport};
use crate::resource::Name;

/// A part of an acknowledgement, or of a member's report, that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// What couldn't be acted on.
    Rejected,
    /// How peers are.
    Peers,
    /// Whom one believes, and what one holds.
    Trust,
}

/// Leaves out of `newer` what it has in common with `older`.
fn leave_out<T: PartialEq + Default>(part: Part, older: &T, newer: &mut T, same: &mut Vec<Part>) {
    if older == newer && *newer != T::default() {
        *newer = T::default();
        same.push(part);
    }
}

/// Puts back what was left out.
fn put_back<T: Clone>(part: Part, older: &T, newer: &mut T, same: &[Part]) {
    if same.contains(&part) {
        newer.clone_from(older);
    }
}

impl Ack {
    /// What is new in `self` since `older` was said; [`Self::complete`] makes the whole of it again.
    #[must_use]
    pub fn delta(&self, older: &Ack) -> Ack {
        let mut delta = self.clone();
        leave_out(Part::Rejected, &older.rejected, &mut delta.rejected, &mut delta.same);
        leave_out(Part::Peers, &older.peers, &mut delta.peers, &mut delta.same);
        leave_out(Part::Trust, &older.trust, &mut delta.trust, &mut delta.same);
        let before = by_name(&older.members);
        delta.members.retain(|member| before.get(&member.name).is_none_or(|before| before != &member));
        for member in &mut delta.members {
            let same = before.get(&member.name).map(|before| member.leave_out(before)).unwrap_or_default();
            if !same.is_empty() {
                delta.same_of.insert(member.name.clone(), same);
            }
        }
        let now = by_name(&self.members);
        delta.gone = before.keys().filter(|name| !now.contains_key(**name)).map(|name| (*name).clone()).collect();
        delta.partial = true;
        delta
    }

    /// The whole, when `older` is what the sender said before; what came whole stays as it is.
    #[must_use]
    pub fn complete(mut self, older: &Ack) -> Ack {
        let same = std::mem::take(&mut self.same);
        put_back(Part::Rejected, &older.rejected, &mut self.rejected, &same);
        put_back(Part::Peers, &older.peers, &mut self.peers, &same);
        put_back(Part::Trust, &older.trust, &mut self.trust, &same);
        let (gone, same_of) = (std::mem::take(&mut self.gone), std::mem::take(&mut self.same_of));
        if !std::mem::take(&mut self.partial) {
            return self;
        }
        let mut members: BTreeMap<Name, MemberReport> =
            older.members.iter().map(|member| (member.name.clone(), member.clone())).collect();
        for name in &gone {
            members.remove(name);
        }
        for mut member in std::mem::take(&mut self.members) {
            if let (Some(before), Some(same)) = (members.get(&member.name), same_of.get(&member.name)) {
                member.put_back(before, same);
            }
            members.insert(member.name.clone(), member);
        }
        self.members = members.into_values().collect();
        self
    }
}

impl MemberReport {
    fn leave_out(&mut self, before: &MemberReport) -> Vec<Part> {
        let mut same = Vec::new();
        leave_out(Part::Rejected, &before.rejected, &mut self.rejected, &mut same);
        leave_out(Part::Peers, &before.peers, &mut self.peers, &mut same);
        leave_out(Part::Trust, &before.trust, &mut self.trust, &mut same);
        same
    }

    fn put_back(&mut self, before: &MemberReport, same: &[Part]) {
        put_back(Part::Rejected, &before.rejected, &mut self.rejected, same);
        put_back(Part::Peers, &before.peers, &mut self.peers, same);
        put_back(Part::Trust, &before.trust, &mut self.trust, same);
    }
}

fn by_name(members: &[MemberReport]) -> BTreeMap<&Name, &MemberReport> {
    members.iter().map(|member| (&member.name, member)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::super::{MemberRole, PeerReport, Rejection, RevisionPair, TrustReport};
    use super::*;

    fn rejections(keys: Vec<u8>) -> Vec<Rejection> {
        keys.into_iter().map(|key| Rejection { key: key.to_string(), reason: "no".to_owned() }).collect()
    }

    fn peers(tunnels: Vec<u32>) -> Arc<Vec<PeerReport>> {
        let peer = |tunnels| PeerReport {
            global_namespace: "shop".parse().unwrap(),
            from: None,
            cluster: "south".parse().unwrap(),
            gateway: "gw".parse().unwrap(),
            address: "192.0.2.1:7445".to_owned(),
            tunnels,
            draining: false,
            answered_by: None,
            fault: None,
        };
        Arc::new(tunnels.into_iter().map(peer).collect())
    }

    fn trust(roots: Vec<u8>) -> Vec<TrustReport> {
        let report = |root: u8| serde_json::json!({"globalNamespace": "shop", "roots": [root.to_string()]});
        roots.into_iter().map(|root| serde_json::from_value(report(root)).unwrap()).collect()
    }

    fn member(name: &str, global: u64, rejected: Vec<u8>) -> MemberReport {
        MemberReport {
            name: name.parse().unwrap(),
            role: MemberRole::Gateway,
            connected: true,
            silent_for_ms: 0,
            at: RevisionPair { global, ..RevisionPair::default() },
            rejected: rejections(rejected),
            peers: Arc::default(),
            trust: vec![],
            absent: false,
            draining: false,
        }
    }

    prop_compose! {
        fn ack()(
            global in 0..2u64,
            rejected in vec(0..2u8, 0..2),
            (seen, believed) in (vec(0..2u32, 0..2), vec(0..2u8, 0..2)),
            members in btree_map("[ab]", (0..2u64, vec(0..2u8, 0..2), vec(0..2u32, 0..2), vec(0..2u8, 0..2)), 0..3),
        ) -> Ack {
            let members = members.into_iter().map(|(name, (global, rejected, seen, believed))| MemberReport {
                peers: peers(seen),
                trust: trust(believed),
                ..member(&name, global, rejected)
            });
            let at = RevisionPair { global, ..RevisionPair::default() };
            let (rejected, members) = (rejections(rejected), members.collect());
            Ack { at, rejected, members, peers: peers(seen), trust: trust(believed), ..Ack::default() }
        }
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_put_back(older in ack(), newer in ack()) {
            let told = serde_json::to_string(&newer.delta(&older)).unwrap();
            let heard: Ack = serde_json::from_str(&told).unwrap();
            prop_assert_eq!(heard.complete(&older), newer.clone());
            prop_assert_eq!(newer.clone().complete(&older), newer);
        }
    }

    #[test]
    fn nothing_new_is_nothing_but_where_one_is() {
        let ack = Ack { members: vec![member("a", 1, vec![1])], rejected: rejections(vec![1]), ..Ack::default() };
        let told = serde_json::to_value(ack.delta(&ack)).unwrap();
        let at = serde_json::to_value(ack.at).unwrap();
        assert_eq!(told, serde_json::json!({"at": at, "same": ["rejected"], "partial": true}));
    }
}
