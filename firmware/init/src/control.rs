//! The protocol of `/run/init.sock` (ARCHITECTURE.md "init's socket"): one line in, some lines out. Pure; connections are
//! `socket.rs`.

use crate::service;

/// Longest request, bytes.
pub const LINE_BYTES_MAX: usize = 128;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start a service.
    Start(usize),
    /// Stop a service; answered when none of its processes is left.
    Stop(usize),
    /// Signal the main process of a service.
    Signal(usize, i32),
    /// One line a service.
    Status,
    /// Proof of life.
    Alive,
    /// The boot proved good.
    Good,
    /// Orderly restart.
    Reboot,
    /// Orderly power-off.
    PowerOff,
}

/// Parses a line without its newline.
///
/// # Errors
/// The sentence to answer: what was wrong and what is allowed.
pub fn parse(line: &str) -> Result<Request, String> {
    let mut words = line.split_ascii_whitespace();
    let verb = words.next().unwrap_or("");
    let mut name = || {
        let name = words.next().unwrap_or("");
        service::index(name).ok_or_else(|| {
            let known: Vec<&str> = service::TABLE.iter().map(|service| service.name).collect();
            format!("no service {name:?}; there are {}", known.join(", "))
        })
    };
    let request = match verb {
        "start" => Request::Start(name()?),
        "stop" => Request::Stop(name()?),
        "signal" => {
            let index = name()?;
            let number = words.next().and_then(|word| word.parse().ok()).filter(|n| (1..=31).contains(n));
            Request::Signal(index, number.ok_or("a signal number is 1 to 31")?)
        }
        "status" => Request::Status,
        "alive" => Request::Alive,
        "good" => Request::Good,
        "reboot" => Request::Reboot,
        "poweroff" => Request::PowerOff,
        _ => return Err("commands: start, stop, signal, status, alive, good, reboot, poweroff".into()),
    };
    match words.next() {
        Some(word) => Err(format!("{word:?} is too much after {verb}")),
        None => Ok(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(parse("start postfix"), Ok(Request::Start(3)));
        assert_eq!(parse(" stop  dovecot "), Ok(Request::Stop(4)));
        assert_eq!(parse("signal had 9"), Ok(Request::Signal(0, 9)));
        assert_eq!(parse("poweroff"), Ok(Request::PowerOff));
        for bad in
            ["", "start", "start sshd", "signal had", "signal had 0", "signal had 32", "status now", "halt"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
