//! The harness's one clock: microseconds since the process began, the same for every thread, so that times of mail, power and
//! guests can be compared. Guest times are translated in `watch`.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Microseconds since the first use of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let elapsed = STARTED.get_or_init(Instant::now).elapsed();
        Self(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> i64 {
        let (later, earlier) = (i128::from(self.0), i128::from(earlier.0));
        i64::try_from((later - earlier) / 1000).unwrap_or(i64::MAX)
    }
}

impl std::ops::Add<Duration> for Micros {
    type Output = Micros;
    fn add(self, rhs: Duration) -> Micros {
        Micros(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Waits until `condition` holds, looking every `every`; false when `limit` passed first.
pub fn wait_until(limit: Duration, every: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Micros::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Micros::now() >= end {
            return false;
        }
        std::thread::sleep(every);
    }
}
