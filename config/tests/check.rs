//! What a batch may not do to what exists, and what is said of what was accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use config::check::check;
use config::conditions::conditions;
use config::resource::{Condition, ConditionStatus, Resource, ResourceId};
use support::{resources, world_of};

fn gns(name: &str, domain: &str, hosts: &str) -> String {
    format!(
        "---\napiVersion: tombolo.dev/v1alpha1\nkind: GlobalNamespace\nmetadata: {{name: {name}}}\nspec: \
         {{domain: {domain}, publicHosts: {hosts}, members: [{{cluster: {{prefix: n}}, namespace: {{exact: {name}}}}}]}}\n"
    )
}

fn public(gns: &str, name: &str, host: &str) -> String {
    format!(
        "---\napiVersion: tombolo.dev/v1alpha1\nkind: PublicService\nmetadata: {{name: {name}}}\nspec: \
         {{globalNamespace: {gns}, service: {name}, port: 80, hosts: [{{name: {host}}}], tls: {{mode: http}}}}\n"
    )
}

fn existing(manifests: &str) -> BTreeMap<ResourceId, Arc<Resource>> {
    resources(manifests).into_iter().map(|resource| (resource.id.clone(), resource)).collect()
}

fn refused(before: &str, batch: &str, removals: &[&str]) -> Vec<String> {
    let removals: Vec<ResourceId> = removals.iter().map(|id| id.parse().unwrap()).collect();
    let errors = check(&existing(before), &resources(batch), &removals).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_host_has_one_holder() {
    let (one, two) = (public("shop", "one", "a.example.com"), public("shop", "two", "a.example.com"));
    let errors = refused(&one, &two, &[]);
    assert_eq!(
        errors,
        ["PublicService/shop/two: spec.hosts[0].name: a.example.com is held by PublicService/shop/one; \
          remove it from one of the two"]
    );
    assert_eq!(refused(&two, &one, &[])[0].split(':').next(), Some("PublicService/shop/one"), "the holder stays");
    assert_eq!(refused("", &format!("{two}{one}"), &[]).len(), 1, "within a batch one is blamed");
    assert!(refused(&one, &two, &["PublicService/shop/one"]).is_empty(), "a batch may hand a host over");
    assert!(refused(&one, &one, &[]).is_empty());
}

#[test]
fn domains_are_unique_and_not_nested() {
    let shop = gns("shop", "shop.internal", "[]");
    for domain in ["shop.internal", "a.shop.internal"] {
        let errors = refused(&shop, &gns("other", domain, "[]"), &[]);
        assert!(errors[0].starts_with("GlobalNamespace/other: spec.domain: "), "{errors:?}");
    }
    assert!(refused(&gns("low", "a.b.internal", "[]"), &gns("high", "b.internal", "[]"), &[]).len() == 1);
    assert!(refused(&shop, &gns("other", "ashop.internal", "[]"), &[]).is_empty());
    assert!(refused(&shop, &gns("shop", "new.internal", "[]"), &[]).is_empty());
}

#[test]
fn public_hosts_keep_hosts() {
    let gnss = gns("one", "one.internal", "['*.one.com']") + &gns("free", "free.internal", "[]");
    assert!(refused(&gnss, &public("one", "x", "a.one.com"), &[]).is_empty());
    assert!(refused(&gnss, &public("free", "x", "a.two.com"), &[]).is_empty());
    for (gns, host) in [("one", "a.two.com"), ("one", "a.b.one.com"), ("free", "a.one.com")] {
        let errors = refused(&gnss, &public(gns, "x", host), &[]);
        assert!(errors[0].contains("spec.hosts[0].name") && errors[0].contains("GlobalNamespace/one"), "{errors:?}");
    }
    let same = refused(&gnss, &gns("two", "two.internal", "['*.one.com']"), &[]);
    assert!(same[0].starts_with("GlobalNamespace/two: spec.publicHosts[0]: *.one.com is kept for"), "{same:?}");
}

#[test]
fn a_gns_cannot_take_a_host_from_under_its_publisher() {
    let before = gns("one", "one.internal", "[]") + &public("one", "x", "a.one.com");
    let narrowed = refused(&before, &gns("one", "one.internal", "['*.else.com']"), &[]);
    assert!(narrowed[0].starts_with("GlobalNamespace/one: spec.publicHosts: "), "{narrowed:?}");
    let taken = refused(&before, &gns("two", "two.internal", "['a.one.com']"), &[]);
    assert!(taken[0].starts_with("GlobalNamespace/two: spec.publicHosts: "), "{taken:?}");
    let shadowed = refused(&before, &gns("two", "one.com", "[]"), &[]);
    assert!(shadowed[0].starts_with("GlobalNamespace/two: spec.domain: a.one.com"), "{shadowed:?}");
    let inside = refused(&before, &public("one", "y", "y.one.internal"), &[]);
    assert!(inside[0].contains("where names mean services"), "{inside:?}");
}

fn condition(manifests: &str, id: &str) -> Vec<Condition> {
    conditions(&world_of(manifests), &id.parse().unwrap())
}

fn reasons(manifests: &str, id: &str) -> Vec<(String, ConditionStatus, String)> {
    condition(manifests, id).into_iter().map(|c| (c.kind, c.status, c.reason)).collect()
}

const CLUSTER: &str = "---\napiVersion: tombolo.dev/v1alpha1\nkind: Cluster\nmetadata: {name: north}\n";
const SERVICE: &str = "---\napiVersion: tombolo.dev/v1alpha1\nkind: Service\n\
    metadata: {name: web, cluster: north, namespace: shop}\nspec: {ports: [{name: http, port: PORT}]}\n";

#[test]
fn references_are_resolved_or_say_why_not() {
    let web = public("shop", "web", "a.example.com");
    let id = "PublicService/shop/web";
    let reason = |manifests: &str| reasons(manifests, id).remove(0);
    let unresolved = |reason: &str| ("ResolvedRefs".to_owned(), ConditionStatus::False, reason.to_owned());
    assert_eq!(reason(&web), unresolved("UnknownGlobalNamespace"));
    let with_gns = web + &gns("shop", "shop.internal", "[]");
    assert_eq!(reason(&with_gns), unresolved("UnknownService"));
    assert_eq!(reason(&(with_gns.clone() + &SERVICE.replace("PORT", "8080"))), unresolved("UnknownPort"));
    let whole = with_gns + &SERVICE.replace("PORT", "80");
    assert_eq!(reason(&whole).1, ConditionStatus::True);
    assert_eq!(
        reason(&whole.replace("{mode: http}", "{certificate: {uploaded: x}}")),
        unresolved("UnknownCertificate")
    );
    let weighted = whole.replace("a.example.com", "a.example.com, scheme: {activePassive: [north]}");
    assert_eq!(reason(&weighted), unresolved("UnknownCluster"));
    assert_eq!(reason(&(weighted + CLUSTER)).1, ConditionStatus::True);
    let sealed = whole.replace("mode: http}", "mode: passthrough}");
    assert_eq!(reason(&sealed), unresolved("WrongProtocol"));
    let of_streams = |manifests: &str| manifests.replace("port: 80}]", "port: 80, protocol: tls}]");
    assert_eq!(reason(&of_streams(&sealed)).1, ConditionStatus::True);
    assert_eq!(reason(&of_streams(&whole)), unresolved("WrongProtocol"));
}

#[test]
fn a_gns_says_what_it_matches_and_what_it_loses() {
    let shop = gns("shop", "shop.internal", "[]");
    let id = "GlobalNamespace/shop";
    assert_eq!(reasons(&shop, id), [("Matches".into(), ConditionStatus::False, "NoCluster".into())]);
    let joined = format!("{shop}{CLUSTER}{}", SERVICE.replace("PORT", "80"));
    assert_eq!(reasons(&joined, id)[0].1, ConditionStatus::True);
    let wide = gns("wide", "wide.internal", "[]").replace("exact: wide", "prefix: ''");
    let overlap = condition(&(joined + &wide), "GlobalNamespace/wide").remove(1);
    assert_eq!(overlap.kind, "Overlap");
    assert!(overlap.message.contains("north/shop belongs to GlobalNamespace/shop"), "{}", overlap.message);
    assert!(condition("", "GlobalNamespace/none").is_empty());
}
