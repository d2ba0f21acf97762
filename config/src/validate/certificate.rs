use crate::resource::{CertificateSpec, SecretRef};

use super::Faults;

const PATH: &str = "spec.certificate";
const BEGIN: &str = "-----BEGIN ";
const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const END_CERTIFICATE: &str = "-----END CERTIFICATE-----";
/// More than any chain needs, in bytes.
const MOST: usize = 64 * 1024;

/// Whether the text is certificates at all; whether they are good ones is for those who can verify signatures.
pub(super) fn check(spec: &CertificateSpec, faults: &mut Faults) {
    let text = &spec.certificate;
    if text.contains("PRIVATE KEY-----") {
        faults.add(PATH, "a private key stands here", "move it to spec.key, where it is kept secret");
    } else if text.len() > MOST {
        faults.add(PATH, format!("it is longer than {MOST} bytes"), "leave out what is not the host's chain");
    } else if let Some(why) = pem_fault(text) {
        let remedy = format!("paste the chain in PEM: lines from {BEGIN_CERTIFICATE} to {END_CERTIFICATE}");
        faults.add(PATH, why, remedy);
    }
    if let Some(SecretRef { key_sha256 }) = &spec.secret_ref
        && (key_sha256.len() != 64 || !key_sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    {
        let what = "this is not a SHA-256 in lower-case hexadecimal";
        faults.add("spec.secretRef.keySha256", what, "leave secretRef out, and write the key in spec.key");
    }
}

fn pem_fault(text: &str) -> Option<&'static str> {
    let count = |mark| text.matches(mark).count();
    let certificates = count(BEGIN_CERTIFICATE);
    if certificates == 0 {
        return Some("this is not a certificate in PEM");
    }
    if count(BEGIN) != certificates {
        return Some("something else than certificates stands here too");
    }
    let whole = |block: &str| block.split_once(END_CERTIFICATE).is_some_and(|(body, _)| base64_lines(body));
    (!text.split(BEGIN_CERTIFICATE).skip(1).all(whole)).then_some("a certificate is cut short or damaged")
}

fn base64_lines(body: &str) -> bool {
    let well = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=') || b.is_ascii_whitespace();
    !body.trim().is_empty() && body.bytes().all(well)
}
