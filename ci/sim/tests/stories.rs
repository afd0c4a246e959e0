//! Stories of the pair with a known end, each a scenario text; those that a random scenario found carry its lesson in their name.

use twinpost_scenario::parse;
use twinpost_sim::Simulator;

/// Name and lines after `group active-passive`.
const STORIES: &[(&str, &str)] = &[
    (
        "the secondary loses power, and the service does not move",
        "load smtp 10/s\nat 1s power cut b\nhold a PRIMARY for 10s\nexpect outage at-most 3s\nat 12s power restore b\n\
         expect whole within 60s\nhold a PRIMARY for 5s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "link 1 dies, replication moves, and does not move back by itself",
        "load smtp 10/s\nat 1s link cut a.port3\nhold a PRIMARY for 20s\nexpect event a replication-moved within 20s\n\
         expect outage at-most 8s\nat 22s link restore a.port3\nhold a PRIMARY for 20s\nexpect whole within 21s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "an isolated primary stays frozen and gives way",
        "load smtp 10/s\nat 1s link cut a.port1\nat 1s link cut a.port3\nat 1s link cut a.port4\nexpect b PRIMARY within 30s\n\
         expect vip b within 31s\nat 60s repair\nexpect whole within 90s\nhold b PRIMARY for 1s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "an isolated standby takes nothing",
        "load smtp 10/s\nat 1s link cut b.port1\nat 1s link cut a.port3\nat 1s link cut a.port4\nhold b SECONDARY for 60s\n\
         expect vip a within 70s\nat 62s repair\nexpect whole within 60s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "a switch whose other side cannot promote is taken back",
        "at 1s step fail b promote\ncli a \"diagnose system ha failover\"\nexpect event a switch-failed within 10s\nexpect a PRIMARY within 10s\nexpect whole within 20s",
    ),
    (
        "a switch whose other side cannot start mail is taken back",
        "at 1s step fail b start-mail\ncli a \"diagnose system ha failover\"\nexpect event a mode within 5s\nexpect a PRIMARY within 10s\nexpect whole within 20s",
    ),
    (
        "power fails while b resynchronises",
        "load smtp 10/s\nat 1s power cut b\nat 12s power restore b\nexpect event b replication within 20s\nat 1s power cut b\nhold a PRIMARY for 10s\n\
         at 1s repair\nexpect whole within 60s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "a planned reboot of the primary switches first",
        "load smtp 10/s\nat 1s reboot a\nexpect b PRIMARY within 5s\nexpect outage at-most 2s\nexpect whole within 60s\nhold b PRIMARY for 5s\n\
         expect ledger lost 0 duplicated 0",
    ),
    (
        "a frozen secondary does not take over when it comes back",
        "load smtp 10/s\nat 1s freeze b 60s\nhold a PRIMARY for 90s\nexpect whole within 100s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "clock jumps change nothing",
        "load smtp 10/s\nat 1s clock jump a +1h\nhold a PRIMARY for 5s\nat 1s clock jump b +1h\nhold b SECONDARY for 5s\nat 1s clock jump a -2h\n\
         hold a PRIMARY for 5s\nexpect outage at-most 1s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "a standby that is not heard knows that its data is old",
        "load smtp 10/s\nat 1s link oneway b.port3\nat 1s link oneway b.port4\nhold a PRIMARY for 60s\nat 1s power cut a\nhold b SECONDARY for 30s\n\
         at 1s repair\nexpect whole within 120s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "a restarted supervisor keeps the replication link",
        "load smtp 10/s\nat 1s link cut a.port3\nhold a PRIMARY for 20s\nat 1s link restore a.port3\nat 1s kill a had\nhold b SECONDARY for 20s\n\
         expect whole within 30s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "a supervisor that restarts in silence looks around first",
        "load smtp 10/s\nat 1s link cut a.port3\nat 1s link cut a.port4\nat 1s kill a had\nexpect b PRIMARY within 60s\nexpect vip b within 60s\n\
         hold b PRIMARY for 20s\nat 1s repair\nexpect whole within 90s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "a hung supervisor leaves no address behind and its machine is reset",
        "load smtp 10/s\nat 1s kill a had 19\nexpect b PRIMARY within 20s\nexpect whole within 120s\nhold b PRIMARY for 5s\nexpect ledger lost 0 duplicated 0",
    ),
    (
        "a drive that hangs moves the service",
        "set hard-drives-check enable\nload smtp 10/s\nat 1s disk hang a.system\nexpect b PRIMARY within 30s\nat 60s repair\nexpect whole within 120s\n\
         expect ledger lost 0 duplicated 0",
    ),
    (
        "a drive that fails moves the service",
        "set hard-drives-check enable\nload smtp 10/s\nat 1s disk fail a.system\nexpect b PRIMARY within 50s\nat 60s repair\nexpect whole within 120s\n\
         expect ledger lost 0 duplicated 0",
    ),
];

#[test]
fn stories_end_as_they_must() {
    let mut simulator = Simulator::default();
    let mut wrong = Vec::new();
    for (name, lines) in STORIES {
        let scenario = parse(name, &format!("group active-passive\n{lines}\n"))
            .unwrap_or_else(|error| panic!("{error}"));
        for seed in 0..20 {
            let outcome =
                simulator.run(&scenario, seed, true).unwrap_or_else(|error| panic!("{name}: {error}"));
            if let Some(failure) = outcome.failure {
                let tail = outcome.log[outcome.log.len().saturating_sub(30)..].join("\n");
                wrong.push(format!(
                    "{name}, seed {seed}: line {}: {}: {}\n{tail}",
                    failure.line, failure.text, failure.why
                ));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} stories went wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}
