//! The client: one ICMP echo a millisecond to the virtual IP, answered by the kernel that holds it. Its own neighbour table must
//! learn the new owner from the announcement, as every client's must: that is part of the outage. Echoes carry the time at which
//! they were sent; an outage is the time between two echoes that were answered one after the other.
//!
//! Input lines: `reset` forgets, `report` prints a [`Report`] as JSON.

use crate::enclose::told;
use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketFlags, SocketType, ipproto};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::time::Duration;
use twinpost_net::rt;
use twinpost_types::Instant;

/// Between echoes.
const EVERY: Duration = Duration::from_millis(1);
/// Length of the IPv4 header of an answer, without options (a raw socket shows it).
const IP_BYTES: usize = 20;
/// ICMP header and the time at which it was sent.
const ECHO_BYTES: usize = 16;
/// RFC 792.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// What the client saw since the last `reset`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Echoes sent.
    pub sent: u64,
    /// Echoes answered.
    pub answered: u64,
    /// When the last answered echo was sent, µs since boot.
    pub last_us: u64,
    /// Longest time between two answered echoes, µs.
    pub gap_us: u64,
    /// When the first answered echo after that gap was sent.
    pub gap_end_us: u64,
    /// The client's own worst lateness, µs: what is below cannot be told apart.
    pub late_us: u64,
}

/// Sends until the end of its input.
pub fn probe() -> anyhow::Result<ExitCode> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::ICMP))
        .context("cannot open an ICMP socket; run as root")?;
    // A client that is late measures itself.
    rt::become_realtime(rt::Priority::Lease).context("the client cannot run in real time")?;
    let timer = rt::Timer::new().context("no timer")?;
    let input = std::io::stdin();
    let mut client = Client { socket, report: Report::default(), id: rt::random_u64().to_be_bytes() };
    let mut next = rt::now();
    println!("probing");
    loop {
        timer.arm(next);
        let mut fds = [
            PollFd::new(&client.socket, PollFlags::IN),
            PollFd::new(&timer, PollFlags::IN),
            PollFd::new(&input, PollFlags::IN),
        ];
        let _interrupted = poll(&mut fds, None);
        let asked = !fds[2].revents().is_empty();
        client.receive();
        let now = rt::now();
        if now >= next {
            client.report.late_us = client.report.late_us.max(micros(now.since(next)));
            client.send(now);
            next = if now.since(next) < EVERY { next + EVERY } else { now + EVERY };
        }
        if asked && !client.obey()? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

struct Client {
    socket: OwnedFd,
    report: Report,
    id: [u8; 8],
}

impl Client {
    fn send(&mut self, now: Instant) {
        let mut echo = [0; ECHO_BYTES];
        echo[0] = ECHO_REQUEST;
        echo[4..6].copy_from_slice(&self.id[..2]);
        echo[8..].copy_from_slice(&now.0.to_be_bytes());
        let sum = checksum(&echo);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        let to = SocketAddrV4::new(crate::scripts::VIP, 0);
        // No route to it is an echo that nobody answers.
        let _ = rustix::net::sendto(&self.socket, &echo, SendFlags::empty(), &to);
        self.report.sent += 1;
    }

    fn receive(&mut self) {
        let mut packet = [0; 256];
        while let Ok((length, _)) = rustix::net::recv(&self.socket, &mut packet, RecvFlags::empty()) {
            let Some(echo) = packet.get(IP_BYTES..length.min(IP_BYTES + ECHO_BYTES)) else { continue };
            if let Some(sent) = answer(echo, self.id) {
                self.answered(sent);
            }
        }
    }

    fn answered(&mut self, sent_us: u64) {
        let report = &mut self.report;
        let gap = sent_us.saturating_sub(report.last_us);
        if report.answered > 0 && gap > report.gap_us {
            report.gap_us = gap;
            report.gap_end_us = sent_us;
        }
        report.answered += 1;
        report.last_us = report.last_us.max(sent_us);
    }

    fn obey(&mut self) -> anyhow::Result<bool> {
        let Some(lines) = told()? else { return Ok(false) };
        for line in lines {
            match line.as_str() {
                "reset" => self.report = Report::default(),
                _ => println!("report {}", serde_json::to_string(&self.report)?),
            }
        }
        Ok(true)
    }
}

/// When the echo that this answers was sent.
fn answer(echo: &[u8], id: [u8; 8]) -> Option<u64> {
    let time: [u8; 8] = echo.get(8..ECHO_BYTES)?.try_into().ok()?;
    (echo[0] == ECHO_REPLY && echo[4..6] == id[..2]).then_some(u64::from_be_bytes(time))
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_its_own_answer_but_for_the_type() {
        let mut echo = [0; ECHO_BYTES];
        echo[4..6].copy_from_slice(&[1, 2]);
        echo[8..].copy_from_slice(&77_u64.to_be_bytes());
        assert_eq!(answer(&echo, [1, 2, 0, 0, 0, 0, 0, 0]), Some(77));
        assert_eq!(answer(&echo, [1, 3, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(answer(&echo[..15], [1, 2, 0, 0, 0, 0, 0, 0]), None);
        let sum = checksum(&echo);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&echo), 0);
    }
}
