//! A handshake in memory, and what each side saw of it.

use std::io;
use std::sync::Arc;

use identity::{Refusal, SpiffeId, peer_identity};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) struct Outcome {
    /// The client's handshake; then whom it found.
    pub(crate) client: io::Result<SpiffeId>,
    /// The client's first read, if its handshake went well.
    pub(crate) read: Option<io::Result<u8>>,
    /// The server's handshake; then whom it found, if anyone showed a certificate.
    pub(crate) server: io::Result<Option<SpiffeId>>,
}

pub(crate) async fn shake(client: ClientConfig, name: &str, server: ServerConfig) -> Outcome {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let dial = async {
        match TlsConnector::from(Arc::new(client)).connect(name, near).await {
            Ok(mut stream) => {
                let peer = peer_identity(stream.get_ref().1.peer_certificates().unwrap()).unwrap();
                (Ok(peer), Some(stream.read_u8().await))
            }
            Err(error) => (Err(error), None),
        }
    };
    let accept = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        let peer = stream.get_ref().1.peer_certificates().map(|chain| peer_identity(chain).unwrap());
        stream.write_u8(42).await?;
        stream.shutdown().await?;
        Ok(peer)
    };
    let ((client, read), server) = tokio::join!(dial, accept);
    Outcome { client, read, server }
}

impl Outcome {
    /// Both sides are content: whom the client found, whom the server found.
    #[track_caller]
    pub(crate) fn accepted(self) -> (SpiffeId, Option<SpiffeId>) {
        let server = self.server.expect("the server refused");
        let client = self.client.expect("the client refused");
        assert_eq!(self.read.unwrap().expect("the client was cut off"), 42);
        (client, server)
    }

    /// The server refused the client for this reason. The client's handshake is over by then: it learns of it by an
    /// alert on its first read.
    #[track_caller]
    pub(crate) fn client_refused(&self, case: &str, code: &str) {
        let error = self.server.as_ref().expect_err(case);
        assert_eq!(Refusal::in_handshake(error).map(Refusal::code), Some(code), "{case}: {error}");
        assert!(self.client.is_ok(), "{case}: in TLS 1.3 the client is done before it is refused");
        let read = self.read.as_ref().unwrap().as_ref().expect_err(case);
        assert!(is_alert(read), "{case}: {read}");
    }

    /// The client refused the server for this reason, and the server got an alert.
    #[track_caller]
    pub(crate) fn server_refused(&self, case: &str, code: &str) {
        let error = self.client.as_ref().expect_err(case);
        assert_eq!(Refusal::in_handshake(error).map(Refusal::code), Some(code), "{case}: {error}");
        let alert = self.server.as_ref().expect_err(case);
        assert!(is_alert(alert), "{case}: {alert}");
    }
}

pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn is_alert(error: &io::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::AlertReceived(_)))
}
