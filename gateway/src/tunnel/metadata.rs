//! What one gateway tells the other about a request in a tunnel, in headers that are stripped from every other input.

use config::resource::Name;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The cluster that shall deliver the request.
pub const CLUSTER: HeaderName = HeaderName::from_static("tombolo-cluster");
/// The service.
pub const SERVICE: HeaderName = HeaderName::from_static("tombolo-service");
/// The service's port.
pub const PORT: HeaderName = HeaderName::from_static("tombolo-port");
/// The version, where one was asked for.
pub const VERSION: HeaderName = HeaderName::from_static("tombolo-version");
/// Which attempt it is, from 1.
pub const ATTEMPT: HeaderName = HeaderName::from_static("tombolo-attempt");
/// Who called, as a SPIFFE ID, where the origin gateway was shown one.
pub const SOURCE: HeaderName = HeaderName::from_static("tombolo-source");
/// All that a request carries of it.
pub static OF_REQUEST: [HeaderName; 6] = [CLUSTER, SERVICE, PORT, VERSION, ATTEMPT, SOURCE];
/// In answers: who served, as `CLUSTER/VERSION/INSTANCE`.
pub const SERVED_BY: HeaderName = HeaderName::from_static("tombolo-served-by");
/// In answers: why the request was refused.
pub const REFUSAL: HeaderName = HeaderName::from_static("tombolo-refusal");

/// In a request for reports: after the first, only what changes is wanted.
pub const CHANGES: HeaderName = HeaderName::from_static("tombolo-changes");

/// The path on which a gateway reports to its peers; only in tunnels, where service names are in headers.
pub const REPORT_PATH: &str = "/.tombolo/report";

/// A name as the metadata has it. Names are checked DNS labels, so that each is a header value.
pub fn value(name: &Name) -> HeaderValue {
    HeaderValue::from_str(name.as_str()).unwrap_or_else(|error| {
        tracing::error!(%name, %error, "a name is not fit for a header");
        HeaderValue::from_static("")
    })
}

/// What an origin gateway says about a request.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    /// Who shall deliver it, as [`value`] has it.
    pub cluster: &'a HeaderValue,
    /// The service, likewise.
    pub service: &'a HeaderValue,
    /// The service's port.
    pub port: u16,
    /// The version, where one was asked for.
    pub version: Option<&'a Name>,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Who called, where that is proven.
    pub source: Option<&'a HeaderValue>,
}

impl Metadata<'_> {
    /// Adds it to the headers of a request.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(CLUSTER, self.cluster.clone());
        headers.insert(SERVICE, self.service.clone());
        headers.insert(PORT, HeaderValue::from(self.port));
        if let Some(version) = self.version {
            headers.insert(VERSION, value(version));
        }
        let attempt = match self.attempt {
            1 => HeaderValue::from_static("1"),
            more => HeaderValue::from(more),
        };
        headers.insert(ATTEMPT, attempt);
        if let Some(source) = self.source {
            headers.insert(SOURCE, source.clone());
        }
    }
}

/// What a destination gateway reads, names as it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<N> {
    /// Who shall deliver it.
    pub cluster: N,
    /// The service.
    pub service: N,
    /// The service's port.
    pub port: u16,
    /// The version, where one was asked for.
    pub version: Option<Name>,
}

/// Reads it; `None` when a part is missing or malformed.
pub fn read(headers: &HeaderMap) -> Option<Received<&str>> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let name = |header| text(header).filter(|text| Name::fits(text));
    let version = match text(VERSION) {
        Some(version) => Some(version.parse().ok()?),
        None => None,
    };
    Some(Received { cluster: name(CLUSTER)?, service: name(SERVICE)?, port: text(PORT)?.parse().ok()?, version })
}

/// Who called, as the origin gateway says; what is no text can be nobody.
pub fn source(headers: &HeaderMap) -> Option<&str> {
    headers.get(SOURCE).map(|source| source.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let [south, cart, v1] = ["south", "cart", "v1"].map(|name| name.parse().unwrap());
        let mut headers = HeaderMap::new();
        let caller = HeaderValue::from_static("spiffe://shop.mesh/cluster/north/ns/shop/svc/web");
        let (cluster, service) = (value(&south), value(&cart));
        let metadata = Metadata {
            cluster: &cluster,
            service: &service,
            port: 8080,
            version: Some(&v1),
            attempt: 1,
            source: Some(&caller),
        };
        metadata.write(&mut headers);
        assert_eq!(source(&headers), caller.to_str().ok());
        let read = read(&headers).unwrap();
        assert_eq!((read.cluster, read.service, read.port, read.version), ("south", "cart", 8080, Some(v1)));
        headers.insert(PORT, HeaderValue::from_static("70000"));
        assert_eq!(super::read(&headers), None);
    }
}
