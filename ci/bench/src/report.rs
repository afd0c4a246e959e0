//! Figures and what is said about them: median, worst, ratio to keepalived, the goals of the issue beside each.

use crate::cases::{Case, Outage};
use crate::load::{Cpu, Stress};
use serde::Serialize;
use std::fmt;

/// Outage with carrier proof, ms: the worst counts.
const CARRIER_MS_MAX: f64 = 25.0;
/// Share of keepalived's outage at default settings.
const DEFAULT_RATIO_MAX: f64 = 0.2;
/// Processor time at 10 ms on two links, % of a core.
const CPU_PERCENT_MAX: f64 = 1.5;
/// Lateness under load, ms.
const LATE_MS_MAX: f64 = 50.0;

/// Outages of one program in one case, ms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outages {
    /// Half of them were shorter.
    pub median_ms: f64,
    /// The longest.
    pub worst_ms: f64,
    /// All in the order of the runs.
    pub all_ms: Vec<f64>,
    /// Worst lateness of the client itself.
    pub client_late_ms: f64,
    /// Longest time that taking all links down took.
    pub cut_ms: f64,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub case: &'static str,
    /// Twinpost with heartbeat cables that lose their carrier.
    pub with_carrier_proof: Outages,
    /// Twinpost with heartbeat links through a switch.
    pub without_carrier_proof: Outages,
    /// keepalived.
    pub keepalived: Outages,
    /// The goals and whether they were met.
    pub goals: Vec<Goal>,
}

/// A goal of the issue.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// In words, with its limit.
    pub goal: String,
    /// What was seen.
    pub seen: f64,
    /// Seen is within the goal.
    pub met: bool,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// Cases.
    pub rows: Vec<Row>,
    /// Processor time.
    pub cpu: Vec<Cpu>,
    /// Lateness.
    pub stress: Option<Stress>,
}

impl Outages {
    fn new(all: &[Outage]) -> Self {
        let all_ms: Vec<f64> = all.iter().map(|outage| outage.us as f64 / 1e3).collect();
        let mut sorted = all_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let worst = |of: fn(&Outage) -> u64| all.iter().map(of).max().unwrap_or(0) as f64 / 1e3;
        Self {
            median_ms: median(&sorted),
            worst_ms: sorted.last().copied().unwrap_or_default(),
            client_late_ms: worst(|outage| outage.client_late_us),
            cut_ms: worst(|outage| outage.cut_us),
            all_ms,
        }
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

impl Row {
    /// Figures of a case; outages in the order of [`crate::cases::Program::ALL`].
    pub fn new(case: &Case, [with, without, other]: &[Vec<Outage>; 3]) -> Self {
        let [with, without, other] = [with, without, other].map(|all| Outages::new(all));
        let goal = |goal: String, seen: f64, limit: f64| Goal { goal, seen, met: seen <= limit };
        let share = |own: f64, theirs: f64| if theirs > 0.0 { own / theirs } else { f64::INFINITY };
        let mut goals = vec![goal(
            format!("with carrier proof: worst <= {CARRIER_MS_MAX} ms"),
            with.worst_ms,
            CARRIER_MS_MAX,
        )];
        let median = share(without.median_ms, other.median_ms);
        if case.interval.is_some() {
            let worst = share(without.worst_ms, other.worst_ms);
            goals.push(goal("without: median <= 1.0 x keepalived".to_owned(), median, 1.0));
            goals.push(goal("without: worst <= its worst (ratio)".to_owned(), worst, 1.0));
        } else {
            let words = format!("without: median <= {DEFAULT_RATIO_MAX} x keepalived");
            goals.push(goal(words, median, DEFAULT_RATIO_MAX));
            let proven = share(with.median_ms, other.median_ms);
            let words = format!("with: median <= {DEFAULT_RATIO_MAX} x keepalived");
            goals.push(goal(words, proven, DEFAULT_RATIO_MAX));
        }
        Self {
            case: case.name,
            with_carrier_proof: with,
            without_carrier_proof: without,
            keepalived: other,
            goals,
        }
    }
}

impl Table {
    /// No goal was missed.
    pub fn all_met(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.goals).chain(&self.load_goals()).all(|goal| goal.met)
    }

    fn load_goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for cpu in &self.cpu {
            goals.push(Goal {
                goal: format!(
                    "CPU at 10 ms on two links, {}, % of a core over {:.0} s (heartbeat thread {:.2} %): <= {CPU_PERCENT_MAX}",
                    cpu.cables, cpu.seconds, cpu.heartbeat_percent
                ),
                seen: cpu.percent,
                met: cpu.percent <= CPU_PERCENT_MAX,
            });
        }
        if let Some(stress) = self.stress {
            goals.push(Goal {
                goal: format!(
                    "worst heartbeat lateness under {} s of load: < {LATE_MS_MAX} ms",
                    stress.seconds
                ),
                seen: stress.late_ms,
                met: stress.late_ms < LATE_MS_MAX,
            });
            goals.push(Goal {
                goal: "false failovers meanwhile: 0".to_owned(),
                seen: stress.false_failovers as f64,
                met: stress.false_failovers == 0,
            });
        }
        goals
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rows.is_empty() {
            writeln!(f, "\noutage of the virtual IP, ms (one echo a ms)     median    worst   x keepalived")?;
        }
        for row in &self.rows {
            let runs = row.keepalived.all_ms.len();
            writeln!(f, "{}, {runs} power cuts each", row.case)?;
            for (name, outages) in [
                ("Twinpost, heartbeat cables lose carrier", &row.with_carrier_proof),
                ("Twinpost, heartbeat through switches", &row.without_carrier_proof),
                ("keepalived", &row.keepalived),
            ] {
                let ratio = outages.median_ms / row.keepalived.median_ms;
                writeln!(
                    f,
                    "  {name:<42} {:>10.1} {:>8.1} {ratio:>10.3}",
                    outages.median_ms, outages.worst_ms
                )?;
            }
            goals(f, &row.goals)?;
            let late = |of: fn(&Outages) -> f64| {
                of(&row.with_carrier_proof).max(of(&row.without_carrier_proof)).max(of(&row.keepalived))
            };
            writeln!(
                f,
                "  (client late by at most {:.1} ms; a cut took at most {:.1} ms)",
                late(|outages| outages.client_late_ms),
                late(|outages| outages.cut_ms)
            )?;
        }
        goals(f, &self.load_goals())
    }
}

fn goals(f: &mut fmt::Formatter<'_>, goals: &[Goal]) -> fmt::Result {
    for goal in goals {
        let verdict = if goal.met { "met " } else { "MISS" };
        writeln!(f, "  {verdict} {}: {:.3}", goal.goal, goal.seen)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::CASES;

    fn outages(ms: &[u64]) -> Vec<Outage> {
        ms.iter().map(|ms| Outage { us: ms * 1000, client_late_us: 0, cut_us: 0 }).collect()
    }

    #[test]
    fn goals_are_judged_by_median_and_worst() {
        let row =
            Row::new(&CASES[0], &[outages(&[20, 26, 21]), outages(&[30, 50, 34]), outages(&[36, 40, 38])]);
        assert_eq!(row.with_carrier_proof.median_ms, 21.0);
        let met: Vec<bool> = row.goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [false, true, false], "26 ms is too long, 50 is worse than 40");
        let table = Table { rows: vec![row], ..Table::default() };
        assert!(!table.all_met() && table.to_string().contains("MISS"));
    }

    #[test]
    fn defaults_are_compared_by_a_fifth() {
        let row = Row::new(&CASES[2], &[outages(&[20, 22]), outages(&[700, 720]), outages(&[3600, 3602])]);
        assert!(row.goals.iter().all(|goal| goal.met), "{:?}", row.goals);
        assert_eq!(row.without_carrier_proof.median_ms, 710.0);
    }
}
