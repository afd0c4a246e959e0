//! local-ports, beyond the carrier: asks the neighbours of `monitor-neighbour` by ARP or neighbour discovery, every second, on sockets of its own.
//! Whether silence is this unit's failure or the neighbour's is judged in `ports`; counting is `twinpost_check::Reach`'s.

use crate::shared::now_us;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use twinpost_check::{ASK_EVERY, Reach};
use twinpost_config::Config;
use twinpost_net::Port;
use twinpost_net::raw::{FRAME_BUF_BYTES, Filter, RawSocket};
use twinpost_types::Instant;
use twinpost_wire::neighbour::{Own, request, speaker};

/// Between two looks at the sockets: their buffers hold what a busy network says meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Frames of one socket in one look, so that a flood starves nobody.
const FRAMES_A_LOOK: usize = 500;

/// All neighbours that are asked.
#[derive(Default)]
pub(super) struct Neighbours(Mutex<Vec<Neighbour>>);

/// A neighbour that is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Where and who, for people.
    pub who: String,
    /// For how long.
    pub silence: Duration,
}

struct Neighbour {
    port: String,
    ip: IpAddr,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    /// With the port's MAC address; `None` until the port is there.
    socket: Option<(RawSocket, [u8; 6])>,
    reach: Reach,
}

impl Neighbours {
    /// Those of this configuration; none while the check is off.
    pub fn new(config: &Config) -> Self {
        if config.ha().services.local_ports().is_none() {
            return Self::default();
        }
        let now = Instant(now_us());
        let one = |(port, ip): (&twinpost_config::PortName, IpAddr)| Neighbour {
            port: port.to_string(),
            ip,
            ipv4: config.interface(port.as_str()).map_or(Ipv4Addr::UNSPECIFIED, |net| net.address()),
            ipv6: config.interface6(port.as_str()).map_or(Ipv6Addr::UNSPECIFIED, |net| net.address()),
            socket: None,
            reach: Reach::new(now),
        };
        Self(Mutex::new(config.neighbours().map(one).collect()))
    }

    /// Those that do not answer.
    pub fn lost(&self) -> Vec<Lost> {
        let now = Instant(now_us());
        let all = self.lock();
        let lost = all.iter().filter(|one| one.reach.is_lost());
        lost.map(|one| Lost { who: one.name(), silence: one.reach.silence(now) }).collect()
    }

    /// In words; empty when none is asked.
    pub fn names(&self) -> Vec<String> {
        self.lock().iter().map(Neighbour::name).collect()
    }

    /// All of them answer steadily: the peer is told that this unit could serve.
    pub fn are_steady(&self) -> bool {
        let now = Instant(now_us());
        self.lock().iter().all(|one| one.reach.is_steady(now))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Neighbour>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for ever; ends at once when there is nobody to be asked.
pub(super) async fn ask(neighbours: Arc<Neighbours>) {
    if neighbours.lock().is_empty() {
        return;
    }
    let mut ask_at = Instant(now_us());
    loop {
        let now = Instant(now_us());
        let is_due = now >= ask_at;
        if is_due {
            ask_at = now + ASK_EVERY;
        }
        for one in neighbours.lock().iter_mut() {
            one.listen(now);
            if is_due {
                one.ask();
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Neighbour {
    fn name(&self) -> String {
        format!("{} on {}", self.ip, self.port)
    }

    fn listen(&mut self, now: Instant) {
        let Some((socket, mac)) = &self.socket else { return };
        let mut frame = [0; FRAME_BUF_BYTES];
        for _ in 0..FRAMES_A_LOOK {
            match socket.recv(&mut frame) {
                Ok(Some(length)) => {
                    let heard = speaker(frame.get(..length).unwrap_or_default());
                    if heard.is_some_and(|heard| heard.ip == self.ip && heard.mac != *mac) {
                        self.reach.answered(now);
                    }
                }
                Ok(None) => return,
                // The port is gone: a new socket with the next question.
                Err(_) => {
                    self.socket = None;
                    return;
                }
            }
        }
    }

    /// A question that cannot be sent has no answer either.
    fn ask(&mut self) {
        if self.socket.is_none() {
            self.socket = open(&self.port, self.ip).ok();
        }
        if let Some((socket, mac)) = &self.socket {
            let own = Own { mac: *mac, ipv4: self.ipv4, ipv6: self.ipv6 };
            // A full queue drops it: the next question follows in a second.
            let _ = socket.send(request(&own, self.ip).bytes());
        }
        self.reach.asked();
    }
}

fn open(name: &str, ip: IpAddr) -> Result<(RawSocket, [u8; 6]), Box<dyn std::error::Error>> {
    let port = Port::find(name)?;
    let socket = RawSocket::open(&port, Filter::Neighbours { ipv6: ip.is_ipv6() })?;
    Ok((socket, port.mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: [&str; 2] = ["port1", "port2"];

    fn neighbours(more: &str) -> Neighbours {
        let script = format!(
            "config system interface\nedit port1\nset ip 192.0.2.11/24\nset ip6 2001:db8::11/64\nnext\nend\n\
             config system ha\nset failover port1 add 192.0.2.10/24\nset heartbeat-1-interface port2\n{more}end\n"
        );
        Neighbours::new(&twinpost_config::parse(&script, &PORTS).unwrap_or_else(|e| panic!("{e}")))
    }

    #[test]
    fn nobody_is_asked_unless_it_is_set_and_the_check_runs() {
        assert!(
            neighbours("").names().is_empty()
                && neighbours("").are_steady()
                && neighbours("").lost().is_empty()
        );
        let set = "set monitor-neighbour port1 192.0.2.1\n";
        assert_eq!(neighbours(set).names(), ["192.0.2.1 on port1"]);
        assert!(neighbours(&format!("{set}set network-intf-check disable\n")).names().is_empty());
    }

    #[test]
    fn a_neighbour_behind_a_port_that_is_not_there_is_lost() {
        let neighbours = neighbours("set monitor-neighbour port1 2001:db8::1\n");
        assert!(!neighbours.are_steady() && neighbours.lost().is_empty(), "not asked yet");
        for _ in 0..10 {
            neighbours.lock().iter_mut().for_each(Neighbour::ask);
        }
        let lost = neighbours.lost();
        assert_eq!(lost.iter().map(|lost| lost.who.as_str()).collect::<Vec<_>>(), ["2001:db8::1 on port1"]);
    }
}
