//! The messages of the SPIFFE Workload API's X.509 part, as protocol buffers (SPIFFE Workload API, section 5.1).
//!
//! Both answers consist of length-delimited fields alone, nested twice at the most, so they are written by hand: that
//! is less than what a library for it would bring, and the key passes through buffers that are wiped.

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::local::workloads::keeper::Svid;

/// A field's wire type: length-delimited (Protocol Buffers encoding, "Message structure").
const LENGTH_DELIMITED: u8 = 2;
/// Room for one field's tag and length.
const OVERHEAD: usize = 11;

/// Field numbers of `X509SVIDResponse`.
const SVIDS: u8 = 1;
const FEDERATED_BUNDLES: u8 = 3;
/// A field number of `X509BundlesResponse`.
const BUNDLES: u8 = 2;

/// Roots in DER, by trust domain.
type Bundles<'s> = BTreeMap<&'s str, Vec<u8>>;

/// `X509SVIDResponse`: the identities of one caller, and whom else it believes, by trust domain.
pub(super) fn svids<'s>(svids: impl Iterator<Item = &'s Svid> + Clone) -> Zeroizing<Vec<u8>> {
    let own = own_bundles(svids.clone());
    let messages: Vec<_> = svids.clone().map(svid).collect();
    let foreign = federated(svids).filter(|(domain, _)| !own.contains_key(domain)).collect();
    let entries = bundle_entries(&foreign);
    let mut response = message(messages.iter().chain(&entries).map(|message| message.len()));
    messages.iter().for_each(|message| field(&mut response, SVIDS, message));
    entries.iter().for_each(|entry| field(&mut response, FEDERATED_BUNDLES, entry));
    response
}

/// `X509BundlesResponse`: whom a caller believes, by trust domain.
pub(super) fn bundles<'s>(svids: impl Iterator<Item = &'s Svid> + Clone) -> Zeroizing<Vec<u8>> {
    let mut bundles: Bundles<'_> = federated(svids.clone()).collect();
    bundles.extend(own_bundles(svids));
    let entries = bundle_entries(&bundles);
    let mut response = message(entries.iter().map(|entry| entry.len()));
    entries.iter().for_each(|entry| field(&mut response, BUNDLES, entry));
    response
}

fn own_bundles<'s>(svids: impl Iterator<Item = &'s Svid>) -> Bundles<'s> {
    svids.map(|svid| (svid.id.trust_domain().as_str(), concatenated(&svid.believed.bundle))).collect()
}

fn federated<'s>(svids: impl Iterator<Item = &'s Svid>) -> impl Iterator<Item = (&'s str, Vec<u8>)> {
    let all = svids.flat_map(|svid| &svid.believed.federated);
    all.map(|(domain, roots)| (domain.as_str(), concatenated(roots)))
}

fn bundle_entries(bundles: &Bundles<'_>) -> Vec<Zeroizing<Vec<u8>>> {
    bundles.iter().map(|(domain, roots)| bundle_entry(&format!("spiffe://{domain}"), roots)).collect()
}

/// `X509SVID`.
fn svid(svid: &Svid) -> Zeroizing<Vec<u8>> {
    let (id, key) = (svid.id.to_string(), svid.key.to_pkcs8());
    let (chain, bundle) = (concatenated(&svid.chain), concatenated(&svid.believed.bundle));
    let fields = [id.as_bytes(), &chain, &key, &bundle];
    let mut message = message(fields.iter().map(|field| field.len()));
    (1..).zip(fields).for_each(|(number, bytes)| field(&mut message, number, bytes));
    message
}

/// An entry of the map from trust domain to roots: a map is a repeated message of key and value.
fn bundle_entry(domain: &str, roots: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut entry = message([domain.len(), roots.len()].into_iter());
    field(&mut entry, 1, domain.as_bytes());
    field(&mut entry, 2, roots);
    entry
}

/// Certificates in DER, one after another.
fn concatenated(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect()
}

/// An empty message with room for fields of these lengths: a buffer that grows leaves copies of a key behind.
fn message(lengths: impl Iterator<Item = usize>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(lengths.map(|length| length + OVERHEAD).sum()))
}

/// Adds a field. Numbers up to 15 have tags of one byte; ours are up to 4.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | LENGTH_DELIMITED);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_field_is_written_as_the_encoding_says() {
        let mut message = Vec::new();
        field(&mut message, 1, b"ab");
        field(&mut message, 4, &[7; 300]);
        assert_eq!(message[..7], [0x0a, 2, b'a', b'b', 0x22, 0xac, 0x02]);
        assert_eq!(message.len(), 7 + 300);
    }
}
