//! One contract suite for every implementation of the `hal` traits: each function drives a device through the outcomes
//! that the trait promises and panics with the broken promise. Used by the tests of `hal/linux` and `hal/sim`.
//!
//! The caller passes a closure that changes the world (plugs, pulls): the suite cannot know how.
#![forbid(unsafe_code)]

use core::time::Duration;
use twinpost_hal::{Drive, ErrorKind, HardwareError, Health, Led, Pattern, Port, Watchdog};

/// What the world shall be for the next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// The device is there; a cable is plugged.
    Plugged,
    /// The device is there; a port has no signal.
    Unplugged,
    /// The device is gone.
    Gone,
    /// The device is there and refuses its work.
    Broken,
}

/// A port follows its cable and says `Absent` when it is gone.
///
/// # Panics
/// On a broken promise.
pub fn port<P: Port>(port: &P, mut world: impl FnMut(World)) {
    let name = port.name().to_owned();
    world(World::Plugged);
    assert!(port.carrier().expect("a port that is there tells its carrier"), "plugged");
    let mac = port.mac().expect("a port that is there has an address");
    world(World::Unplugged);
    assert!(!port.carrier().expect("no signal is not an error"), "unplugged");
    assert_eq!(port.mac().expect("the address does not need a signal"), mac, "the address does not change");
    world(World::Gone);
    assert_kind(port.carrier(), ErrorKind::Absent);
    assert_kind(port.mac(), ErrorKind::Absent);
    world(World::Plugged);
    assert!(port.carrier().expect("a port may come back"));
    assert_eq!(port.name(), name, "the name never changes");
}

/// A drive tells its identity and can be exercised again and again; a broken one refuses, and is mended by what comes after; a
/// pulled one is not present and `Absent`.
///
/// # Panics
/// On a broken promise.
pub fn drive<D: Drive>(drive: &mut D, mut world: impl FnMut(World)) {
    world(World::Plugged);
    assert!(drive.present().expect("presence can be asked"));
    let identity = drive.identity().expect("a drive that is there has an identity");
    assert!(identity.bytes > 0, "size");
    assert_eq!(drive.identity().expect("again"), identity, "identity does not change");
    for _ in 0..3 {
        drive.exercise().expect("a drive that works reads what was written");
    }
    assert_ne!(drive.health().expect("a drive that is there can be asked"), Health::Failing, "a new drive");
    world(World::Broken);
    assert!(drive.present().expect("a broken drive is there"));
    assert_kind(drive.exercise(), ErrorKind::Failed);
    world(World::Plugged);
    drive.exercise().expect("works again");
    world(World::Gone);
    assert_kind(drive.exercise(), ErrorKind::Absent);
    assert_kind(drive.health(), ErrorKind::Absent);
    assert!(!drive.present().expect("a pulled drive is not an error"));
    assert_kind(drive.identity(), ErrorKind::Absent);
    world(World::Plugged);
    assert_eq!(drive.identity().expect("the same drive came back"), identity);
    assert!(!drive.label().is_empty());
}

/// An LED takes every pattern from every pattern; only blinking may be unsupported.
///
/// # Panics
/// On a broken promise.
pub fn led<L: Led>(led: &mut L, mut shows: impl FnMut() -> Option<Pattern>) {
    for from in Pattern::ALL {
        for to in Pattern::ALL {
            for pattern in [from, to] {
                match led.set(pattern) {
                    Ok(()) => {
                        if let Some(shown) = shows() {
                            assert_eq!(shown, pattern, "what was set is shown");
                        }
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                        assert!(pattern.half_period().is_some(), "steady patterns are always supported");
                    }
                }
            }
        }
    }
}

/// A watchdog is armed, petted, re-armed and disarmed in every order that the trait allows.
///
/// # Panics
/// On a broken promise.
pub fn watchdog<W: Watchdog>(watchdog: &mut W, mut counting: impl FnMut() -> Option<bool>) {
    let mut expect = |state: bool| {
        if let Some(is) = counting() {
            assert_eq!(is, state, "countdown runs exactly while armed");
        }
    };
    assert_kind(watchdog.pet(), ErrorKind::Unsupported);
    watchdog.disarm().expect("disarming what is not armed does nothing");
    expect(false);
    let timeout = watchdog.arm(Duration::from_secs(30)).expect("arms");
    assert!(timeout > Duration::ZERO, "a timeout in force");
    expect(true);
    watchdog.pet().expect("pets while armed");
    watchdog.arm(Duration::from_secs(10)).expect("re-arms while armed");
    watchdog.pet().expect("pets after re-arming");
    expect(true);
    watchdog.disarm().expect("disarms");
    expect(false);
    assert_kind(watchdog.pet(), ErrorKind::Unsupported);
    watchdog.arm(Duration::from_secs(10)).expect("arms again");
    expect(true);
    watchdog.disarm().expect("disarms again");
}

fn assert_kind<T: core::fmt::Debug, E: HardwareError>(result: Result<T, E>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("expected {kind:?}, got {value:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}
