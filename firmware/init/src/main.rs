//! PID 1 of the appliance, one binary for two stages: `/init` of the initrd brings up the verified root, `/sbin/init` of
//! that root boots and supervises (`spec/appliance.md` sections 2 and 3). `init --plan` prints what happens when.
//!
//! PID 1 never ends: a failed handler is reported and the loop goes on; a boot that cannot go on restarts the box, so that
//! the boot loader can try the other slot. It decides nothing about roles, addresses or volumes: that is `had`.
//!
//! `unsafe`: ioctls that rustix lacks (`partition.rs`, `network.rs`), `pre_exec` (`spawn.rs`) and the allocator
//! that waits (`allocator.rs`).
#![allow(clippy::disallowed_methods, reason = "PID 1 runs programs; it is an IO crate")]

mod alarm;
mod allocator;
mod board;
mod boot;
mod bootstate;
mod cmdline;
mod console;
mod control;
mod disk;
mod filesystem;
mod initrd;
mod layout;
mod modules;
mod mounts;
mod network;
mod output;
mod partition;
mod petting;
mod plan;
mod run;
mod service;
mod shutdown;
mod socket;
mod spawn;
mod supervise;
mod verity;

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Handlers that may fail in a row before the box is restarted: the state is beyond repair then.
const PANICS_MAX: u32 = 20;
/// Pause after a failed handler, so that a failure that repeats does not use up the box.
const PANIC_PAUSE: Duration = Duration::from_millis(500);

fn main() {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if !run::is_first() {
        std::process::exit(without_boot(&arguments.collect::<Vec<_>>()));
    }
    std::panic::set_hook(Box::new(|info| console::say(&format!("bug in init: {info}"))));
    let stage = if name == "/init" { initrd::run as fn() } else { root as fn() };
    let _ = catch_unwind(stage);
    console::pause(initrd::REBOOT_DELAY);
    loop {
        shutdown::force();
        console::pause(initrd::REBOOT_DELAY);
    }
}

/// Not PID 1: a person asks. Exit 0 = printed, 2 = wrong arguments.
fn without_boot(arguments: &[String]) -> i32 {
    if arguments == ["--plan"] {
        print!("{}", plan::text());
        return 0;
    }
    eprintln!("init is PID 1 of the appliance; the only use by hand is: init --plan");
    2
}

/// Boots and supervises; returns only when the box must be restarted.
fn root() {
    let booted = match catch_unwind(boot::run) {
        Ok(Ok(booted)) => booted,
        Ok(Err(name)) => return console::say(&format!("cannot boot without {name}: restarting in 10 s")),
        Err(_) => return console::say("boot failed: restarting in 10 s"),
    };
    let mut runner = match run::Runner::start(booted) {
        Ok(runner) => runner,
        Err(error) => return console::say(&format!("cannot receive signals ({error}): restarting in 10 s")),
    };
    console::phase("services");
    let mut panics = 0;
    while panics < PANICS_MAX {
        match catch_unwind(AssertUnwindSafe(|| runner.turn())) {
            Ok(()) => panics = 0,
            Err(_) => {
                panics += 1;
                console::pause(PANIC_PAUSE);
            }
        }
    }
    console::say("init fails again and again: restarting in 10 s");
}
