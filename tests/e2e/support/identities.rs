//! What gateways hold: taken from their disks, as a thief would.

use identity::Facts;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::demo::Demo;
use super::http::Client;

/// What a gateway holds on disk for a GNS: its certificates and its key, and the label that stands for its cluster.
pub struct Held {
    text: String,
}

impl Held {
    /// It, once it is there.
    pub fn of(demo: &Demo, gateway: &str, gns: &str) -> Option<Held> {
        let path = demo.state.join(gateway).join("identities").join(format!("{gns}.pem"));
        Some(Held { text: std::fs::read_to_string(path).ok()? })
    }

    /// The leaf and the issuing CA.
    pub fn chain(&self) -> String {
        self.blocks("CERTIFICATE").into_iter().take(2).collect()
    }

    /// The key, in PEM.
    pub fn key(&self) -> String {
        self.blocks("PRIVATE KEY").concat()
    }

    fn blocks(&self, kind: &str) -> Vec<String> {
        let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
        let inner = self.text.split(&begin).skip(1).map(|rest| rest.split(&end).next().unwrap());
        inner.map(|inner| format!("{begin}{inner}{end}\n")).collect()
    }

    /// What its own certificate says.
    pub fn leaf(&self) -> Facts {
        let leaf = CertificateDer::pem_slice_iter(self.text.as_bytes()).next().unwrap().unwrap();
        Facts::read(&leaf).unwrap()
    }

    /// The one DNS name in the leaf: what peers ask for, which says nothing about who is there.
    pub fn label(&self) -> String {
        self.leaf().dns_names.remove(0)
    }

    /// Who believes this gateway. The roots that a dialler would use are not on disk in PEM; its issuing CA stands for them.
    pub fn trusting(&self) -> Client {
        Client::trusting(&self.blocks("CERTIFICATE")[1])
    }
}
