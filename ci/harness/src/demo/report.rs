//! The demonstration's report, as JSON and as lines.

use crate::mail::Summary;
use crate::qemu::Accelerator;
use serde::Serialize;
use std::time::Duration;

/// Phase times of the takeover, milliseconds after the power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Takeover {
    /// The peer was judged to be gone.
    pub verdict_ms: i64,
    /// The epoch was durable and replication cut.
    pub fenced_ms: i64,
    /// Volumes promoted.
    pub promoted_ms: i64,
    /// Volumes mounted.
    pub mounted_ms: i64,
    /// Mail services listening.
    pub services_ms: i64,
    /// Virtual IP claimed and announced.
    pub claimed_ms: i64,
}

impl Takeover {
    /// The timeline for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let phases = [
            ("verdict: the peer is gone", self.verdict_ms),
            ("fenced: epoch durable, replication cut", self.fenced_ms),
            ("volumes promoted", self.promoted_ms),
            ("volumes mounted", self.mounted_ms),
            ("mail services listening", self.services_ms),
            ("virtual IP claimed and announced", self.claimed_ms),
        ];
        phases.iter().map(|(name, ms)| format!("  +{ms:>5} ms  {name}")).collect()
    }
}

/// What became of the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Answered with `250`.
    pub acknowledged: u64,
    /// Arrived at the next hop at least once.
    pub delivered: u64,
    /// Acknowledged and not arrived.
    pub lost: u64,
    /// Arrived twice without excuse.
    pub duplicated: u64,
    /// Arrived twice because the power was cut within 500 ms of the first arrival.
    pub in_flight: u64,
    /// Longest time without a fresh greeting on the virtual IP.
    pub outage_ms: u64,
    /// How the units were run.
    pub accelerator: Accelerator,
    /// Phase times.
    pub takeover: Takeover,
    /// Both units have their roles and are in sync at the end.
    #[serde(skip)]
    pub whole: bool,
}

impl Report {
    /// Puts the report together.
    #[must_use]
    pub fn new(
        mail: Summary,
        outage: Duration,
        accelerator: Accelerator,
        takeover: Takeover,
        whole: bool,
    ) -> Self {
        Self {
            acknowledged: mail.acknowledged,
            delivered: mail.delivered,
            lost: mail.lost,
            duplicated: mail.duplicated,
            in_flight: mail.in_flight,
            outage_ms: u64::try_from(outage.as_millis()).unwrap_or(u64::MAX),
            accelerator,
            takeover,
            whole,
        }
    }

    /// Nothing lost, nothing duplicated, the pair whole again, and there was mail at all.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.whole && self.acknowledged > 0
    }

    /// The report for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!("acknowledged {:>6}", self.acknowledged),
            format!("delivered    {:>6}", self.delivered),
            format!("lost         {:>6}", self.lost),
            format!("duplicated   {:>6}", self.duplicated),
            format!(
                "in flight    {:>6}   (arrived twice; the power went within 500 ms of the first)",
                self.in_flight
            ),
            format!("longest outage {:>4} ms   ({} emulation)", self.outage_ms, self.accelerator.name()),
            format!("the pair is {}", if self.whole { "whole again" } else { "NOT whole" }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_exactly_the_promised_keys() {
        let mail = Summary { acknowledged: 3, delivered: 3, ..Summary::default() };
        let report =
            Report::new(mail, Duration::from_millis(2100), Accelerator::Tcg, Takeover::default(), true);
        let json = serde_json::to_string(&report).unwrap();
        let expected = r#"{"acknowledged":3,"delivered":3,"lost":0,"duplicated":0,"in_flight":0,"outage_ms":2100,"accelerator":"tcg","takeover":{"verdict_ms":0,"fenced_ms":0,"promoted_ms":0,"mounted_ms":0,"services_ms":0,"claimed_ms":0}}"#;
        assert_eq!(json, expected);
        assert!(report.is_good());
        assert!(!Report { lost: 1, ..report }.is_good());
        assert!(!Report { whole: false, ..report }.is_good());
    }
}
