//! Version 2: binary (section 2.2).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Addresses, Extra, Header, LONGEST, Malformed, checksum};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family, and the length of what follows.
const FIXED: usize = 16;

/// Version 2 in the upper half, the command in the lower.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The family in the upper half, the transport in the lower.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// `PP2_TYPE_CRC32C`: of the whole header, with zeros in its own place.
const CHECKSUM: u8 = 0x03;
/// `PP2_TYPE_NOOP`: padding.
const PADDING: u8 = 0x04;

pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some((fixed, _)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
    let &[.., command, family, high, low] = fixed;
    if ![LOCAL, PROXY].contains(&command) {
        return Err(Malformed::Command);
    }
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(Malformed::TooLong);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let rest = header.get(FIXED..).unwrap_or_default();
    let (addresses, rest) = addresses(family, rest)?;
    let extras = extras(header, rest)?;
    Ok(Some((Header { addresses: addresses.filter(|_| command == PROXY), extras }, length)))
}

fn addresses(family: u8, rest: &[u8]) -> Result<(Option<Addresses>, &[u8]), Malformed> {
    let read = match family {
        TCP4 => pair::<4>(rest),
        TCP6 => pair::<16>(rest),
        _ => return Ok((None, others(family, rest)?)),
    };
    let (addresses, rest) = read.ok_or(Malformed::Addresses)?;
    Ok((Some(addresses), rest))
}

/// Both addresses, then both ports.
fn pair<const N: usize>(bytes: &[u8]) -> Option<(Addresses, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (&[s1, s2, d1, d2], rest) = rest.split_first_chunk::<4>()?;
    let at = |ip: &[u8; N], port| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(port));
    Some((Addresses { source: at(source, [s1, s2]), destination: at(destination, [d1, d2]) }, rest))
}

/// What follows the addresses of a family that says nothing here: datagrams over IP, Unix sockets, none.
fn others(family: u8, rest: &[u8]) -> Result<&[u8], Malformed> {
    let length = match family >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(Malformed::Addresses),
    };
    if family & 0x0f > 2 {
        return Err(Malformed::Addresses);
    }
    rest.get(length..).ok_or(Malformed::Addresses)
}

fn extras(header: &[u8], mut rest: &[u8]) -> Result<Vec<Extra>, Malformed> {
    let mut extras = Vec::new();
    while let Some((&kind, after)) = rest.split_first() {
        let (&length, after) = after.split_first_chunk::<2>().ok_or(Malformed::Extras)?;
        let (value, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes(length))).ok_or(Malformed::Extras)?;
        match kind {
            CHECKSUM => verify(header, header.len() - after.len() - value.len(), value)?,
            PADDING => {}
            _ => extras.push(Extra { kind, value: value.to_vec() }),
        }
        rest = after;
    }
    Ok(extras)
}

/// Whether the checksum, which stands at that place, is that of the header.
fn verify(header: &[u8], at: usize, value: &[u8]) -> Result<(), Malformed> {
    let said = u32::from_be_bytes(value.try_into().map_err(|_| Malformed::Extras)?);
    let (before, after) = (header.get(..at), header.get(at + value.len()..));
    let parts = [before.unwrap_or_default(), &[0; 4], after.unwrap_or_default()];
    if checksum::crc32c(parts.into_iter().flatten()) == said { Ok(()) } else { Err(Malformed::Checksum) }
}

/// Writes a header. Addresses of two families are written as IPv6. An extra value that would make it longer than
/// [`LONGEST`] is left out.
pub fn write(header: &Header) -> Vec<u8> {
    let mut rest = Vec::new();
    let (command, family) = match header.addresses {
        None => (LOCAL, UNSPECIFIED),
        Some(between) => (PROXY, write_addresses(&between, &mut rest)),
    };
    for Extra { kind, value } in &header.extras {
        if let Ok(length) = u16::try_from(value.len())
            && FIXED + rest.len() + 3 + value.len() <= LONGEST
        {
            rest.push(*kind);
            rest.extend(length.to_be_bytes());
            rest.extend(value);
        }
    }
    let length = u16::try_from(rest.len()).unwrap_or_default();
    [SIGNATURE, &[command, family], &length.to_be_bytes(), &rest].concat()
}

fn write_addresses(Addresses { source, destination }: &Addresses, to: &mut Vec<u8>) -> u8 {
    let ports = [source.port(), destination.port()];
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            to.extend([source.octets(), destination.octets()].as_flattened());
            TCP4
        }
        (source, destination) => {
            to.extend([source, destination].map(|ip| wide(ip).octets()).as_flattened());
            TCP6
        }
    };
    to.extend(ports.map(u16::to_be_bytes).as_flattened());
    family
}

fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
