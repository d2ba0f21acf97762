//! SPIFFE IDs: what reads, reads back; what is malformed is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;
use tombolo_identity::{Role, SpiffeId};

fn role() -> impl Strategy<Value = Role> {
    let l = || "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?";
    let n = || "[a-z0-9]{1,5}(\\.[a-z0-9]{1,5}){0,3}";
    prop_oneof![
        (l(), l(), l()).prop_map(|(cluster, namespace, service)| Role::Workload { cluster, namespace, service }),
        (l(), n()).prop_map(|(cluster, name)| Role::Gateway { cluster, name }),
        (l(), n()).prop_map(|(cluster, name)| Role::Member { cluster, name }),
        l().prop_map(|cluster| Role::Agent { cluster }),
        Just(Role::Controller),
    ]
}

proptest! {
    #[test]
    fn a_built_id_reads_back(role in role(), domain in "[a-z]{1,8}(\\.[a-z0-9]{1,8}){0,2}") {
        let id = SpiffeId::new(domain.parse().unwrap(), role).unwrap();
        prop_assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
    }

    #[test]
    fn what_parses_is_canonical(text in "(spiffe|SPIFFE|http)://[a-z.@:A-Z]{0,9}/(cluster|c)/[a-zA-Z0-9.%?#/-]{0,12}(/agent)?") {
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn no_input_panics(text in ".{0,200}") {
        let _ = text.parse::<SpiffeId>();
        let _ = format!("spiffe://shop.mesh/{text}").parse::<SpiffeId>();
    }
}

#[test]
fn malformed_ids_are_refused() {
    let long = format!("spiffe://shop.mesh/cluster/{}/agent", "a".repeat(64));
    let longer = format!("spiffe://shop.mesh/cluster/c/gateway/{}", "a.".repeat(1100));
    for text in [
        "",
        "spiffe://",
        "spiffe:///controller",
        "spiffe://mesh",
        "spiffe://mesh/",
        "spiffe://mesh/controller/",
        "SPIFFE://mesh/controller",
        "spiffe://Mesh/controller",
        "spiffe://mesh/Controller",
        "spiffe://mesh:443/controller",
        "spiffe://user@mesh/controller",
        "spiffe://mesh./controller",
        "spiffe://a..b/controller",
        "spiffe://mesh/controller?x=1",
        "spiffe://mesh/controller#x",
        "spiffe://mesh/cluster//agent",
        "spiffe://mesh/cluster/./agent",
        "spiffe://mesh/cluster/../agent",
        "spiffe://mesh/cluster/%6eorth/agent",
        "spiffe://mesh/cluster/a.b/agent",
        "spiffe://mesh/cluster/-a/agent",
        "spiffe://mesh/cluster/a/gateway/..",
        "spiffe://mesh/cluster/a/gateway/x/y",
        "spiffe://mesh/cluster/ä/agent",
        "spiffe://mesh/cluster/a/agent\0",
        &long,
        &longer,
    ] {
        assert!(text.parse::<SpiffeId>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn names_cannot_smuggle_a_path() {
    let role = Role::Gateway { cluster: "a".into(), name: "x/../../controller".into() };
    assert!(SpiffeId::new("mesh".parse().unwrap(), role).is_err());
    // Its text would read as a workload's.
    let role = Role::Agent { cluster: "a/ns/b/svc".into() };
    assert!(SpiffeId::new("mesh".parse().unwrap(), role).is_err());
}
