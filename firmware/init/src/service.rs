//! The services as data (ARCHITECTURE.md "init's socket"). What happens with them is decided in `supervise.rs` and done
//! in `spawn.rs`.

use core::time::Duration;

/// One service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name on the socket, also of its control group.
    pub name: &'static str,
    /// Absolute path.
    pub program: &'static str,
    /// Arguments.
    pub arguments: &'static [&'static str],
    /// Environment besides [`ENVIRONMENT`].
    pub environment: &'static [(&'static str, &'static str)],
    /// When it runs.
    pub start: Start,
    /// What its descriptors 0 to 2 are.
    pub terminal: Terminal,
    /// Time between SIGTERM and SIGKILL.
    pub stop_time: Duration,
    /// Whether an exit with status 0 is normal (an operator leaving the console), not a failure.
    pub may_exit: bool,
    /// `oom_score_adj`: who dies last when memory runs out.
    pub oom_score: &'static str,
    /// Nice value, -20 to 19: who gets the processor first under load.
    pub nice: i32,
}

/// When a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Always.
    Boot,
    /// When asked.
    Asked,
}

/// What a service's descriptors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Nothing to read; output to the service log.
    Log,
    /// The board's console, for a person.
    Console,
    /// The board's screen, for a person. The service does not exist on a board without one.
    Screen,
    /// The board's machine console: raw, no echo. The service does not exist on a board without one.
    Machine,
}

/// Environment of every service.
pub const ENVIRONMENT: &[(&str, &str)] =
    &[("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/"), ("LANG", "C.UTF-8")];

/// Most services; the table and everything sized by it is bounded.
pub const SERVICES_MAX: usize = 8;

const LOGGED: Service = Service {
    name: "",
    program: "",
    arguments: &[],
    environment: &[],
    start: Start::Boot,
    terminal: Terminal::Log,
    stop_time: Duration::from_secs(2),
    may_exit: false,
    oom_score: "0",
    nice: 0,
};

/// All services in the order of their start; they stop in the reverse order.
pub const TABLE: &[Service] = &[
    Service {
        name: "had",
        program: "/usr/sbin/had",
        // Time to hand over is taken before init is asked to shut down.
        stop_time: Duration::from_secs(3),
        oom_score: "-900",
        // Mail under load must not keep it from proving that it is alive; its heartbeat thread is above all of this.
        nice: -10,
        ..LOGGED
    },
    Service {
        name: "console",
        program: "/usr/bin/twinpostctl",
        environment: &[("TERM", "vt100")],
        terminal: Terminal::Console,
        stop_time: Duration::from_millis(500),
        may_exit: true,
        ..LOGGED
    },
    Service {
        name: "machine",
        program: "/usr/bin/twinpostctl",
        arguments: &["--json"],
        terminal: Terminal::Machine,
        stop_time: Duration::from_millis(500),
        may_exit: true,
        ..LOGGED
    },
    Service {
        name: "postfix",
        program: "/usr/lib/postfix/sbin/master",
        arguments: &["-s", "-c", "/run/postfix/etc"],
        environment: &[("MAIL_CONFIG", "/run/postfix/etc")],
        start: Start::Asked,
        stop_time: Duration::from_secs(2),
        ..LOGGED
    },
    Service {
        name: "dovecot",
        program: "/usr/sbin/dovecot",
        arguments: &["-F", "-c", "/run/dovecot/etc/dovecot.conf"],
        start: Start::Asked,
        // Waits for its clients otherwise; an orderly switch has no time for that.
        stop_time: Duration::from_millis(100),
        ..LOGGED
    },
    Service {
        name: "screen",
        program: "/usr/bin/twinpostctl",
        environment: &[("TERM", "linux")],
        terminal: Terminal::Screen,
        stop_time: Duration::from_millis(500),
        may_exit: true,
        ..LOGGED
    },
];

/// Index of a service in [`TABLE`].
#[must_use]
pub fn index(name: &str) -> Option<usize> {
    TABLE.iter().position(|service| service.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sound() {
        assert!(TABLE.len() <= SERVICES_MAX);
        for (place, service) in TABLE.iter().enumerate() {
            assert_eq!(index(service.name), Some(place), "names are unique");
            assert!(service.program.starts_with('/'));
            assert!(service.stop_time <= Duration::from_secs(3), "the whole shutdown has 20 s");
        }
    }
}
