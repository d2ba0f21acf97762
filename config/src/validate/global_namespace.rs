use crate::resource::{CertificateLifetimes, GlobalNamespaceSpec, Matcher, Span};

use super::Faults;

const LEAST_LIFETIME: Span = Span::from_millis(60_000);
/// Nothing below the top-level CA lives longer (DESIGN, section 6).
const MOST_LIFETIME: Span = Span::from_millis(90 * 86_400_000);

pub(super) fn check(spec: &GlobalNamespaceSpec, faults: &mut Faults) {
    if !spec.domain.as_str().contains('.') {
        let remedy = "write at least two labels, as in shop.internal";
        faults.add("spec.domain", format!("{} would shadow a whole top-level domain", spec.domain), remedy);
    }
    faults.not_numeric("spec.domain", &spec.domain);
    for (i, row) in spec.members.iter().enumerate() {
        matcher(&row.cluster, &format!("spec.members[{i}].cluster"), faults);
        matcher(&row.namespace, &format!("spec.members[{i}].namespace"), faults);
    }
    lifetimes(&spec.certificates, faults);
    faults.doubles(&spec.public_hosts, |i| format!("spec.publicHosts[{i}]"), "remove one of them");
}

/// A prefix with which no name can begin is a slip of the pen.
fn matcher(matcher: &Matcher, path: &str, faults: &mut Faults) {
    let Matcher::Prefix(prefix) = matcher else { return };
    let well = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if prefix.len() > 63 || prefix.starts_with('-') || !prefix.bytes().all(well) {
        let remedy = "write a-z, 0-9 and '-' only; the empty text matches every name";
        faults.add(format!("{path}.prefix"), format!("no name begins with {prefix:?}"), remedy);
    }
}

fn lifetimes(lifetimes: &CertificateLifetimes, faults: &mut Faults) {
    let levels = [
        ("leafLifetime", lifetimes.leaf_lifetime, Some(("issuingLifetime", lifetimes.issuing_lifetime))),
        ("issuingLifetime", lifetimes.issuing_lifetime, Some(("caLifetime", lifetimes.ca_lifetime))),
        ("caLifetime", lifetimes.ca_lifetime, None),
    ];
    for (field, span, issuer) in levels {
        let path = format!("spec.certificates.{field}");
        if !(LEAST_LIFETIME..=MOST_LIFETIME).contains(&span) {
            let remedy = format!("write {LEAST_LIFETIME} to {MOST_LIFETIME}");
            faults.add(path, format!("{span} is out of range"), remedy);
        } else if let Some((issuer, most)) = issuer
            && span.duration() > most.duration() / 3
        {
            let what = format!("{span} is more than a third of {issuer}, which is {most}");
            faults.add(path, what, format!("shorten it, or lengthen {issuer}"));
        }
    }
}
