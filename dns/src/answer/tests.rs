#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;

use config::resource::{Scheme, Span};
use proptest::prelude::*;

use super::QuestionType::{A, Aaaa, Any, Ns, Other, Transfer};
use super::*;
use crate::fixture::{DEAD, DRAINING, gateway, health, name, publish, snapshot, with_namespace};

const SERVER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 53)));

fn ask(snapshot: &Snapshot, health: &Health, text: &str, kind: QuestionType, turn: u64) -> Answer {
    answer(snapshot, health, &Question::new(text, kind), SERVER, turn)
}

/// As asked of a world in which all are well.
fn ask_well(text: &str, kind: QuestionType) -> Answer {
    ask(&snapshot(), &Health::default(), text, kind, 0)
}

fn texts(answer: &Answer) -> Vec<String> {
    let Answer::Records { data, .. } = answer else { panic!("{answer:?}") };
    let text = |data: &Data| match data {
        Data::Address(address) => address.to_string(),
        other => panic!("{other:?}"),
    };
    data.iter().map(text).collect()
}

fn soa(apex: &str) -> Soa {
    Soa { apex: apex.parse().unwrap(), serial: 10 }
}

#[test]
fn services_versions_and_clusters_answer_with_this_clusters_gateways() {
    for known in ["cart", "v1.cart", "v2.cart", "north.cart", "south.cart", "pay", "v3.pay", "west.pay"] {
        let answer = ask_well(&format!("{known}.shop.internal"), A);
        assert_eq!(texts(&answer), ["10.1.0.1", "10.1.0.2"], "{known}");
        assert!(matches!(answer, Answer::Records { ttl: 5, .. }));
        assert_eq!(texts(&ask_well(&format!("{known}.shop.internal"), Aaaa)), ["fd00::1"]);
    }
    let foreign = ["car", "v3.cart", "west.cart", "north.pay", "v1.v1.cart", "cart.cart", "x.cart", "_http._tcp.cart"];
    for unknown in foreign {
        assert_eq!(ask_well(&format!("{unknown}.shop.internal"), A), Answer::NoName(soa("shop.internal")), "{unknown}");
    }
}

#[test]
fn gateways_take_turns() {
    let (snapshot, health) = (snapshot(), Health::default());
    let turn = |turn| texts(&ask(&snapshot, &health, "cart.shop.internal", A, turn));
    assert_eq!(turn(1), ["10.1.0.2", "10.1.0.1"]);
    assert_eq!(turn(2), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(turn(u64::MAX).len(), 2);
}

#[test]
fn names_are_compared_in_lower_case_and_the_final_dot_is_optional() {
    assert_eq!(texts(&ask_well("CaRt.Shop.INTERNAL.", A)).len(), 2);
    assert_eq!(texts(&ask_well("SHOP.example.com.", A)).len(), 4);
}

#[test]
fn an_apex_has_an_soa_a_name_server_and_no_address() {
    for kind in [A, Aaaa, Other] {
        assert_eq!(ask_well("shop.internal", kind), Answer::NoData(soa("shop.internal")));
    }
    let records = |data| Answer::Records { data: vec![data], ttl: 5 };
    assert_eq!(ask_well("shop.internal", QuestionType::Soa), records(Data::Soa(soa("shop.internal"))));
    assert_eq!(ask_well("shop.internal", Ns), records(Data::Ns("shop.internal".parse().unwrap())));
    assert_eq!(texts(&ask_well("ns.dns.shop.internal", A)), ["10.1.0.53"]);
    assert_eq!(ask_well("ns.dns.shop.internal", Aaaa), Answer::NoData(soa("shop.internal")));
    assert_eq!(ask_well("dns.shop.internal", A), Answer::NoData(soa("shop.internal")));
    assert_eq!(ask_well("shop.example.com", QuestionType::Soa), records(Data::Soa(soa("shop.example.com"))));
}

#[test]
fn a_server_without_an_address_names_no_name_server() {
    let ask = |text: &str, kind| answer(&snapshot(), &Health::default(), &Question::new(text, kind), None, 0);
    assert_eq!(ask("shop.internal", Ns), Answer::NoData(soa("shop.internal")));
    assert_eq!(ask("ns.dns.shop.internal", A), Answer::NoName(soa("shop.internal")));
}

#[test]
fn what_exists_without_such_a_record_is_no_data() {
    for kind in [QuestionType::Soa, Ns, Other] {
        assert_eq!(ask_well("cart.shop.internal", kind), Answer::NoData(soa("shop.internal")));
    }
    assert_eq!(ask_well("active.example.com", Aaaa), Answer::NoData(soa("active.example.com")));
}

#[test]
fn below_a_public_host_there_is_nothing_but_other_zones() {
    assert_eq!(ask_well("x.shop.example.com", A), Answer::NoName(soa("shop.example.com")));
    assert_eq!(ask_well("b.shop.example.com", A), Answer::NoData(soa("shop.example.com")), "empty non-terminal");
    assert_eq!(texts(&ask_well("a.b.shop.example.com", A)).len(), 4);
    assert_eq!(ask_well("x.a.b.shop.example.com", A), Answer::NoName(soa("a.b.shop.example.com")));
}

#[test]
fn a_public_host_may_stand_in_a_domain() {
    let mut snapshot = snapshot();
    publish(&mut snapshot, "www.eu.shop.internal", Scheme::RoundRobin);
    let ask = |text| ask(&snapshot, &Health::default(), text, A, 0);
    assert_eq!(texts(&ask("www.eu.shop.internal")).len(), 4);
    assert_eq!(ask("eu.shop.internal"), Answer::NoData(soa("shop.internal")));
}

#[test]
fn the_rest_is_refused() {
    for elsewhere in ["example.com", "internal", "", ".", "..", "myshop.internal", "www.example.org"] {
        for kind in [A, Any, QuestionType::Soa] {
            assert_eq!(ask_well(elsewhere, kind), Answer::Refused, "{elsewhere}");
        }
    }
    assert_eq!(ask_well("shop.internal", Transfer), Answer::Refused);
    let nothing = Snapshot::empty(config::snapshot::Place { cluster: name("north") });
    assert_eq!(ask(&nothing, &Health::default(), "cart.shop.internal", A, 0), Answer::Refused);
}

#[test]
fn any_is_answered_minimally() {
    let minimal = Answer::Records { data: vec![Data::Minimal], ttl: 5 };
    assert_eq!(ask_well("cart.shop.internal", Any), minimal);
    assert_eq!(ask_well("shop.example.com", Any), minimal);
    assert_eq!(ask_well("x.shop.internal", Any), Answer::NoName(soa("shop.internal")));
}

#[test]
fn sick_and_draining_gateways_are_left_out_while_another_is_well() {
    let snapshot = snapshot();
    let cart = |gateways: &[_]| texts(&ask(&snapshot, &health(gateways, &[]), "cart.shop.internal", A, 0));
    assert_eq!(cart(&[("north", "gw-1", DEAD)]), ["10.1.0.2"]);
    assert_eq!(cart(&[("north", "gw-1", DRAINING)]), ["10.1.0.2"]);
    let gone = ("north", "gw-6", DEAD);
    assert_eq!(cart(&[("north", "gw-1", DEAD), ("north", "gw-2", DRAINING), gone]), ["10.1.0.2"]);
    assert_eq!(cart(&[("north", "gw-1", DEAD), ("north", "gw-2", DEAD), gone]), ["10.1.0.1", "10.1.0.2"]);
}

#[test]
fn a_cluster_without_known_gateways_answers_nothing_rather_than_emptily() {
    let mut snapshot = snapshot();
    snapshot.gateways.clear();
    for known in ["cart.shop.internal", "shop.example.com", "active.example.com", "weighted.example.com"] {
        assert_eq!(ask(&snapshot, &Health::default(), known, A, 0), Answer::Unknown, "{known}");
    }
}

#[test]
fn round_robin_spans_clusters_the_own_one_first() {
    let (mut snapshot, well) = (snapshot(), Health::default());
    let of = |snapshot: &Snapshot, health: &Health, turn| texts(&ask(snapshot, health, "shop.example.com", A, turn));
    assert_eq!(of(&snapshot, &well, 0), ["203.0.113.1", "203.0.113.11", "203.0.113.21", "203.0.113.2"]);
    assert_eq!(of(&snapshot, &well, 1), ["203.0.113.2", "203.0.113.12", "203.0.113.21", "203.0.113.1"]);
    let sick = health(&[("north", "gw-1", DEAD), ("north", "gw-2", DEAD), ("west", "gw-1", DRAINING)], &[]);
    assert_eq!(of(&snapshot, &sick, 0), ["203.0.113.11", "203.0.113.12"]);
    with_namespace(&mut snapshot, |gns| {
        gns.labels = [(name("north"), "n.example".parse().unwrap())].into();
    });
    assert_eq!(of(&snapshot, &well, 0), ["203.0.113.1", "203.0.113.2"], "members only, where they are known");
}

#[test]
fn weights_draw_the_first_cluster_and_zero_means_never() {
    let (snapshot, well) = (snapshot(), Health::default());
    let ask = |health: &Health, turn| texts(&ask(&snapshot, health, "weighted.example.com", A, turn));
    let south = |address: &String| ["203.0.113.11", "203.0.113.12"].contains(&address.as_str());
    let answers: Vec<_> = (0..4_000).map(|turn| ask(&well, turn)).collect();
    assert!(answers.iter().all(|addresses| addresses.len() == 4 && !addresses.contains(&"203.0.113.21".to_owned())));
    let first = answers.iter().filter(|addresses| addresses.first().is_some_and(south)).count();
    assert!((2_850..3_150).contains(&first), "{first} of 4000 instead of three quarters");
    let all_of_south = [("south", "gw-1", DEAD), ("south", "gw-2", DEAD)];
    assert!(!ask(&health(&all_of_south, &[]), 0).iter().any(south));
}

#[test]
fn active_passive_names_the_first_cluster_that_can_serve() {
    let snapshot = snapshot();
    let of = |gateways: &[_], cart: &[_]| texts(&ask(&snapshot, &health(gateways, cart), "active.example.com", A, 0));
    let (south, west) = (["203.0.113.11", "203.0.113.12"], ["203.0.113.21"]);
    let south_dead = [("south", "gw-1", DEAD), ("south", "gw-2", DEAD)];
    let all_dead = [("south", "gw-1", DEAD), ("south", "gw-2", DEAD), ("west", "gw-1", DEAD)];
    assert_eq!(of(&[], &[]), south);
    assert_eq!(of(&south_dead, &[]), west);
    assert_eq!(of(&[], &[("south", false)]), west);
    assert_eq!(of(&[], &[("south", false), ("west", false)]), south, "a gateway knows where else instances are");
    assert_eq!(of(&south_dead, &[("south", true), ("west", false)]), west, "a dead gateway serves nobody");
    assert_eq!(of(&all_dead, &[]), south);
}

#[test]
fn a_public_hosts_ttl_is_cut_to_whole_seconds_and_to_31_bits() {
    for (millis, seconds) in [(10_000, 10), (1_900, 1), (500, 0), (u64::MAX, i32::MAX as u32)] {
        let mut snapshot = snapshot();
        let host = Arc::make_mut(&mut snapshot.public_hosts).get_mut("shop.example.com").unwrap();
        Arc::make_mut(host).ttl = Span::from_millis(millis);
        let answer = ask(&snapshot, &Health::default(), "shop.example.com", A, 0);
        assert!(matches!(answer, Answer::Records { ttl, .. } if ttl == seconds), "{answer:?}");
    }
}

#[test]
fn an_address_that_gateways_share_is_told_once() {
    let mut snapshot = snapshot();
    let shared = [gateway("gw-1", "203.0.113.9", "10.1.0.9"), gateway("gw-2", "203.0.113.9", "10.1.0.9")];
    snapshot.gateways.insert(name("north"), shared.into());
    assert_eq!(texts(&ask(&snapshot, &Health::default(), "cart.shop.internal", A, 0)), ["10.1.0.9"]);
}

fn any_type() -> impl Strategy<Value = QuestionType> {
    prop::sample::select(vec![A, Aaaa, QuestionType::Soa, Ns, Any, Transfer, Other])
}

fn any_name() -> impl Strategy<Value = String> {
    let label =
        prop::sample::select(vec!["cart", "v1", "north", "shop", "internal", "example", "com", "b", "a", "\\."]);
    prop_oneof![".{0,40}", prop::collection::vec(label, 0..6).prop_map(|labels| labels.join("."))]
}

const GATEWAYS: [(&str, &str); 6] =
    [("north", "gw-1"), ("north", "gw-2"), ("north", "gw-6"), ("south", "gw-1"), ("south", "gw-2"), ("west", "gw-1")];

proptest! {
    #[test]
    fn answers_hold_only_known_addresses_of_the_type_asked_for_none_twice(
        text in any_name(), kind in any_type(), turn: u64, dead in prop::collection::vec(any::<bool>(), 6),
    ) {
        let snapshot = snapshot();
        let dead = GATEWAYS.into_iter().zip(dead).filter(|(_, dead)| *dead);
        let dead: Vec<_> = dead.map(|((cluster, gateway), _)| (cluster, gateway, DEAD)).collect();
        let answer = ask(&snapshot, &health(&dead, &[("south", false)]), &text, kind, turn);
        let Answer::Records { data, .. } = answer else { return Ok(()) };
        prop_assert!(!data.is_empty());
        let address = |data: &Data| if let Data::Address(address) = data { Some(*address) } else { None };
        let addresses: Vec<_> = data.iter().filter_map(address).collect();
        let all = snapshot.gateways.values().flat_map(|gateways| gateways.iter());
        let known = all.flat_map(|gateway| [gateway.public, gateway.mesh]).flatten().chain(SERVER);
        let known: BTreeSet<_> = known.collect();
        prop_assert!(addresses.iter().all(|address| known.contains(address)));
        prop_assert!(addresses.iter().all(|address| address.is_ipv4() == (kind == A)));
        prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len());
    }
}
