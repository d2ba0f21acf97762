//! Any facts, of few names, so that they meet.

use config::world::Fact;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// A fact that is written as JSON.
pub fn fact(value: Value) -> Fact {
    serde_json::from_value(value).unwrap()
}

fn short() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn matcher() -> impl Strategy<Value = Value> {
    prop_oneof![short().prop_map(|n| json!({"exact": n})), Just(json!({"prefix": ""})), Just(json!({"prefix": "a"}))]
}

fn ports() -> impl Strategy<Value = Value> {
    let port = (0u16..3, prop::option::of(0u16..3), select(vec!["http", "tcp"]));
    let port = port.prop_map(|(n, target, protocol)| {
        json!({"name": format!("p{n}"), "port": 80 * n, "targetPort": target, "protocol": protocol})
    });
    // Most services agree, and few are faulty.
    prop_oneof![2 => Just(json!([{"name": "http", "port": 80}])), 1 => vec(port, 0..3).prop_map(Value::Array)]
}

fn check() -> impl Strategy<Value = Option<Value>> {
    prop::option::of(select(vec!["/", "/healthz"]).prop_map(|path| json!({"path": path})))
}

fn service() -> impl Strategy<Value = Value> {
    let versions = vec((short(), 1u8..3, select(vec!["none", "mesh"])), 0..3);
    (short(), short(), short(), ports(), versions, check()).prop_map(|(c, ns, n, ports, versions, check)| {
        let version = |(name, ip, tls): &(&str, u8, &str)| {
            json!({"name": name, "tls": tls, "instances": [{"address": format!("10.0.0.{ip}")}]})
        };
        let versions: Vec<Value> = versions.iter().map(version).collect();
        json!({"resource": {"id": format!("Service/{c}/{ns}/{n}"), "spec": {"Service": {
            "ports": ports, "versions": versions, "healthCheck": check}}}})
    })
}

fn remote() -> impl Strategy<Value = Value> {
    (short(), short(), short(), ports(), any::<u32>()).prop_map(|(c, ns, n, ports, count)| {
        json!({"remote": {"cluster": c, "namespace": ns, "name": n, "ports": ports, "versions": {"v1": count}}})
    })
}

fn public() -> impl Strategy<Value = Value> {
    let tls = select(vec![
        json!({"mode": "http"}),
        json!({"certificate": "selfSigned"}),
        json!({"certificate": {"uploaded": "a"}}),
    ]);
    let routed = (short(), prop::option::of(short()), check());
    (short(), short(), vec(short(), 0..3), tls, routed).prop_map(|(gns, n, hosts, tls, (service, routed, check))| {
        let hosts: Vec<Value> = hosts.iter().map(|host| json!({"name": format!("{host}.example.com")})).collect();
        let routes: Vec<Value> =
            routed.iter().map(|service| json!({"path": "/it", "service": service, "port": 80})).collect();
        json!({"resource": {"id": format!("PublicService/{gns}/{n}"), "spec": {"PublicService": {
            "globalNamespace": gns, "service": service, "port": 80, "routes": routes, "tls": tls,
            "healthCheck": check, "hosts": hosts}}}})
    })
}

fn certificate() -> impl Strategy<Value = Value> {
    (short(), short(), select(vec!["one", "two"])).prop_map(|(gns, n, chain)| {
        json!({"hostCertificate": {"globalNamespace": gns, "publicService": n, "chain": chain,
            "secretRef": {"keySha256": chain}}})
    })
}

fn global_namespace() -> impl Strategy<Value = Value> {
    let mode = select(vec!["permissive", "strict", "off"]);
    let gns = (short(), short(), vec((matcher(), matcher()), 1..3), prop::option::of(short()), mode);
    gns.prop_map(|(n, d, members, host, mode)| {
        let hosts: Vec<String> = host.iter().map(|host| format!("{host}.example.com")).collect();
        let members: Vec<Value> = members.iter().map(|(c, ns)| json!({"cluster": c, "namespace": ns})).collect();
        json!({"resource": {"id": format!("GlobalNamespace/{n}"), "spec": {"GlobalNamespace": {
            "domain": format!("{d}.internal"), "members": members, "publicHosts": hosts, "mtls": mode}}}})
    })
}

fn trust() -> impl Strategy<Value = Value> {
    (short(), select(vec!["old", "new"])).prop_map(|(gns, root)| {
        json!({"trust": {"globalNamespace": gns, "trustDomain": format!("{gns}.mesh"), "roots": [root],
            "labels": {"a": format!("{gns}.t.invalid")}}})
    })
}

fn policy() -> impl Strategy<Value = Value> {
    (short(), short(), prop::option::of(short()), prop::option::of(short())).prop_map(|(gns, from, by, to)| {
        let to: Vec<Value> = to.iter().map(|to| json!({"service": to})).collect();
        json!({"resource": {"id": format!("AccessPolicy/{gns}/in"), "spec": {"AccessPolicy": {
            "globalNamespace": gns, "from": [{"globalNamespace": from, "service": by}], "to": to}}}})
    })
}

fn uploaded() -> impl Strategy<Value = Value> {
    (short(), select(vec!["AAAA", "BBBB"])).prop_map(|(gns, body)| {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        json!({"resource": {"id": format!("Certificate/{gns}/a"), "spec": {"Certificate": {
            "globalNamespace": gns, "certificate": pem, "secretRef": {"keySha256": "0".repeat(64)}}}}})
    })
}

fn cluster() -> impl Strategy<Value = Value> {
    (short(), short(), 8u8..10).prop_map(|(c, ns, bits)| {
        json!({"resource": {"id": format!("Cluster/{c}"), "spec": {"Cluster": {
            "workloads": [{"cidr": format!("10.0.0.0/{bits}"), "namespace": ns}]}}}})
    })
}

fn gateways() -> impl Strategy<Value = Value> {
    (short(), 1u8..3).prop_map(
        |(c, ip)| json!({"gateways": {"cluster": c, "gateways": [{"name": "gw", "public": format!("10.1.0.{ip}")}]}}),
    )
}

/// Any fact, whatever its kind.
pub fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![frequent(), rare()]
}

/// Any fact of a kind of which there are many.
pub fn frequent() -> impl Strategy<Value = Fact> {
    prop_oneof![3 => service(), 3 => remote(), 4 => public(), 2 => certificate()].prop_map(fact)
}

/// Any fact of a kind of which there are few.
pub fn rare() -> impl Strategy<Value = Fact> {
    let of_gns = prop_oneof![3 => global_namespace(), 1 => trust(), 1 => policy(), 1 => uploaded()];
    prop_oneof![3 => of_gns, 1 => cluster(), 1 => gateways()].prop_map(fact)
}
