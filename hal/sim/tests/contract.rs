//! The simulated hardware passes the contract suite.
use twinpost_hal::Identity;
use twinpost_hal_contract::{self as contract, World};
use twinpost_hal_sim::{SimDrive, SimLed, SimPort, SimWatchdog};

#[test]
fn port() {
    let port = SimPort::new("port1", [2, 0, 0, 0, 0, 1]);
    let state = port.state();
    contract::port(&port, |world| {
        let mut state = state.borrow_mut();
        state.gone = world == World::Gone;
        state.carrier = world == World::Plugged;
    });
}

#[test]
fn drive() {
    let identity = Identity { model: "SIM".into(), serial: "1".into(), bytes: 1 << 30 };
    let mut drive = SimDrive::new("bay 1", identity.clone());
    let state = drive.state();
    contract::drive(&mut drive, |world| {
        let mut state = state.borrow_mut();
        state.medium = (world != World::Gone).then(|| identity.clone());
        state.broken = world == World::Broken;
    });
}

#[test]
fn led() {
    let mut led = SimLed::default();
    let shown = led.shown();
    contract::led(&mut led, || Some(*shown.borrow()));
}

#[test]
fn watchdog() {
    let mut watchdog = SimWatchdog::default();
    let state = watchdog.state();
    contract::watchdog(&mut watchdog, || Some(state.borrow().countdown.is_some()));
}
