//! What is counted. Handles are prepared, so that counting looks nothing up.

use hickory_proto::op::ResponseCode;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// The counters of one DNS server.
pub(crate) struct Metrics {
    no_error: IntCounter,
    no_name: IntCounter,
    format_error: IntCounter,
    server_failure: IntCounter,
    not_implemented: IntCounter,
    refused: IntCounter,
    bad_version: IntCounter,
    other: IntCounter,
    pub(crate) dropped: Dropped,
}

/// Questions without an answer, by reason.
pub(crate) struct Dropped {
    /// Shorter or longer than a question can be.
    pub(crate) malformed: IntCounter,
    /// It was a response: answering those makes loops.
    pub(crate) response: IntCounter,
    /// Its network has had its share.
    pub(crate) rate_limited: IntCounter,
    /// As before, but told to ask over TCP.
    pub(crate) slipped: IntCounter,
    /// There are as many TCP connections as may be.
    pub(crate) connections: IntCounter,
    /// The answer could not be written.
    pub(crate) send: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name, help, label| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let queries = family("tombolo_dns_queries_total", "Questions answered, by response code.", "rcode")?;
        let dropped = family("tombolo_dns_dropped_total", "Questions not answered, by reason.", "reason")?;
        let code = |rcode| queries.with_label_values(&[rcode]);
        let reason = |reason| dropped.with_label_values(&[reason]);
        Ok(Metrics {
            no_error: code("NOERROR"),
            no_name: code("NXDOMAIN"),
            format_error: code("FORMERR"),
            server_failure: code("SERVFAIL"),
            not_implemented: code("NOTIMP"),
            refused: code("REFUSED"),
            bad_version: code("BADVERS"),
            other: code("other"),
            dropped: Dropped {
                malformed: reason("malformed"),
                response: reason("response"),
                rate_limited: reason("rate_limited"),
                slipped: reason("slipped"),
                connections: reason("connections"),
                send: reason("send"),
            },
        })
    }

    /// The counter of answers with this code.
    pub(crate) fn answered(&self, code: ResponseCode) -> &IntCounter {
        match code {
            ResponseCode::NoError => &self.no_error,
            ResponseCode::NXDomain => &self.no_name,
            ResponseCode::FormErr => &self.format_error,
            ResponseCode::ServFail => &self.server_failure,
            ResponseCode::NotImp => &self.not_implemented,
            ResponseCode::Refused => &self.refused,
            ResponseCode::BADVERS => &self.bad_version,
            _ => &self.other,
        }
    }
}
