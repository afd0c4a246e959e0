//! How the demonstration is shown: the trait, and plain lines for pipes and logs.

use crate::clock::Micros;
use crate::pair::{Pair, UNITS};
use std::time::Duration;

/// Plain lines repeat the state this often while nothing else is said.
const STATE_EVERY: Duration = Duration::from_secs(10);

/// Shows a running demonstration.
pub trait Face {
    /// One line of the story.
    fn say(&mut self, line: &str);
    /// Called some times a second with the pair as it is; false when the visitor wants to quit.
    fn look(&mut self, pair: &Pair) -> bool;
}

/// Lines on standard output.
pub struct Lines {
    began: Micros,
    shown: Micros,
}

impl Lines {
    /// Times count from now.
    #[must_use]
    pub fn new() -> Self {
        let began = Micros::now();
        Self { began, shown: began }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Face for Lines {
    fn say(&mut self, line: &str) {
        self.shown = Micros::now();
        println!("{:7.1}s  {line}", self.shown.since(self.began).as_secs_f64());
    }

    fn look(&mut self, pair: &Pair) -> bool {
        if Micros::now().since(self.shown) >= STATE_EVERY {
            let state = state_line(pair);
            self.say(&state);
        }
        true
    }
}

/// Both units' modes and the mail counters in one line.
pub(super) fn state_line(pair: &Pair) -> String {
    let mode = |unit: usize| match pair.watch(unit).status(Micros::default()) {
        _ if !pair.is_powered(unit) => format!("{} has no power", UNITS[unit]),
        None => format!("{} boots", UNITS[unit]),
        Some(status) => {
            let progress = status.volumes.iter().map(|volume| volume.out_of_sync_kib).max().unwrap_or(0);
            let sync = if progress > 0 { format!(", {progress} KiB to sync") } else { String::new() };
            format!("{} {} ({}{sync})", UNITS[unit], status.effective, status.why)
        }
    };
    let mail = pair.ledger.summary();
    format!("{}; {}; acknowledged {}, delivered {}", mode(0), mode(1), mail.acknowledged, mail.delivered)
}
