//! What can be wrong with one port of a segment, and the seeded randomness that losses are drawn from.

use std::time::Duration;

/// Longest delay that a link can be given: the delay queue is bounded by it.
pub const DELAY_MAX: Duration = Duration::from_secs(10);

/// Faults of one port. The default is a perfect link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing passes in either direction.
    pub cut: bool,
    /// What the attached unit sends is dropped; what it is sent still arrives.
    pub mute: bool,
    /// Share of frames dropped in each direction, percent, 0–100.
    pub loss_percent: u8,
    /// Each frame from the attached unit is held back this long, at most [`DELAY_MAX`].
    pub delay: Duration,
}

impl Faults {
    /// True when a frame that the unit sent must not enter the segment.
    pub(crate) fn drops_ingress(&self, random: &mut Randomness) -> bool {
        self.cut || self.mute || random.percent(self.loss_percent)
    }

    /// True when a frame must not reach the unit.
    pub(crate) fn drops_egress(&self, random: &mut Randomness) -> bool {
        self.cut || random.percent(self.loss_percent)
    }

    /// The delay within its bound.
    pub(crate) fn bounded_delay(&self) -> Duration {
        self.delay.min(DELAY_MAX)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable, good enough to draw losses from.
#[derive(Clone, Debug)]
pub struct Randomness(u64);

impl Randomness {
    /// The same seed gives the same losses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True in `percent` of 100 cases. Draws only when there is something to decide, so that an unfaulted link does not
    /// change what a faulted one sees.
    pub fn percent(&mut self, percent: u8) -> bool {
        match percent {
            0 => false,
            1..=99 => self.next_u64() % 100 < u64::from(percent),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_losses() {
        let draw = |seed| {
            let mut random = Randomness::new(seed);
            (0..200).map(|_| random.percent(30)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let lost = draw(7).iter().filter(|lost| **lost).count();
        assert!((30..90).contains(&lost), "30 % of 200 lost {lost}");
    }

    #[test]
    fn none_and_all_are_exact() {
        let mut random = Randomness::new(1);
        assert!((0..1000).all(|_| !random.percent(0)));
        assert!((0..1000).all(|_| random.percent(100)));
    }
}
