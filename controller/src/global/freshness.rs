//! Whether certificates are renewed in time: a condition of global namespaces and clusters, well before one ends.

use config::resource::{Condition, ConditionStatus, ResourceId};

use super::certificates::{CertificateRow, Level};

const KIND: &str = "CertificatesFresh";
/// Of the time from a renewal that was due to the certificate's end, so much, as one part in so many, is nobody's alarm.
const GRACE: i64 = 4;
/// At most so many are named.
const NAMED: usize = 5;

/// Of a GNS, or of a cluster in the control plane; nothing for what has no certificates. `now` is in seconds since 1970.
pub(super) fn condition(id: &ResourceId, rows: &[CertificateRow], now: i64) -> Option<Condition> {
    if !matches!(id, ResourceId::GlobalNamespace(_) | ResourceId::Cluster(_)) {
        return None;
    }
    let concerns = |row: &&CertificateRow| match id {
        ResourceId::GlobalNamespace(name) => row.global_namespace.as_ref() == Some(name),
        ResourceId::Cluster(name) => row.global_namespace.is_none() && row.cluster.as_ref() == Some(name),
        _ => false,
    };
    let rows: Vec<&CertificateRow> = rows.iter().filter(concerns).filter(|row| is_known(row)).collect();
    let first = rows.iter().map(|row| row.not_after).min()?;
    let overdue: Vec<&CertificateRow> = rows.into_iter().filter(|row| is_overdue(row, now)).collect();
    let (status, reason) = match overdue.iter().any(|row| row.not_after < now) {
        _ if overdue.is_empty() => (ConditionStatus::True, "Renewed"),
        true => (ConditionStatus::False, "Expired"),
        false => (ConditionStatus::False, "RenewalOverdue"),
    };
    let message = match overdue.as_slice() {
        [] => format!("the first to end does so in {}", span(first - now)),
        overdue => overdue.iter().take(NAMED).map(|row| sentence(row, now)).collect::<Vec<_>>().join("; "),
    };
    Some(Condition { kind: KIND.to_owned(), status, reason: reason.to_owned(), message })
}

/// Gateways and DNS servers renew with their agent, which may go on without the controller's hearing of it. What agents
/// hold only the controller renews, but for control CAs, which they replace by themselves.
fn is_known(row: &CertificateRow) -> bool {
    row.heard || (row.member.is_none() && row.level != Level::Control)
}

fn is_overdue(row: &CertificateRow, now: i64) -> bool {
    now > row.renews.saturating_add(row.not_after.saturating_sub(row.renews).max(0) / GRACE)
}

fn sentence(row: &CertificateRow, now: i64) -> String {
    let CertificateRow { level, holder, renews, not_after, .. } = row;
    let held = format!("{holder}: {level} certificate {}", row.serial);
    match not_after - now {
        left if left < 0 => {
            format!("{held} ended {} ago; what it should prove is refused until it is renewed", span(-left))
        }
        left => {
            format!("{held} was to be renewed {} ago, and ends in {}; its log says why", span(now - renews), span(left))
        }
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    fn row(gns: Option<&str>, heard: bool, renews: i64, not_after: i64) -> CertificateRow {
        from_value(json!({"level": "leaf", "globalNamespace": gns, "holder": "west/gw-a", "cluster": "west",
            "member": "gw-a", "heard": heard, "serial": "ab", "subject": "", "issuer": "", "notBefore": 0,
            "notAfter": not_after, "renews": renews}))
        .unwrap()
    }

    #[test]
    fn the_alarm_comes_well_before_the_end() {
        let (shop, west) = ("GlobalNamespace/shop".parse().unwrap(), "Cluster/west".parse().unwrap());
        let rows = [row(Some("shop"), true, 600, 1000)];
        let of = |now| condition(&shop, &rows, now).map(|c| (c.status, c.reason)).unwrap();
        assert_eq!(of(690), (ConditionStatus::True, "Renewed".into()));
        assert_eq!(of(710), (ConditionStatus::False, "RenewalOverdue".into()));
        assert_eq!(of(1001), (ConditionStatus::False, "Expired".into()));
        assert!(condition(&west, &rows, 710).is_none(), "a GNS's certificates are not the cluster's own");
        let message = condition(&west, &[row(None, true, 600, 1000)], 710).unwrap().message;
        assert!(message.contains("west/gw-a") && message.contains("110 s ago"), "{message}");
        assert!(condition(&shop, &[row(Some("shop"), false, 600, 1000)], 2000).is_none(), "renewed unheard, perhaps");
    }
}
