//! Whose account of the way is believed: the nearest hop is always the peer, and nothing of a claim is left.

use std::net::{IpAddr, Ipv4Addr};

use decide::forwarded::{Peer, Seen, restate};
use http::{HeaderMap, HeaderValue};

/// A line each: an X-Forwarded-For, a Forwarded, an X-Forwarded-Host.
pub fn check(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let names = ["x-forwarded-for", "forwarded", "x-forwarded-host"];
    for (name, line) in names.iter().zip(bytes.split(|byte| *byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.insert(*name, value);
        }
    }
    let peer = IpAddr::from(Ipv4Addr::new(10, 0, 0, 9));
    let own = HeaderValue::from_static("shop");
    let seen = Seen { peer: &Peer::new(peer), is_https: true, authority: &own };
    let client = restate(&mut headers, &seen, |ip| ip.is_ipv4());
    let way = headers["x-forwarded-for"].to_str().expect("addresses");
    let hops: Vec<IpAddr> = way.split(", ").map(|hop| hop.parse().expect("an address")).collect();
    assert_eq!((hops.first(), hops.last()), (Some(&client), Some(&peer)));
    assert_eq!(headers.len(), 3);
}
