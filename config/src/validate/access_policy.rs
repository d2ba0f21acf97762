use crate::resource::access_policy::{AccessPolicySpec, Action};

use super::Faults;

pub(super) fn check(spec: &AccessPolicySpec, faults: &mut Faults) {
    if spec.action == Action::Deny {
        faults.unsupported("spec.action", "deny", "write allow: what no policy allows is refused");
    }
    if spec.from.is_empty() {
        faults.add("spec.from", "nobody is let in", "write at least one, as in {globalNamespace: shop}");
    }
    for (i, source) in spec.from.iter().enumerate() {
        if source.global_namespace == spec.global_namespace {
            let what = "a rule within a global namespace, where every service may call every other,";
            faults.unsupported(
                format_args!("spec.from[{i}].globalNamespace"),
                what,
                "name another, or remove the line",
            );
        }
    }
    let sources = spec.from.iter().map(|source| match &source.service {
        Some(service) => format!("{}/{service}", source.global_namespace),
        None => source.global_namespace.to_string(),
    });
    faults.doubles(sources, |i| format!("spec.from[{i}]"), "remove one of them");
    let targets = spec.to.iter().map(|target| &target.service);
    faults.doubles(targets, |i| format!("spec.to[{i}].service"), "remove one of them");
}
