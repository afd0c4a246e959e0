//! local-ports: carrier of the monitored ports, and neighbours behind them that are asked (`neighbours`). A signal that comes back within a
//! second was only debounced, not lost. A neighbour that is silent for the peer too is no failure of this unit: the role would
//! go to and fro and nobody be helped.

use super::Ended;
use super::neighbours::Lost;
use crate::main_unit::Unit;
use crate::shared::View;
use std::time::Duration;
use twinpost_check::{Rules, Run};
use twinpost_config::{Config, LocalRules};
use twinpost_ha::Verdict;
use twinpost_net::links::Carrier;

/// A carrier that is away for less than this is no failure: switches and auto-negotiation blink.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// Looks within it.
const LOOKS: u32 = 10;
/// Far above what a run takes.
const LIMIT: Duration = Duration::from_secs(5);

/// Alarm of neighbours that nobody reaches.
const ALARM: &str = "neighbours";

/// The monitored ports.
pub(super) struct Ports {
    ports: Vec<(String, Option<Carrier>)>,
}

/// Rules of the check.
pub(super) fn rules(set: LocalRules) -> Rules {
    Rules { interval: set.interval, limit: LIMIT, retries: set.retries }
}

impl Ports {
    /// Those of this configuration.
    pub fn new(config: &Config) -> Self {
        Self { ports: config.monitored_ports().map(|port| (port.to_string(), None)).collect() }
    }

    /// No port is monitored.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Looks at all of them.
    pub async fn run(&mut self, unit: &Unit) -> Ended {
        let mut down = self.down();
        for _ in 0..LOOKS {
            if down.is_empty() {
                break;
            }
            tokio::time::sleep(DEBOUNCE / LOOKS).await;
            // Only what is away at every look is away.
            let now = self.down();
            down.retain(|port| now.contains(port));
        }
        let neighbours = &unit.checks.neighbours;
        let (asked, lost) = (neighbours.names(), neighbours.lost());
        let ended = self.judge(&down, &asked, &lost, is_peer_well(&unit.shared.view()));
        if ended.run == Run::Passed && !lost.is_empty() {
            let who: Vec<_> = lost.iter().map(|lost| lost.who.as_str()).collect();
            unit.shared.alarm(
                ALARM,
                &format!(
                    "no answer from {}, and the peer is not better off: no role moves; look at the network, or at the address in \
                     monitor-neighbour",
                    who.join(", ")
                ),
            );
        } else {
            unit.shared.clear(ALARM);
        }
        ended
    }

    /// The verdict of one run. `is_peer_well`: the peer lives, and its service port and neighbours are well.
    fn judge(&self, down: &[String], asked: &[String], lost: &[Lost], is_peer_well: bool) -> Ended {
        if !down.is_empty() {
            return Ended { run: Run::Failed, words: format!("no carrier on {}", down.join(", ")) };
        }
        let ports: Vec<_> = self.ports.iter().map(|(name, _)| name.as_str()).collect();
        let carrier = format!("carrier on {}", ports.join(", "));
        match (lost, is_peer_well) {
            ([], _) if asked.is_empty() => Ended { run: Run::Passed, words: carrier },
            ([], _) => Ended { run: Run::Passed, words: format!("{carrier}; {} answers", asked.join(", ")) },
            (_, true) => Ended {
                run: Run::Failed,
                words: format!("{carrier}, but no answer from {}, and the peer is well", names(lost)),
            },
            (_, false) => Ended {
                run: Run::Passed,
                words: format!("{carrier}; no answer from {}, but the peer is not better off", names(lost)),
            },
        }
    }

    /// Ports without carrier; also those that are gone.
    fn down(&mut self) -> Vec<String> {
        let mut down = Vec::new();
        for (name, carrier) in &mut self.ports {
            let state = carrier.as_ref().and_then(Carrier::read);
            let state = state.or_else(|| {
                // Not open yet, or the port is another one than before.
                *carrier = Carrier::open(name).ok();
                carrier.as_ref().and_then(Carrier::read)
            });
            if state != Some(true) {
                down.push(name.clone());
            }
        }
        down
    }
}

/// The peer could serve in this unit's place as far as its ports go.
fn is_peer_well(view: &View) -> bool {
    let alive = view.ha.as_ref().filter(|ha| ha.verdict == Verdict::Alive);
    alive.and_then(|ha| ha.peer).is_some_and(|peer| peer.health.service_port)
}

fn names(lost: &[Lost]) -> String {
    let each = lost.iter().map(|lost| format!("{} for {} s", lost.who, lost.silence.as_secs()));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_carrier_and_what_is_not_there_has_none() {
        let mut ports = Ports { ports: vec![("lo".into(), None), ("nosuchport".into(), None)] };
        assert_eq!(ports.down(), ["nosuchport"]);
        ports.ports.pop();
        assert!(ports.down().is_empty());
    }

    #[test]
    fn a_silent_neighbour_counts_only_while_the_peer_is_well() {
        let ports = Ports { ports: vec![("port1".into(), None)] };
        let asked = ["192.0.2.1 on port1".to_string()];
        let lost = [Lost { who: asked[0].clone(), silence: Duration::from_secs(12) }];
        let judge = |asked: &[String], lost: &[Lost], well| {
            let ended = ports.judge(&[], asked, lost, well);
            (ended.run, ended.words)
        };
        assert_eq!(judge(&[], &[], false), (Run::Passed, "carrier on port1".into()));
        assert_eq!(
            judge(&asked, &[], false),
            (Run::Passed, "carrier on port1; 192.0.2.1 on port1 answers".into())
        );
        let (run, words) = judge(&asked, &lost, true);
        assert_eq!(run, Run::Failed);
        assert_eq!(
            words,
            "carrier on port1, but no answer from 192.0.2.1 on port1 for 12 s, and the peer is well"
        );
        assert_eq!(judge(&asked, &lost, false).0, Run::Passed, "a switch would help nobody");
        assert_eq!(ports.judge(&["port1".into()], &asked, &[], false).run, Run::Failed);
    }
}
