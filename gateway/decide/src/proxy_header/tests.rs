#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn between(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

fn said(bytes: &[u8]) -> Option<Addresses> {
    let (header, length) = read(bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    header.addresses
}

#[test]
fn lines_of_version_1_are_read() {
    let four = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
    assert_eq!(said(four), between("192.0.2.1:56324", "192.0.2.2:443"));
    let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n";
    assert_eq!(said(six), between("[2001:db8::1]:56324", "[2001:db8::2]:443"));
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"] {
        assert_eq!(said(unknown.as_bytes()), None);
    }
    let (_, length) = read(&[four, &b"GET / HTTP/1.1\r\n"[..]].concat()).unwrap().unwrap();
    assert_eq!(length, four.len());
}

#[test]
fn what_only_looks_like_version_1_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 443\r\n",
        "PROXY TCP4 ::1 ::1 1 443\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 443\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 443\r\n",
    ] {
        assert!(read(line.as_bytes()).is_err(), "{line:?}");
    }
    assert_eq!(read(format!("PROXY TCP4 {}", "1".repeat(200)).as_bytes()), Err(Malformed::TooLong));
    assert_eq!(read(b"PROXX"), Err(Malformed::Absent), "nobody waits for the rest");
}

/// A header of version 2: command, family, and what follows.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, family], &length, rest].concat()
}

#[test]
fn what_version_2_leaves_open_leaves_the_sockets_addresses() {
    let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
    assert_eq!(said(&binary(0x21, 0x11, &four)), between("192.0.2.1:56324", "192.0.2.2:443"));
    for (command, family, rest) in [(0x20, 0x11, &four[..]), (0x20, 0, &[]), (0x21, 0, &[]), (0x21, 0x31, &[0; 216])] {
        assert_eq!(said(&binary(command, family, rest)), None);
    }
}

#[test]
fn malformed_headers_of_version_2_are_refused() {
    let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
    let with = |extra: &[u8]| [&four[..], extra].concat();
    for (command, family, rest, expected) in [
        (0x11, 0x11, four.to_vec(), Malformed::Command),
        (0x22, 0x11, four.to_vec(), Malformed::Command),
        (0x21, 0x11, four[..11].to_vec(), Malformed::Addresses),
        (0x21, 0x21, four.to_vec(), Malformed::Addresses),
        (0x21, 0x41, four.to_vec(), Malformed::Addresses),
        (0x21, 0x13, four.to_vec(), Malformed::Addresses),
        (0x21, 0x11, with(&[1]), Malformed::Extras),
        (0x21, 0x11, with(&[1, 0, 2, 0]), Malformed::Extras),
        (0x21, 0x11, with(&[3, 0, 2, 0, 0]), Malformed::Extras),
        (0x21, 0x11, with(&[3, 0, 4, 1, 2, 3, 4]), Malformed::Checksum),
        (0x21, 0, vec![0; LONGEST], Malformed::TooLong),
    ] {
        assert_eq!(read(&binary(command, family, &rest)), Err(expected), "{command:x} {family:x}");
    }
}

#[test]
fn a_checksum_is_verified() {
    // RFC 3720 appendix B.4.
    assert_eq!(checksum::crc32c([0; 32].iter()), 0x8a91_36aa);
    let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
    let mut header = binary(0x21, 0x11, &[&four[..], &[3, 0, 4, 0, 0, 0, 0], &[0xe1, 0, 1, b'x']].concat());
    let sum = checksum::crc32c(header.iter());
    header[31..35].copy_from_slice(&sum.to_be_bytes());
    let (read_back, _) = read(&header).unwrap().unwrap();
    assert_eq!(read_back.extras, [Extra { kind: 0xe1, value: b"x".to_vec() }]);
    header[16] ^= 1;
    assert_eq!(read(&header), Err(Malformed::Checksum));
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| IpAddr::V4(Ipv4Addr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| IpAddr::V6(Ipv6Addr::from(ip))),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn header() -> impl Strategy<Value = Header> {
    let addresses = (address(), address()).prop_map(|(source, destination)| Addresses { source, destination });
    let extra = (0xe0..=0xef_u8, prop::collection::vec(any::<u8>(), 0..80));
    let extras = prop::collection::vec(extra.prop_map(|(kind, value)| Extra { kind, value }), 0..6);
    (prop::option::of(addresses), extras).prop_map(|(addresses, extras)| Header { addresses, extras })
}

fn canonical(header: &Header) -> Header {
    let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let addresses = header
        .addresses
        .map(|Addresses { source, destination }| Addresses { source: plain(source), destination: plain(destination) });
    Header { addresses, extras: header.extras.clone() }
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_wherever_it_is_cut_the_rest_is_waited_for(
        header in header(),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let written = write(&header);
        let whole = [&written[..], &payload].concat();
        let (back, length) = read(&whole).unwrap().unwrap();
        prop_assert_eq!(canonical(&back), canonical(&header));
        prop_assert_eq!(length, written.len());
        for cut in 0..written.len() {
            prop_assert_eq!(read(&written[..cut]).unwrap(), None);
        }
    }

    #[test]
    fn lines_are_waited_for_wherever_they_are_cut(source in address(), port in any::<u16>()) {
        let (family, destination) = match source.ip() {
            IpAddr::V4(_) => ("TCP4", "192.0.2.2"),
            IpAddr::V6(_) => ("TCP6", "2001:db8::2"),
        };
        let line = format!("PROXY {family} {} {destination} {} {port}\r\n", source.ip(), source.port());
        prop_assert_eq!(said(line.as_bytes()).unwrap().source, source);
        for cut in 0..line.len() {
            prop_assert_eq!(read(&line.as_bytes()[..cut]).unwrap(), None);
        }
    }

    #[test]
    fn nothing_panics_and_no_header_is_longer_than_what_was_read(
        start in prop_oneof![Just(v2::SIGNATURE), Just(v1::SIGNATURE), Just(&b""[..])],
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, &rest].concat();
        if let Ok(Some((_, length))) = read(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}
