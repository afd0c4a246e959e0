//! One check of a service over TCP, inside of TLS if it is so set: connects, lets `twinpost_check` talk, gives up at the limit. Judges
//! nothing itself.

use super::Ended;
use super::tls::Tls;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use twinpost_check::{Dialogue, Input, Outcome, Protocol, Rules, Run, Subject, Verdict};
use twinpost_config::{Config, RemoteKind};
use twinpost_ha::Check;

/// Bytes read at once; answers are a few hundred.
const READ_BYTES: usize = 2048;

/// A service of the peer.
#[derive(Clone)]
pub(super) struct Remote {
    kind: RemoteKind,
    address: SocketAddr,
    tls: Option<Tls>,
    rules: Rules,
    subject: Subject,
}

/// The enabled services of the peer.
pub(super) fn all(config: &Config) -> Vec<Remote> {
    let enabled = config.ha().services.enabled();
    enabled
        .map(|(kind, service)| {
            let host = match kind {
                RemoteKind::Http => service.ip.to_string(),
                _ => config.host_name().to_string(),
            };
            Remote {
                kind,
                address: SocketAddr::V4(SocketAddrV4::new(service.ip, service.port)),
                tls: service.tls.then(Tls::new),
                rules: Rules {
                    interval: Duration::from_secs(service.interval_s.into()),
                    limit: Duration::from_secs(service.timeout_s.into()),
                    retries: service.retries,
                },
                subject: Subject::new(&host, ""),
            }
        })
        .collect()
}

impl Remote {
    /// Its name for the decisions.
    pub fn check(&self) -> Check {
        match self.kind {
            RemoteKind::Smtp => Check::RemoteSmtp,
            RemoteKind::Imap => Check::RemoteImap,
            RemoteKind::Pop => Check::RemotePop,
            RemoteKind::Http => Check::RemoteHttp,
        }
    }

    /// Its settings.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Runs it once.
    pub async fn run(&self, limit: Duration) -> Ended {
        let protocol = match self.kind {
            RemoteKind::Smtp => Protocol::Smtp,
            RemoteKind::Imap => Protocol::Imap,
            RemoteKind::Pop => Protocol::Pop3,
            RemoteKind::Http => Protocol::Http,
        };
        let verdict = talk(self.address, self.tls.as_ref(), protocol, self.subject.clone(), limit).await;
        let run = if verdict.outcome == Outcome::Passed { Run::Passed } else { Run::Failed };
        let how = if self.tls.is_some() { " over TLS" } else { "" };
        Ended { run, words: format!("{}{how}: {}", self.address, verdict.words) }
    }
}

/// Talks with a service until the verdict or the limit.
pub(super) async fn talk(
    address: SocketAddr,
    tls: Option<&Tls>,
    protocol: Protocol,
    subject: Subject,
    limit: Duration,
) -> Verdict {
    let until = tokio::time::Instant::now() + limit;
    let failed = |what: &str, why: std::fmt::Arguments<'_>| {
        Verdict::new(Outcome::Failed, format_args!("{}: no {what} {why}", protocol.name()))
    };
    let late = format!("within {} s", limit.as_secs_f32());
    let mut stream = match timeout_at(until, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed("connection", format_args!("({error})")),
        Err(_) => return failed("connection", format_args!("{late}")),
    };
    let mut talk = Dialogue::new(protocol, subject);
    let carried = match tls {
        None => timeout_at(until, converse(&mut stream, &mut talk)).await,
        Some(tls) => match timeout_at(until, tls.open(address.ip(), stream)).await {
            Ok(Ok(mut stream)) => timeout_at(until, converse(&mut stream, &mut talk)).await,
            Ok(Err(error)) => return failed("TLS handshake", format_args!("({error})")),
            Err(_) => return failed("TLS handshake", format_args!("{late}")),
        },
    };
    if carried.is_err() {
        talk.handle(Input::Late);
    }
    // A talk that ended without its own verdict was closed.
    talk.handle(Input::Closed);
    talk.verdict().cloned().unwrap_or_else(|| failed("verdict", format_args!("at its end")))
}

/// Carries bytes until the verdict, or until the connection ends.
async fn converse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), talk: &mut Dialogue) {
    let mut bytes = [0; READ_BYTES];
    while talk.verdict().is_none() {
        let send = talk.output();
        // TLS keeps what it is given until it is told to send.
        if stream.write_all(&send).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(n) => talk.handle(Input::Bytes(&bytes[..n])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const ASK: Duration = Duration::from_secs(5);

    async fn service(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (n, answer) in answers.iter().enumerate() {
                if n > 0 && stream.read(&mut [0; 512]).await.unwrap_or(0) == 0 {
                    return;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            if answers.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        address
    }

    async fn check(answers: &'static [&'static str]) -> (Outcome, String) {
        let address = service(answers).await;
        let limit = Duration::from_millis(500);
        let verdict = talk(address, None, Protocol::Smtp, Subject::new("a", ""), limit).await;
        (verdict.outcome, verdict.words.to_string())
    }

    fn wait<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("an event loop for the test").block_on(work)
    }

    #[test]
    fn a_service_that_answers_passes_and_a_silent_one_fails_in_time() {
        wait(async {
            let well = check(&["220 x ESMTP\r\n", "250-x\r\n250 y\r\n", "250 ok\r\n", "221 bye\r\n"]).await;
            assert_eq!(well, (Outcome::Passed, "SMTP answers: 220 x ESMTP".to_string()));
            let silent = check(&[]).await;
            assert_eq!(silent, (Outcome::Failed, "SMTP banner: no answer within the limit".to_string()));
            let closed = check(&["220 x\r\n"]).await;
            assert_eq!(closed, (Outcome::Failed, "SMTP EHLO: the connection was closed".to_string()));
        });
    }

    #[test]
    fn one_answering_service_is_a_sign_of_life() {
        wait(async {
            let remote = |kind, address| Remote {
                kind,
                address,
                tls: None,
                rules: Rules { interval: ASK, limit: ASK, retries: 1 },
                subject: Subject::default(),
            };
            let well = service(&["+OK\r\n", "+OK\r\n.\r\n", "+OK\r\n"]).await;
            let other = service(&["+OK\r\n"]).await;
            let ask =
                async |remotes| super::super::Board { remotes, ..Default::default() }.ask_remote().await;
            assert!(ask(vec![remote(RemoteKind::Smtp, other), remote(RemoteKind::Pop, well)]).await);
            let other = service(&["+OK\r\n"]).await;
            assert!(!ask(vec![remote(RemoteKind::Smtp, other)]).await);
            assert!(!ask(Vec::new()).await);
        });
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        wait(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let verdict =
                talk(address, None, Protocol::Http, Subject::default(), Duration::from_secs(5)).await;
            assert!(verdict.words.contains("no connection (Connection refused"), "{}", verdict.words);
        });
    }
}
