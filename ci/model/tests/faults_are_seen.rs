//! Deliberate faults of the protocol: the properties of the model see each of them, and see none without.

use stateright::{Checker, Expectation, Model};
use twinpost_model::{Budget, Mutation, Pair};

/// Names of the properties that do not hold.
fn violated(mutation: Option<Mutation>, budget: Budget) -> Vec<&'static str> {
    let checker = Pair { budget, mutation }.checker().spawn_bfs().join();
    let properties = checker.model().properties();
    let always = properties.iter().filter(|property| property.expectation == Expectation::Always);
    always.map(|property| property.name).filter(|name| checker.discovery(name).is_some()).collect()
}

const SPLIT: Budget = Budget { crashes: 0, cuts: 2, isolations: 1, drops: 0, switches: 0, messages: 2 };
const LOST: Budget = Budget { crashes: 1, cuts: 1, isolations: 0, drops: 1, switches: 0, messages: 1 };

#[test]
fn without_a_fault_everything_holds() {
    for budget in [SPLIT, LOST] {
        assert_eq!(violated(None, budget), Vec::<&str>::new());
    }
}

#[test]
fn a_primary_that_does_not_ask_is_seen() {
    let seen = violated(Some(Mutation::SkipFence), LOST);
    assert!(seen.contains(&"nothing stale promoted, nothing unpassed discarded"), "{seen:?}");
}

#[test]
fn promotion_of_outdated_data_is_seen() {
    let seen = violated(Some(Mutation::PromoteOutdated), LOST);
    assert!(seen.contains(&"nothing stale promoted, nothing unpassed discarded"), "{seen:?}");
}

#[test]
fn the_wrong_order_of_epochs_is_seen() {
    assert!(!violated(Some(Mutation::CompareEpochsWrongly), SPLIT).is_empty());
}

#[test]
fn a_copy_given_up_too_early_is_seen() {
    let split = Budget { crashes: 0, cuts: 2, isolations: 2, drops: 0, switches: 0, messages: 2 };
    let seen = [SPLIT, split, LOST].map(|budget| violated(Some(Mutation::DiscardUnpassed), budget)).concat();
    assert!(seen.contains(&"nothing stale promoted, nothing unpassed discarded"), "{seen:?}");
}
