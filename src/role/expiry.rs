//! `tombolo_certificate_expiry_seconds`: how long certificates still live, as of the moment in which it is asked.

use std::collections::{BTreeMap, HashMap};

use config::wire::{Ack, TrustReport};
use controller::global::CertificatesStatus;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};
use time::OffsetDateTime;

const NAME: &str = "tombolo_certificate_expiry_seconds";
const HELP: &str =
    "Seconds until the first certificate of this level ends, by global namespace; none is the control plane.";
const LABELS: [&str; 2] = ["global_namespace", "level"];

/// By GNS (empty for the control plane) and level: when the first certificate ends, in seconds since 1970.
pub type Ends = BTreeMap<(String, String), i64>;

/// Asks for it at each scrape.
struct Expiry<F> {
    desc: Desc,
    ends: F,
}

/// Lets the registry tell what `ends` says.
pub fn register(registry: &Registry, ends: impl Fn() -> Ends + Send + Sync + 'static) -> prometheus::Result<()> {
    let labels = LABELS.map(str::to_owned).to_vec();
    let desc = Desc::new(NAME.to_owned(), HELP.to_owned(), labels, HashMap::new())?;
    registry.register(Box::new(Expiry { desc, ends }))
}

impl<F: Fn() -> Ends + Send + Sync> Collector for Expiry<F> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(gauges) = GaugeVec::new(Opts::new(NAME, HELP), &LABELS) else { return Vec::new() };
        let now = OffsetDateTime::now_utc().unix_timestamp();
        for ((gns, level), end) in (self.ends)() {
            // Lives are far below 2^52 seconds.
            #[allow(clippy::cast_precision_loss)]
            gauges.with_label_values(&[&gns, &level]).set(end.saturating_sub(now) as f64);
        }
        gauges.collect()
    }
}

fn earliest(ends: impl Iterator<Item = ((String, String), i64)>) -> Ends {
    ends.fold(Ends::new(), |mut all, (of, end)| {
        let first = all.entry(of).or_insert(end);
        *first = end.min(*first);
        all
    })
}

/// Of all that the controller knows.
pub fn of_mesh(status: &CertificatesStatus) -> Ends {
    let name = |gns: Option<&config::resource::Name>| gns.map(ToString::to_string).unwrap_or_default();
    let rows = status.certificates.iter();
    earliest(rows.map(|row| ((name(row.global_namespace.as_ref()), row.level.to_string()), row.not_after)))
}

/// Of what an agent holds: issuing CAs in GNSs, a leaf in the control plane, and its cluster's control CA.
pub fn of_agent(told: &Ack) -> Ends {
    let control = told.control.iter().flat_map(|control| &control.roots);
    let control = control.map(|root| ((String::new(), "control".to_owned()), root.not_after));
    earliest(of_holder(&told.trust, "issuing").into_iter().chain(control))
}

/// Of what a process shows: certificates of that level in GNSs, a leaf in the control plane.
pub fn of_holder(trust: &[TrustReport], level_in_gns: &str) -> Ends {
    let of = |trust: &TrustReport| {
        let level = if trust.global_namespace.is_some() { level_in_gns } else { "leaf" };
        let gns = trust.global_namespace.as_ref().map(ToString::to_string).unwrap_or_default();
        Some(((gns, level.to_owned()), trust.certificate.as_ref()?.not_after))
    };
    earliest(trust.iter().filter_map(of))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn the_first_end_counts_and_is_told_as_what_is_left() {
        let registry = Registry::new();
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let of = || ("shop".to_owned(), "leaf".to_owned());
        register(&registry, move || earliest([(of(), now + 900), (of(), now + 300)].into_iter())).unwrap();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let line = text.lines().find(|line| line.starts_with(NAME)).unwrap();
        let (labels, left) = line.rsplit_once(' ').unwrap();
        assert_eq!(labels, format!("{NAME}{{global_namespace=\"shop\",level=\"leaf\"}}"));
        assert!((290.0..=300.0).contains(&left.parse::<f64>().unwrap()), "{line}");
    }
}
