//! The model that stateright explores: what the environment may do, what each act changes, what must hold.

use crate::protocol;
use crate::state::{Budget, Compared, Ground, Role, World};
use stateright::{Model, Property};

/// More data generations than so few faults can cause; the history of a disk has a bit for each.
const GENERATIONS_MAX: u8 = 15;

/// The same of epochs.
const EPOCHS_MAX: u8 = 15;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Power is cut, comes back.
    Crash(usize),
    /// The other half.
    Boot(usize),
    /// A heartbeat link is cut, heals.
    Cut,
    /// The other half.
    Heal,
    /// A service port is cut, heals.
    Isolate(usize),
    /// The other half.
    Rejoin(usize),
    /// The replication connection is lost although the links carry.
    Drop,
    /// Replication notices that nothing carries it.
    Notice,
    /// Replication connects.
    Connect,
    /// A resynchronisation ends.
    SyncEnd,
    /// A heartbeat is sent; one that was under way is lost.
    Send(usize),
    /// A heartbeat arrives.
    Hear(usize),
    /// Silence for the threshold.
    FallSilent(usize),
    /// Begins the way into the role: replication is cut if it fences. An epoch that was stored in vain leaves no trace here, for it
    /// would make the states endless.
    Begin(usize, Ground),
    /// Promotes, or gives up because its ground is gone.
    Promote(usize),
    /// Becomes SECONDARY.
    Follow(usize),
    /// A silent peer serves: gives up what it holds, outdates itself.
    Yield(usize),
    /// Loses the arbitration.
    GiveWay(usize),
    /// A fence question is answered: goes on alone.
    GoAlone(usize),
    /// Marks its copy outdated.
    Outdate(usize),
    /// Orderly switch.
    Switch(usize),
    /// The peer did not take the role.
    TakeBack(usize),
    /// A client's message is stored and acknowledged.
    Store(usize),
    /// One message is handed over and confirmed.
    Pass(usize),
    /// Connects and gives the own copy up.
    Discard(usize),
}

/// A deliberate fault of the protocol, to show that the properties see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A frozen primary goes on without asking.
    SkipFence,
    /// Outdated data is good enough.
    PromoteOutdated,
    /// The lower epoch stays.
    CompareEpochsWrongly,
    /// The loser connects before everything was passed on.
    DiscardUnpassed,
}

/// The pair with its bounds.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What may go wrong.
    pub budget: Budget,
    /// A deliberate fault.
    pub mutation: Option<Mutation>,
}

impl Model for Pair {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::in_sync(self.budget)]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        if world.broken.is_some() {
            return;
        }
        environment(world, acts);
        self.own_acts(world, acts);
    }

    fn next_state(&self, last: &World, act: Act) -> Option<World> {
        let mut world = last.clone();
        apply(&mut world, act);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one writer a data generation", |_, world: &World| {
                let [a, b] = &world.units;
                let writes = |unit: &crate::state::Unit| unit.promoted && !unit.frozen;
                !(writes(a) && writes(b) && a.disk.generation == b.disk.generation)
            }),
            Property::always("no acknowledged message lost", |_, world: &World| {
                world.acknowledged & !(world.units[0].disk.stored | world.units[1].disk.stored) == 0
            }),
            Property::always("nothing stale promoted, nothing unpassed discarded", |_, world: &World| {
                world.broken.is_none()
            }),
            Property::always(
                "at rest and whole: one primary that has every message",
                |pair: &Pair, world: &World| {
                    let mut acts = Vec::new();
                    pair.own_acts(world, &mut acts);
                    !world.is_whole() || !acts.is_empty() || world.broken.is_some() || is_served(world)
                },
            ),
            Property::sometimes("both write, on two generations", |_, world: &World| {
                world.units.iter().all(|unit| unit.promoted && !unit.frozen)
            }),
            Property::sometimes("a hand-over is interrupted by a power cut", |_, world: &World| {
                world.units.iter().any(|unit| unit.confirmed != 0 && unit.running)
                    && world.units.iter().any(|unit| !unit.running)
            }),
            Property::sometimes("a unit yields to a silent peer", |_, world: &World| {
                world.units.iter().any(|unit| unit.yielded)
            }),
            Property::sometimes("an orderly switch ends", |_, world: &World| {
                world.units[1].role == Role::Primary && world.connected && world.units[0].running
            }),
        ]
    }
}

impl Pair {
    fn own_acts(&self, world: &World, acts: &mut Vec<Act>) {
        for unit in 0..2 {
            protocol::acts(world, unit, self.mutation, acts);
        }
        if world.connected && !world.carries() {
            acts.push(Act::Notice);
        }
        if can_connect(world) {
            acts.push(Act::Connect);
        }
        if world.connected && world.source.is_some() && world.carries() {
            acts.push(Act::SyncEnd);
        }
    }
}

/// One primary writes, and has everything that was acknowledged.
fn is_served(world: &World) -> bool {
    let mut writers = world.units.iter().filter(|unit| unit.promoted && !unit.frozen);
    let only = writers.next().filter(|_| writers.next().is_none());
    only.is_some_and(|unit| world.acknowledged & !unit.disk.stored == 0)
}

fn environment(world: &World, acts: &mut Vec<Act>) {
    let budget = &world.budget;
    for unit in 0..2 {
        match (world.units[unit].running, budget.crashes) {
            (false, _) => acts.push(Act::Boot(unit)),
            (true, 1..) => acts.push(Act::Crash(unit)),
            (true, 0) => {}
        }
        match (world.service[unit], budget.isolations) {
            (false, _) => acts.push(Act::Rejoin(unit)),
            (true, 1..) => acts.push(Act::Isolate(unit)),
            (true, 0) => {}
        }
    }
    if world.links > 0 && budget.cuts > 0 {
        acts.push(Act::Cut);
    }
    if world.links < 2 {
        acts.push(Act::Heal);
    }
    if world.connected && budget.drops > 0 {
        acts.push(Act::Drop);
    }
}

/// Replication connects by itself unless that would overwrite something.
fn can_connect(world: &World) -> bool {
    let [a, b] = &world.units;
    let busy = |unit: &crate::state::Unit| unit.role == Role::Taking(Ground::Fence) || unit.view.is_none();
    if world.connected || !world.carries() || busy(a) || busy(b) || (a.promoted && b.promoted) {
        return false;
    }
    match world.compare(0) {
        Compared::Same => true,
        Compared::Newer => !b.promoted,
        Compared::Older => !a.promoted,
        Compared::Diverged => false,
    }
}

fn apply(world: &mut World, act: Act) {
    match act {
        Act::Crash(unit) => {
            world.budget.crashes -= 1;
            let disk = world.units[unit].disk;
            world.units[unit] = off(disk);
        }
        Act::Boot(unit) => {
            // Its old connection is refused by the new kernel, if it was not noticed before.
            disconnect(world);
            let mut disk = world.units[unit].disk;
            disk.peer_outdated &= !disk.outdated;
            let up_to_date = disk.peer_outdated && !disk.inconsistent;
            world.units[unit] = crate::state::Unit { running: true, up_to_date, ..off(disk) };
        }
        Act::Cut => {
            world.budget.cuts -= 1;
            world.links -= 1;
            world.apart |= world.links == 0;
        }
        Act::Heal => world.links += 1,
        Act::Isolate(unit) => {
            world.budget.isolations -= 1;
            world.service[unit] = false;
            world.apart = true;
        }
        Act::Rejoin(unit) => world.service[unit] = true,
        Act::Drop => {
            world.budget.drops -= 1;
            disconnect(world);
        }
        Act::Notice => disconnect(world),
        Act::Connect => connect(world),
        Act::SyncEnd => end_sync(world),
        Act::Send(unit) => world.sent[unit] = Some(world.report(unit)),
        Act::Hear(unit) => {
            let own = &mut world.units[unit];
            own.view = world.sent[1 - unit].take();
            own.heard = true;
            own.peer_epoch = own.view.map_or(own.peer_epoch, |view| view.epoch);
            own.yielded = false;
        }
        Act::FallSilent(unit) => world.units[unit].view = None,
        act => own_act(world, act),
    }
}

fn own_act(world: &mut World, act: Act) {
    match act {
        Act::Begin(unit, ground) => {
            let own = &mut world.units[unit];
            own.role = Role::Taking(ground);
            if ground == Ground::Fence {
                disconnect(world);
            }
        }
        Act::Promote(unit) => promote(world, unit),
        Act::Follow(unit) => world.units[unit].role = Role::Secondary,
        Act::Yield(unit) => {
            demote(world, unit, Role::Secondary);
            world.units[unit].yielded = true;
            world.units[unit].disk.outdated = true;
        }
        Act::GiveWay(unit) => demote(world, unit, Role::Secondary),
        Act::GoAlone(unit) => {
            world.units[unit].frozen = false;
            world.units[unit].disk.peer_outdated = true;
            new_generation(world, unit);
        }
        Act::Outdate(unit) => world.units[unit].disk.outdated = true,
        Act::Switch(unit) => {
            world.budget.switches -= 1;
            demote(world, unit, Role::HandingOver);
        }
        Act::TakeBack(unit) => {
            let role = if world.connected { Role::Taking(Ground::Connected) } else { Role::Secondary };
            world.units[unit].role = role;
        }
        Act::Store(unit) => store(world, unit),
        Act::Pass(unit) => {
            let left = world.units[unit].disk.stored & !world.units[unit].confirmed;
            let message = left & left.wrapping_neg();
            world.units[1 - unit].disk.stored |= message;
            world.units[unit].confirmed |= message;
        }
        Act::Discard(unit) => {
            world.connected = true;
            begin_sync(world, 1 - unit);
        }
        _ => unreachable!("acts of the environment are done in `apply`"),
    }
}

fn off(disk: crate::state::Disk) -> crate::state::Unit {
    crate::state::Unit {
        running: false,
        role: Role::Off,
        view: None,
        heard: false,
        peer_epoch: 0,
        disk,
        up_to_date: false,
        promoted: false,
        frozen: false,
        yielded: false,
        confirmed: 0,
    }
}

fn new_generation(world: &mut World, unit: usize) {
    if world.generations == GENERATIONS_MAX {
        world.broken = Some("the role moved without end");
        return;
    }
    world.generations += 1;
    let disk = &mut world.units[unit].disk;
    disk.generation = world.generations;
    disk.history |= 1 << world.generations;
}

/// The connection ends: a promoted side freezes unless it knows that the other copy is old.
fn disconnect(world: &mut World) {
    if !std::mem::take(&mut world.connected) {
        return;
    }
    world.source = None;
    for unit in 0..2 {
        if !world.units[unit].promoted {
            continue;
        }
        if world.units[unit].disk.peer_outdated {
            new_generation(world, unit);
        } else {
            world.units[unit].frozen = true;
        }
    }
}

fn connect(world: &mut World) {
    world.connected = true;
    match world.compare(0) {
        Compared::Newer => begin_sync(world, 0),
        Compared::Older => begin_sync(world, 1),
        _ => {
            let inconsistent = world.units.map(|unit| unit.disk.inconsistent);
            match inconsistent {
                [true, false] => return begin_sync(world, 1),
                [false, true] => return begin_sync(world, 0),
                _ => {}
            }
            for unit in &mut world.units {
                unit.up_to_date = true;
                unit.disk.outdated = false;
                unit.disk.peer_outdated = false;
                unit.frozen = false;
            }
        }
    }
}

fn begin_sync(world: &mut World, source: usize) {
    let from = world.units[source];
    let to = &mut world.units[1 - source];
    if to.disk.stored & !from.disk.stored != 0 {
        world.broken = Some("a copy with messages that the other one lacks was overwritten");
    }
    if from.disk.inconsistent {
        world.broken = Some("an inconsistent copy is the source");
    }
    to.disk.inconsistent = true;
    to.disk.peer_outdated = false;
    to.up_to_date = false;
    to.confirmed = 0;
    let from = &mut world.units[source];
    from.up_to_date = true;
    from.frozen = false;
    from.disk.outdated = false;
    from.disk.peer_outdated = true;
    world.source = Some(source);
}

fn end_sync(world: &mut World) {
    let Some(source) = world.source.take() else { return };
    let from = world.units[source].disk;
    let to = &mut world.units[1 - source];
    to.disk = crate::state::Disk { epoch: to.disk.epoch, peer_outdated: false, ..from };
    to.up_to_date = true;
    world.units[source].disk.peer_outdated = false;
}

fn promote(world: &mut World, unit: usize) {
    let Role::Taking(ground) = world.units[unit].role else { return };
    let peer_primary = world.units[unit].view.is_some_and(|view| view.primary);
    let void = match ground {
        Ground::Connected => !world.connected || world.units[1 - unit].promoted || !world.is_current(unit),
        // Heard again before anything was promoted.
        Ground::Fence => peer_primary || world.units[unit].view.is_some_and(|view| !view.unusable),
    };
    let diverged = ground == Ground::Fence && world.compare(unit) == Compared::Diverged && !peer_primary;
    if void && !diverged {
        world.units[unit].role = Role::Off;
        return;
    }
    if world.units[unit].disk.outdated || world.units[unit].disk.inconsistent {
        world.broken = Some("a copy was promoted that is known to be old or is not whole");
    }
    if world.acknowledged & !world.units[unit].disk.stored != 0 && !world.apart {
        world.broken = Some("a copy was promoted that lacks an acknowledged message");
    }
    let own = &mut world.units[unit];
    own.role = Role::Primary;
    own.promoted = true;
    own.disk.epoch = own.disk.epoch.max(own.peer_epoch) + 1;
    if own.disk.epoch > EPOCHS_MAX {
        world.broken = Some("the role moved without end");
        return;
    }
    if !world.connected {
        world.units[unit].disk.peer_outdated = true;
        new_generation(world, unit);
    }
}

fn demote(world: &mut World, unit: usize, role: Role) {
    let own = &mut world.units[unit];
    own.promoted = false;
    own.frozen = false;
    own.role = role;
    own.confirmed = 0;
}

/// Acknowledged when it is on every copy that is connected.
fn store(world: &mut World, unit: usize) {
    let message = 1 << world.messages;
    world.messages += 1;
    world.budget.messages -= 1;
    world.acknowledged |= message;
    world.units[unit].disk.stored |= message;
    if world.connected {
        world.units[1 - unit].disk.stored |= message;
    }
}
