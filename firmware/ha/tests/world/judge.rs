//! What must be true in the simulated world: of every step when it is asked for, after every event, and in the end
//! (`spec/ha.md` sections 4, 7 and 8; the checks that every scenario makes).

use super::unit::Unit;
use super::{Fault, World};
use twinpost_ha::Step;
use twinpost_types::*;

impl World {
    /// Rule of all rules: what must be true of a step at the moment when it is asked for.
    pub fn check_step(&mut self, i: usize, step: Step) {
        let unit = &self.units[i];
        let bad = match step {
            Step::Promote => (unit.live.local != DiskState::UpToDate && !unit.live.promoted)
                .then_some("promotes data that is not up to date")
                .or((unit.epoch <= unit.promoted_epoch && !unit.live.promoted)
                    .then_some("promotes without a new durable epoch")),
            Step::PromoteForced => {
                (unit.live.local == DiskState::Inconsistent).then_some("forces inconsistent data")
            }
            Step::ClaimVips => (!unit.mail).then_some("claims addresses without mail"),
            _ => None,
        };
        if let Some(bad) = bad {
            panic!("unit {i} {bad}\n{}", self.story());
        }
        if matches!(step, Step::Promote | Step::PromoteForced) {
            self.units[i].promoted_epoch = self.units[i].epoch;
        }
    }

    pub fn check(&mut self) {
        let cut = !(0..LINKS).any(|link| self.passes(0, link) || self.passes(1, link));
        self.excused |= cut && self.units.iter().any(|unit| unit.powered && !unit.service_up);
        let [a, b] = &self.units;
        let both = a.live.promoted && b.live.promoted;
        if both && self.connected_on.is_some() {
            panic!("both promoted while connected\n{}", self.story());
        }
        let writes = |unit: &Unit| unit.live.promoted && unit.mounted && unit.mail && !unit.live.suspended;
        if both
            && writes(a)
            && writes(b)
            && a.disk.generation == b.disk.generation
            && a.disk.peer_outdated
            && b.disk.peer_outdated
        {
            panic!("both write on one data generation\n{}", self.story());
        }
    }

    /// Diverged copies wait for an operator; each acknowledged message is on one of them.
    fn check_nothing_is_discarded(&self) {
        for message in &self.acked {
            let stored = self.units.iter().any(|unit| unit.disk.messages.binary_search(message).is_ok());
            assert!(stored, "message {message} lost\n{}", self.story());
        }
    }

    /// Everything is repaired; the pair must be whole again within `time`, and nothing acknowledged may be lost.
    pub fn heal_and_check(&mut self, time: u64) {
        self.link_up = [true; LINKS];
        self.deaf = [[false; LINKS]; 2];
        self.loss_percent = 0;
        self.say("== heal".into());
        for i in 0..2 {
            self.units[i].fails.clear();
            self.apply(Fault::Service(i, true));
            self.apply(Fault::PowerRestore(i));
        }
        for link in 0..LINKS {
            self.tell_carriers(link);
        }
        self.run(time);
        let primaries = self.units.iter().filter(|unit| unit.serves(self.now)).count();
        if self.diverged && self.excused {
            self.check_nothing_is_discarded();
            return;
        }
        assert!(!self.diverged, "data diverged\n{}", self.story());
        let why: Vec<_> = self.units.iter().map(|u| u.ha.as_ref().map(|h| h.status().waiting)).collect();
        assert_eq!(primaries, 1, "{primaries} primaries at the end, {why:?}\n{}", self.story());
        let primary = if self.units[0].serves(self.now) { 0 } else { 1 };
        assert_eq!(self.units[1 - primary].effective(), EffectiveMode::Secondary, "{}", self.story());
        for unit in &self.units {
            assert_eq!(unit.live.local, DiskState::UpToDate, "not in sync\n{}", self.story());
        }
        for message in &self.acked {
            let stored = self.units[primary].disk.messages.binary_search(message).is_ok();
            assert!(stored, "message {message} lost\n{}", self.story());
        }
    }
}
