//! Client of init's socket (ARCHITECTURE.md, "init's socket"): one request a connection, an answer that ends with `ok` or is
//! `error` and the reason. Each call has a limit.

use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use twinpost_api::ServiceStatus;

/// Where init listens.
const SOCKET: &str = "/run/init.sock";
/// Longest answer: a line for each service.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// A stop waits for the service's own deadline, which is far below this.
const LIMIT: Duration = Duration::from_secs(15);

/// Why init did not do it.
#[derive(Debug, Error)]
pub enum InitError {
    /// The socket does not answer.
    #[error("init does not answer on {SOCKET}")]
    Silent(#[source] std::io::Error),
    /// No answer in time.
    #[error("init did not answer within {} s", LIMIT.as_secs())]
    TimedOut,
    /// Refused.
    #[error("init refused: {0}")]
    Refused(String),
}

/// Starts a service; returns when it was executed. Ok if it runs already.
///
/// # Errors
/// See [`InitError`]; the same for all functions here.
pub async fn start(service: &str) -> Result<String, InitError> {
    ask(&format!("start {service}")).await
}

/// Stops a service; returns when it has ended.
pub async fn stop(service: &str) -> Result<String, InitError> {
    ask(&format!("stop {service}")).await
}

/// Sends a signal to a service.
pub async fn signal(service: &str, number: u8) -> Result<String, InitError> {
    ask(&format!("signal {service} {number}")).await
}

/// Proves that the supervisor lives.
pub async fn alive() -> Result<String, InitError> {
    ask("alive").await
}

/// Marks this boot good.
pub async fn good() -> Result<String, InitError> {
    ask("good").await
}

/// Reboots in order.
pub async fn reboot() -> Result<String, InitError> {
    ask("reboot").await
}

/// Switches off in order.
pub async fn poweroff() -> Result<String, InitError> {
    ask("poweroff").await
}

/// All services.
pub async fn status() -> Result<Vec<ServiceStatus>, InitError> {
    Ok(ask("status").await?.lines().filter_map(service_line).collect())
}

async fn ask(request: &str) -> Result<String, InitError> {
    tokio::time::timeout(LIMIT, exchange(request))
        .await
        .map_err(|_| InitError::TimedOut)?
        .map_err(InitError::Silent)
        .and_then(read_answer)
}

async fn exchange(request: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(SOCKET).await?;
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

fn read_answer(answer: String) -> Result<String, InitError> {
    let last = answer.trim_end().lines().next_back().unwrap_or("");
    match last.split_once(' ').unwrap_or((last, "")) {
        ("ok", _) => Ok(answer),
        ("error", why) => Err(InitError::Refused(why.to_string())),
        _ => Err(InitError::Refused(format!("an answer that makes no sense: {last:?}"))),
    }
}

/// `name state pid restarts`.
fn service_line(line: &str) -> Option<ServiceStatus> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, state, pid, restarts] = words[..] else { return None };
    Some(ServiceStatus {
        name: name.to_string(),
        state: state.to_string(),
        pid: pid.parse().ok()?,
        restarts: restarts.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        assert!(read_answer("ok\n".into()).is_ok());
        assert!(read_answer("had running 7 0\nok\n".into()).is_ok());
        assert!(
            matches!(read_answer("error no such service\n".into()), Err(InitError::Refused(why)) if why == "no such service")
        );
        assert!(read_answer(String::new()).is_err());
        assert_eq!(service_line("had running 7 2").unwrap().restarts, 2);
        assert!(service_line("ok").is_none());
    }
}
