//! A web page beside the next hop: answers every request over TLS (RFC 9112, RFC 8446), well while the next hop accepts mail and with `503`
//! while it refuses. Shows that the units' check of a web service speaks TLS on the real image. One request a connection.

use super::ledger::Ledger;
use crate::clock::Micros;
use crate::host::{Application, Connection, Net, serve_each};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection};

/// HTTPS.
const PORT: u16 = 443;
/// Connections served at once: two units ask, one connection each.
const CONNECTIONS: usize = 4;
/// A client that says nothing for this long is dropped.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest request, bytes.
const REQUEST_BYTES_MAX: usize = 4096;
const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const UNWELL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// Certificate and key that open nothing: the odd ones that the check's own tests use.
const ODD: &[u8] = include_bytes!("../../../../firmware/had/tests/vectors/expired-v1.pem");

/// The application.
pub struct WebPage {
    ledger: Ledger,
    config: Arc<ServerConfig>,
    desks: Vec<Desk>,
}

struct Desk {
    connection: Connection,
    tls: ServerConnection,
    request: Vec<u8>,
    answered: bool,
    heard: Micros,
}

impl WebPage {
    /// A page that is well while the next hop of `ledger` accepts.
    ///
    /// # Errors
    /// rustls does not take the certificate of the tests.
    pub fn new(ledger: Ledger) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let unreadable = |_| rustls::Error::General("the certificate of the tests is unreadable".to_owned());
        let chain = vec![CertificateDer::from_pem_slice(ODD).map_err(unreadable)?];
        let key = PrivateKeyDer::from_pem_slice(ODD).map_err(unreadable)?;
        let certified = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        Ok(Self { ledger, config: Arc::new(config), desks: Vec::new() })
    }
}

impl Application for WebPage {
    fn poll(&mut self, now: Micros, net: &mut Net<'_>) {
        while self.desks.len() < CONNECTIONS {
            // Fails only for a configuration without cipher suites.
            let Ok(tls) = ServerConnection::new(Arc::clone(&self.config)) else { return };
            let connection = Connection::listen(net, PORT);
            self.desks.push(Desk { connection, tls, request: Vec::new(), answered: false, heard: now });
        }
        let ledger = &self.ledger;
        serve_each(&mut self.desks, net, |desk, net| desk.serve(now, net, ledger), |desk| desk.connection);
    }
}

impl Desk {
    /// Serves what is there; false when the connection has ended.
    fn serve(&mut self, now: Micros, net: &mut Net<'_>, ledger: &Ledger) -> bool {
        self.connection.pump(net);
        if !self.connection.is_established(net) && !self.connection.has_ended(net) {
            self.heard = now;
        }
        let well = self.talk(now, if ledger.next_hop_refuses() { UNWELL } else { WELL }).is_ok();
        self.connection.pump(net);
        if (self.answered || !well) && self.connection.unsent() == 0 {
            self.connection.close(net);
        }
        !(self.connection.has_ended(net) && self.connection.unsent() == 0)
            && now.since(self.heard) < SILENCE_MAX
    }

    /// Takes what came and answers a request that is whole.
    fn talk(&mut self, now: Micros, answer: &[u8]) -> io::Result<()> {
        let came = std::mem::take(self.connection.inbox());
        let mut left = came.as_slice();
        while !left.is_empty() {
            self.heard = now;
            self.tls.read_tls(&mut left)?;
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            io::Read::read_exact(&mut self.tls.reader(), &mut plain)?;
            self.request.append(&mut plain);
        }
        if self.request.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !self.answered && self.request.windows(4).any(|end| end == b"\r\n\r\n") {
            self.answered = true;
            io::Write::write_all(&mut self.tls.writer(), answer)?;
            self.tls.send_close_notify();
        }
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out)?;
        }
        self.connection.say(&out);
        Ok(())
    }
}
