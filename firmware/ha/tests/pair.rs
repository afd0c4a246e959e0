//! Two decision cores in the simulated world: the scenarios of the appliance, each a story with a known end, and random
//! stories that must end with a whole pair and no message lost.

mod world;

use proptest::prelude::*;
use twinpost_ha::{Command, Note, Step};
use twinpost_types::{EffectiveMode, OnFailure};
use world::{Fault, World};

const SECOND: u64 = 1_000_000;

#[test]
fn a_new_pair_comes_up() {
    let mut world = World::in_sync(1);
    world.heal_and_check(SECOND);
}

#[test]
fn the_primary_loses_power() {
    let mut world = World::in_sync(2);
    world.apply(Fault::PowerCut(0));
    world.run(5 * SECOND);
    assert_eq!(world.units[1].effective(), EffectiveMode::Primary, "{}", world.story());
    assert!(world.longest_outage < 2 * SECOND, "{} µs\n{}", world.longest_outage, world.story());
    world.apply(Fault::PowerRestore(0));
    world.run(60 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Secondary, "{}", world.story());
    world.heal_and_check(SECOND);
}

#[test]
fn the_secondary_loses_power() {
    let mut world = World::in_sync(3);
    world.apply(Fault::PowerCut(1));
    world.run(10 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
    assert!(world.longest_outage < 3 * SECOND, "{} µs\n{}", world.longest_outage, world.story());
    world.heal_and_check(60 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "the service does not move");
}

#[test]
fn link_1_dies_and_replication_moves() {
    let mut world = World::in_sync(4);
    world.apply(Fault::Link(0, false));
    world.run(20 * SECOND);
    assert_eq!(world.connected_on, Some(1), "{}", world.story());
    assert!(world.longest_outage < 8 * SECOND, "{} µs\n{}", world.longest_outage, world.story());
    world.apply(Fault::Link(0, true));
    world.run(20 * SECOND);
    assert_eq!(world.connected_on, Some(1), "no move back by itself");
    world.heal_and_check(SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary);
}

#[test]
fn both_links_cut_while_the_service_network_is_whole() {
    let mut world = World::in_sync(5);
    world.apply(Fault::Link(0, false));
    world.apply(Fault::Link(1, false));
    world.run(60 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
    assert_eq!(world.units[1].effective(), EffectiveMode::Secondary, "{}", world.story());
    assert!(world.notes[1].contains(&Note::TakeoverCancelled));
    assert!(world.units[0].serves(world.now), "the primary goes on alone\n{}", world.story());
    world.heal_and_check(60 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary);
}

#[test]
fn an_isolated_primary_stays_frozen_and_gives_way() {
    let mut world = World::in_sync(6);
    world.apply(Fault::Service(0, false));
    world.apply(Fault::Link(0, false));
    world.apply(Fault::Link(1, false));
    world.run(60 * SECOND);
    assert!(!world.units[0].serves(world.now));
    assert!(world.units[1].serves(world.now), "{}", world.story());
    world.heal_and_check(90 * SECOND);
    assert_eq!(world.units[1].effective(), EffectiveMode::Primary);
}

#[test]
fn an_orderly_switch_and_back() {
    let mut world = World::in_sync(7);
    world.apply(Fault::Operator(0, Command::Failover));
    world.run(10 * SECOND);
    assert_eq!(world.units[1].effective(), EffectiveMode::Primary, "{}", world.story());
    assert!(world.notes[0].contains(&Note::SwitchEnded { done: true }));
    assert!(world.longest_outage < 2 * SECOND, "{} µs", world.longest_outage);
    world.apply(Fault::Operator(0, Command::Restore));
    world.run(10 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
    world.heal_and_check(SECOND);
}

#[test]
fn a_switch_whose_other_side_fails_is_taken_back() {
    for step in [Step::Promote, Step::Mount, Step::StartMail, Step::ClaimVips] {
        let mut world = World::in_sync(8);
        world.apply(Fault::FailStep(1, step));
        world.apply(Fault::Operator(0, Command::Failover));
        world.run(10 * SECOND);
        assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{step:?}\n{}", world.story());
        let refused = Note::SwitchEnded { done: false };
        assert_eq!(world.notes[0].contains(&refused), step == Step::Promote);
        world.heal_and_check(10 * SECOND);
    }
}

#[test]
fn a_killed_supervisor_resumes_its_role() {
    let mut world = World::in_sync(9);
    world.apply(Fault::KillSupervisor(0));
    world.run(20 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
    world.heal_and_check(SECOND);
}

#[test]
fn a_cold_start_in_either_order() {
    for first in 0..2 {
        let mut world = World::in_sync(10);
        world.apply(Fault::PowerCut(0));
        world.run(300_000);
        world.apply(Fault::PowerCut(1));
        world.run(10 * SECOND);
        world.apply(Fault::PowerRestore(first));
        world.run(40 * SECOND);
        world.heal_and_check(90 * SECOND);
    }
}

#[test]
fn power_fails_during_resync() {
    for victim in 0..2 {
        let mut world = World::in_sync(11);
        world.apply(Fault::PowerCut(0));
        world.run(5 * SECOND);
        world.apply(Fault::PowerRestore(0));
        while world.sync_ends.is_none() {
            world.run(50_000);
        }
        world.apply(Fault::PowerCut(victim));
        world.run(30 * SECOND);
        world.heal_and_check(120 * SECOND);
    }
}

#[test]
fn a_planned_reboot_of_the_primary_switches_first() {
    let mut world = World::in_sync(12);
    world.apply(Fault::Operator(0, Command::Reboot));
    world.run(30 * SECOND);
    assert_eq!(world.units[1].effective(), EffectiveMode::Primary, "{}", world.story());
    assert!(world.longest_outage < 2 * SECOND, "{} µs", world.longest_outage);
    world.heal_and_check(60 * SECOND);
}

#[test]
fn a_frozen_primary_comes_back_as_secondary() {
    let mut world = World::in_sync(13);
    world.apply(Fault::Freeze(0, 30 * SECOND));
    world.run(20 * SECOND);
    assert!(world.units[1].serves(world.now), "{}", world.story());
    world.heal_and_check(90 * SECOND);
    assert_eq!(world.units[1].effective(), EffectiveMode::Primary);
}

#[test]
fn a_frozen_secondary_does_not_take_over() {
    let mut world = World::in_sync(14);
    world.apply(Fault::Freeze(1, 60 * SECOND));
    world.run(90 * SECOND);
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
    world.heal_and_check(60 * SECOND);
}

#[test]
fn clock_jumps_change_nothing() {
    let mut world = World::in_sync(15);
    for unit in 0..2 {
        world.apply(Fault::ClockAhead(unit, 3600 * SECOND));
        world.run(5 * SECOND);
    }
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
    assert!(world.longest_outage < SECOND);
    world.heal_and_check(SECOND);
}

/// Found by a random story: a standby that hears the primary, but is not heard, must not keep believing in its data.
#[test]
fn a_standby_that_is_not_heard_knows_that_its_data_is_old() {
    let mut world = World::in_sync(16);
    world.apply(Fault::OneWay(1, 0, true));
    world.apply(Fault::OneWay(1, 1, true));
    world.run(60 * SECOND);
    assert!(world.units[0].serves(world.now), "{}", world.story());
    world.apply(Fault::PowerCut(0));
    world.run(30 * SECOND);
    assert_eq!(world.units[1].effective(), EffectiveMode::Secondary, "{}", world.story());
    world.heal_and_check(120 * SECOND);
}

/// Found by a random story: the restarted supervisor must not move replication to the link that it would begin with.
#[test]
fn a_restarted_supervisor_keeps_the_replication_link() {
    let mut world = World::in_sync(17);
    world.apply(Fault::Link(0, false));
    world.run(20 * SECOND);
    world.apply(Fault::Link(0, true));
    world.apply(Fault::KillSupervisor(0));
    world.run(20 * SECOND);
    assert_eq!(world.connected_on, Some(1), "{}", world.story());
    world.heal_and_check(SECOND);
}

/// Found by a random story: a standby that is cut off from everything takes nothing, and its peer goes on.
#[test]
fn an_isolated_standby_takes_nothing() {
    let mut world = World::in_sync(18);
    world.apply(Fault::Service(1, false));
    world.apply(Fault::Link(0, false));
    world.apply(Fault::Link(1, false));
    world.run(60 * SECOND);
    assert!(world.units[0].serves(world.now) && !world.units[1].live.promoted, "{}", world.story());
    world.heal_and_check(60 * SECOND);
}

/// Found by a random story: a frozen primary whose supervisor restarts alone looks for its addresses before it goes on.
#[test]
fn a_supervisor_that_restarts_in_silence_looks_around_first() {
    let mut world = World::in_sync(20);
    world.apply(Fault::Link(0, false));
    world.apply(Fault::Link(1, false));
    world.apply(Fault::KillSupervisor(0));
    world.run(60 * SECOND);
    assert!(world.units[1].serves(world.now) && !world.units[0].serves(world.now), "{}", world.story());
    world.heal_and_check(90 * SECOND);
}

#[test]
fn a_flapping_link_moves_nothing_but_replication() {
    let mut world = World::in_sync(19);
    for _ in 0..20 {
        world.apply(Fault::Link(0, false));
        world.run(SECOND);
        world.apply(Fault::Link(0, true));
        world.run(SECOND);
    }
    assert_eq!(world.units[0].effective(), EffectiveMode::Primary, "{}", world.story());
    let moved = |note: &&Note| matches!(note, Note::ReplicationMoved(_));
    assert_eq!(world.notes[0].iter().filter(moved).count(), 1, "{}", world.story());
    world.heal_and_check(30 * SECOND);
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Fence),
        Just(Step::Promote),
        Just(Step::Mount),
        Just(Step::StartMail),
        Just(Step::ClaimVips),
        Just(Step::StopMail),
        Just(Step::Unmount),
        Just(Step::Demote),
        Just(Step::ReleaseVips),
        Just(Step::Initialise),
        Just(Step::Outdate),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => Just(Command::Failover),
        2 => Just(Command::Restore),
        1 => Just(Command::Restart),
        1 => Just(Command::Reboot),
    ]
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let unit = 0..2usize;
    let link = 0..2usize;
    prop_oneof![
        4 => unit.clone().prop_map(Fault::PowerCut),
        5 => unit.clone().prop_map(Fault::PowerRestore),
        4 => (link.clone(), any::<bool>()).prop_map(|(link, up)| Fault::Link(link, up)),
        2 => (unit.clone(), link, any::<bool>()).prop_map(|(unit, link, deaf)| Fault::OneWay(unit, link, deaf)),
        2 => (unit.clone(), any::<bool>()).prop_map(|(unit, up)| Fault::Service(unit, up)),
        1 => (0..60u8).prop_map(Fault::Loss),
        1 => (unit.clone(), 0..40 * SECOND).prop_map(|(unit, time)| Fault::Freeze(unit, time)),
        1 => (unit.clone(), 0..4000 * SECOND).prop_map(|(unit, by)| Fault::ClockAhead(unit, by)),
        2 => unit.clone().prop_map(Fault::KillSupervisor),
        3 => (unit.clone(), any_step()).prop_map(|(unit, step)| Fault::FailStep(unit, step)),
        4 => (unit, any_command()).prop_map(|(unit, command)| Fault::Operator(unit, command)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Whatever happens: no invariant breaks, and once everything is repaired the pair is whole and nothing is lost.
    #[test]
    fn any_story_ends_well(
        seed in any::<u32>(),
        fast_detect in prop::bool::weighted(0.8),
        third_party in prop::bool::weighted(0.8),
        restore_role in prop::bool::weighted(0.2),
        story in prop::collection::vec((0..25_000_000u64, any_fault()), 1..24),
    ) {
        let mut world = World::in_sync_with(u64::from(seed), |settings| {
            settings.fast_detect = fast_detect;
            settings.third_party = third_party;
            settings.on_failure = if restore_role { OnFailure::RestoreRole } else { OnFailure::BecomeSecondary };
        });
        for (pause, fault) in story {
            world.apply(fault);
            world.run(pause.max(1));
        }
        world.heal_and_check(400 * SECOND);
    }
}
