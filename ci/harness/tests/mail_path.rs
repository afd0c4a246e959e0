//! The mail client and the next hop against each other over the switch, without units: the bench must count right before it
//! judges anything.
#![allow(clippy::disallowed_methods, reason = "a test of the bench waits like the bench")]

use std::time::Duration;
use twinpost_harness::clock::{Micros, wait_until};
use twinpost_harness::host::{Host, HostSettings};
use twinpost_harness::mail::{Ledger, Load, LoadSettings, NextHop, Outages, Probe};
use twinpost_scenario::{Destination, LoadOrder};
use twinpost_switch::{Kind, Lan};

const CLIENT: HostSettings =
    HostSettings { mac: [2, 0, 0, 0, 0, 1], ip: std::net::Ipv4Addr::new(192, 0, 2, 1) };
const HOP: HostSettings =
    HostSettings { mac: [2, 0, 0, 0, 0, 25], ip: std::net::Ipv4Addr::new(192, 0, 2, 25) };
const STEP: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn every_acknowledged_message_is_delivered_once_and_a_cut_is_an_outage() {
    let lan = Lan::start(Kind::Switch, 1, None).unwrap();
    let ledger = Ledger::new("t1");
    let (load, outages) = (LoadSettings::default(), Outages::default());
    let hop_plug = lan.add_plug();
    let hop_port = hop_plug.id();
    let _hop = Host::start(HOP, hop_plug, vec![Box::new(NextHop::new(ledger.clone()))]);
    let client = Host::start(
        CLIENT,
        lan.add_plug(),
        vec![
            Box::new(Load::new(HOP.ip, ledger.clone(), load.clone(), outages.clone())),
            Box::new(Probe::new(HOP.ip, outages.clone())),
        ],
    );
    load.set(Some(LoadOrder { rate: 200.0, size: 3000, to: Destination::Relay }));
    assert!(wait_until(LIMIT, STEP, || ledger.summary().delivered >= 200), "{:?}", ledger.summary());
    assert!(
        outages.longest(Micros::now()) < Duration::from_millis(800),
        "{:?}",
        outages.longest(Micros::now())
    );
    assert_eq!(client.speaker(HOP.ip.into()).unwrap().0, HOP.mac);

    lan.set_faults(hop_port, |faults| faults.cut = true);
    std::thread::sleep(Duration::from_secs(1));
    lan.set_faults(hop_port, |faults| faults.cut = false);
    let before = ledger.summary().delivered;
    assert!(wait_until(LIMIT, STEP, || ledger.summary().delivered >= before + 100), "{:?}", ledger.summary());
    let outage = outages.longest(Micros::now());
    assert!((900..3000).contains(&outage.as_millis()), "{outage:?}");

    load.set(None);
    assert!(wait_until(LIMIT, STEP, || ledger.summary().lost == 0), "{:?}", ledger.summary());
    let sum = ledger.summary();
    assert_eq!((sum.lost, sum.duplicated, sum.in_flight), (0, 0, 0), "{sum:?}");
    assert!(sum.acknowledged >= 300, "{sum:?}");
}
