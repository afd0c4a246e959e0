//! TLS below the check of a web service (HTTPS, RFC 9110 section 4.2.2). It asks whether the service lives, not who it is: an appliance's
//! certificate is often its own, made out to another name or long expired, and none of that is a reason to move a role. So no
//! certificate is judged, and nothing secret is sent. The protocol inside is `twinpost_check`'s, TLS itself is rustls's.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_rustls::{TlsConnector, rustls};

/// What all runs of a check share.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// TLS 1.2 and 1.3. Each run makes a full handshake: a resumed session would say less about the service.
    pub fn new() -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .expect("the provider has cipher suites of both versions, as the tests show");
        let any = Arc::new(AnyCertificate(provider));
        let mut config = versions.dangerous().with_custom_certificate_verifier(any).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// The handshake.
    ///
    /// # Errors
    /// As the connection and rustls say; a peer that speaks no TLS is [`io::ErrorKind::InvalidData`].
    pub async fn open(&self, ip: IpAddr, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.connect(ServerName::from(ip), stream).await
    }
}

/// Takes every certificate, readable or not, see above. Signatures with a key that anybody may have made prove nothing either.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::remote::talk;
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
    use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, version};
    use twinpost_check::{Outcome, Protocol, Subject};

    const LIMIT: Duration = Duration::from_millis(1500);
    const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// Certificate and key of a server: signed by itself, made out to another name, expired in 1999, and X.509 version 1, which rustls
    /// itself does not even read. The key opens nothing.
    const ODD: &[u8] = include_bytes!("../../tests/vectors/expired-v1.pem");

    fn server(version: &'static SupportedProtocolVersion) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(ODD).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(ODD).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let config =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(certified))))
    }

    /// Listens, does `serve` with the first connection, and tells what the check says.
    async fn check<S: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(TcpStream) -> S + Send + 'static,
    ) -> (Outcome, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
        let subject = Subject::new("127.0.0.1", "");
        let verdict = talk(address, Some(&Tls::new()), Protocol::Http, subject, LIMIT).await;
        (verdict.outcome, verdict.words.to_string())
    }

    /// Answers the request inside of TLS with `answer`, or never if it is empty.
    async fn answered(version: &'static SupportedProtocolVersion, answer: &'static str) -> (Outcome, String) {
        check(move |stream| async move {
            let mut stream = server(version).accept(stream).await.unwrap();
            let mut request = [0; 512];
            let n = stream.read(&mut request).await.unwrap();
            assert!(request[..n].starts_with(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"));
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        })
        .await
    }

    fn wait<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("an event loop for the test").block_on(work)
    }

    #[test]
    fn a_web_service_passes_whatever_its_certificate() {
        wait(async {
            for version in [&version::TLS13, &version::TLS12] {
                let passed = (Outcome::Passed, "HTTP answers: HTTP/1.1 200 OK".to_string());
                assert_eq!(answered(version, WELL).await, passed);
            }
        });
    }

    #[test]
    fn what_the_service_says_inside_counts() {
        wait(async {
            let (outcome, words) = answered(&version::TLS13, "HTTP/1.1 503 Down\r\n\r\n").await;
            assert_eq!(
                (outcome, words.as_str()),
                (Outcome::Failed, "HTTP status line: answered \"HTTP/1.1 503 Down\"")
            );
            let (outcome, words) = answered(&version::TLS13, "").await;
            assert_eq!(
                (outcome, words.as_str()),
                (Outcome::Failed, "HTTP status line: no answer within the limit")
            );
        });
    }

    #[test]
    fn a_handshake_that_hangs_closes_or_is_none_has_failed() {
        wait(async {
            let (outcome, words) = check(|stream| async move {
                let _open = stream;
                std::future::pending::<()>().await;
            })
            .await;
            assert_eq!((outcome, words.as_str()), (Outcome::Failed, "HTTP: no TLS handshake within 1.5 s"));
            let (outcome, words) = check(|mut stream| async move {
                // Taken whole, so that the end is no reset.
                let _ = stream.read(&mut [0; 4096]).await;
            })
            .await;
            assert_eq!(outcome, Outcome::Failed);
            assert!(words.starts_with("HTTP: no TLS handshake (") && words.contains("eof"), "{words}");
            let (outcome, words) = check(|mut stream| async move {
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                std::future::pending::<()>().await;
            })
            .await;
            assert_eq!(outcome, Outcome::Failed);
            assert!(words.starts_with("HTTP: no TLS handshake (received corrupt message"), "{words}");
        });
    }
}
