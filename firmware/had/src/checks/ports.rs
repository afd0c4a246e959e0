//! local-ports: carrier of the monitored ports. A signal that comes back within a second was only debounced, not lost.

use super::Ended;
use std::time::Duration;
use twinpost_check::{Rules, Run};
use twinpost_config::{Config, LocalRules};
use twinpost_net::links::Carrier;

/// A carrier that is away for less than this is no failure: switches and auto-negotiation blink.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// Looks within it.
const LOOKS: u32 = 10;
/// Far above what a run takes.
const LIMIT: Duration = Duration::from_secs(5);

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
    pub async fn run(&mut self) -> Ended {
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
        if down.is_empty() {
            let names: Vec<_> = self.ports.iter().map(|(name, _)| name.as_str()).collect();
            return Ended { run: Run::Passed, words: format!("carrier on {}", names.join(", ")) };
        }
        Ended { run: Run::Failed, words: format!("no carrier on {}", down.join(", ")) }
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
}
