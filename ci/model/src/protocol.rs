//! The rules: what a unit may do by what it knows, in the words of `firmware/ha` (verdict, roles, fence, arbitration, switch,
//! replication) and of DRBD. Time is left out: whatever may happen may happen at any moment, but for the one argument that is about time
//! (see [`may_go_alone`]). What the environment may do is in `model`.

use crate::model::{Act, Mutation};
use crate::state::{Compared, Ground, Role, World};

/// All that this unit may do now.
pub fn acts(world: &World, unit: usize, mutation: Option<Mutation>, acts: &mut Vec<Act>) {
    let own = &world.units[unit];
    if !own.running {
        return;
    }
    let report = world.report(unit);
    let peer = &world.units[1 - unit];
    if world.carries() && peer.view != Some(report) && world.sent[unit] != Some(report) {
        acts.push(Act::Send(unit));
    }
    if world.sent[1 - unit].is_some() {
        acts.push(Act::Hear(unit));
    }
    if own.view.is_some() && world.sent[1 - unit].is_none() && !world.carries() {
        acts.push(Act::FallSilent(unit));
    }
    roles(world, unit, mutation, acts);
    if own.frozen && may_go_alone(world, unit, mutation) {
        acts.push(Act::GoAlone(unit));
    }
    if wants_outdate(world, unit) {
        acts.push(Act::Outdate(unit));
    }
    hand_over(world, unit, mutation, acts);
    if own.promoted && !own.frozen && world.budget.messages > 0 && (!world.connected || world.carries()) {
        acts.push(Act::Store(unit));
    }
}

/// Ways into the role and out of it.
fn roles(world: &World, unit: usize, mutation: Option<Mutation>, acts: &mut Vec<Act>) {
    let own = &world.units[unit];
    match own.role {
        Role::Off | Role::Secondary => {
            if let Some(ground) = ground(world, unit, mutation) {
                acts.push(Act::Begin(unit, ground));
            }
            if finds_service(world, unit) {
                acts.push(Act::Yield(unit));
            }
            if own.role == Role::Off && own.view.is_some() && world.connected {
                acts.push(Act::Follow(unit));
            }
        }
        Role::Taking(_) => acts.push(Act::Promote(unit)),
        Role::Primary => {
            if own.view.is_some_and(|view| view.primary && !outranks(world, unit, view.epoch, mutation)) {
                acts.push(Act::GiveWay(unit));
            }
            // The silent peer claims the addresses: it took over after the silence began.
            let newer = world.units[1 - unit].disk.epoch > own.disk.epoch;
            if own.view.is_none() && world.sees(unit) && world.units[1 - unit].promoted && newer {
                acts.push(Act::Yield(unit));
            }
            let able = own.view.is_some_and(|view| !view.unusable && !view.primary);
            if world.budget.switches > 0 && world.connected && world.source.is_none() && able {
                acts.push(Act::Switch(unit));
            }
        }
        Role::HandingOver => {
            if own.view.is_some_and(|view| view.primary) {
                acts.push(Act::Follow(unit));
            } else {
                acts.push(Act::TakeBack(unit));
            }
        }
    }
}

/// On what this unit could begin its way into the role.
fn ground(world: &World, unit: usize, mutation: Option<Mutation>) -> Option<Ground> {
    let own = &world.units[unit];
    if !world.is_current(unit) && mutation != Some(Mutation::PromoteOutdated) {
        return None;
    }
    let Some(view) = own.view else {
        // Silence may be the own isolation, unless this unit boots alone with the newest data.
        let on_network = world.service[unit] || !own.heard;
        let dead = world.is_silent(unit) && on_network && !own.yielded && !finds_service(world, unit);
        return dead.then_some(Ground::Fence);
    };
    if view.primary {
        return None;
    }
    if world.connected {
        return Some(Ground::Connected);
    }
    let first = outranks(world, unit, view.epoch, None);
    (view.unusable || world.compare(unit) == Compared::Diverged && first).then_some(Ground::Fence)
}

/// The probe before the claim finds the silent peer's mail service on the virtual IP.
fn finds_service(world: &World, unit: usize) -> bool {
    world.is_silent(unit) && world.sees(unit) && world.units[1 - unit].promoted && !world.units[unit].yielded
}

/// The higher epoch, then the configured primary. Tied to the real code by `tests/tied.rs`.
pub fn outranks(world: &World, unit: usize, peer_epoch: u8, mutation: Option<Mutation>) -> bool {
    let order = (world.units[unit].disk.epoch, unit == 0).cmp(&(peer_epoch, unit == 1));
    if mutation == Some(Mutation::CompareEpochsWrongly) { order.is_lt() } else { order.is_gt() }
}

/// May a primary without replication go on alone? With proof of death, or when the peer has outdated itself, or when a silent peer whose
/// kernel answers has had time to decide. That last one is an argument about time: the threshold and ten seconds are longer than the
/// standby needs to find this unit's service and yield, or to claim within eight seconds (ARCHITECTURE.md). Here it is taken as
/// given and checked by the simulator: the peer has yielded, or could not take over.
fn may_go_alone(world: &World, unit: usize, mutation: Option<Mutation>) -> bool {
    if mutation == Some(Mutation::SkipFence) {
        return true;
    }
    let own = &world.units[unit];
    if let Some(view) = own.view {
        return !view.primary && view.unusable && !world.connected;
    }
    if !world.is_silent(unit) || !world.service[unit] {
        return false;
    }
    let peer = &world.units[1 - unit];
    let takes = peer.promoted || matches!(peer.role, Role::Taking(_));
    // A unit that is cut off from everything looks dead, too; it cannot take over while it is.
    !peer.running || !takes && (!world.sees(unit) || peer.yielded || !world.is_current(1 - unit))
}

/// A primary that is heard but not replicated from goes on alone, or asks for leave to do so.
fn wants_outdate(world: &World, unit: usize) -> bool {
    let own = &world.units[unit];
    let told = own.view.is_some_and(|view| view.primary && (view.alone || view.asks_to_outdate));
    let follows = matches!(own.role, Role::Off | Role::Secondary) && !own.promoted;
    told && follows && !world.connected && !own.disk.outdated
}

/// Diverged copies: pass on, then give up.
fn hand_over(world: &World, unit: usize, mutation: Option<Mutation>, acts: &mut Vec<Act>) {
    let own = &world.units[unit];
    let peer = &world.units[1 - unit];
    let loses = matches!(own.role, Role::Off | Role::Secondary) && own.view.is_some_and(|view| view.primary);
    let meets = world.carries() && peer.promoted && !world.connected;
    if !loses || !meets || world.compare(unit) != Compared::Diverged {
        return;
    }
    let left = own.disk.stored & !own.confirmed;
    if left != 0 && !peer.frozen {
        acts.push(Act::Pass(unit));
    }
    if left == 0 || mutation == Some(Mutation::DiscardUnpassed) {
        acts.push(Act::Discard(unit));
    }
}
