//! The operator's words turned into requests: one table with every command, its help and its old forms. Pure; talks to
//! nobody.

use twinpost_api::{LOG_LINES_MAX, Request, STRESS_SECONDS_MAX, Stress, date};

/// Longest service name that is passed on, bytes: longer than any service of the appliance.
const SERVICE_BYTES_MAX: usize = 32;
/// Lines of the service log that are shown unless told: two screens.
const LOG_LINES_DEFAULT: u32 = 50;
/// Longest piece of the operator's input that an answer repeats, characters.
const SHOWN_CHARS_MAX: usize = 60;

/// What the operator wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// To be told to the supervisor.
    Request(Request),
    /// One view of the status.
    Look(View),
    /// The list of commands.
    Help,
}

/// Which part of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Data and configuration of both units.
    Sync,
    /// Both units in two lines.
    Cluster,
    /// Checksum of this unit's configuration, or of both.
    Checksums {
        /// Both.
        all: bool,
    },
}

/// Why words are not a command. Nothing was sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such command.
    #[error("unknown command {given}; allowed: {allowed}")]
    Unknown {
        /// The words, shortened.
        given: String,
        /// The commands that begin alike, or all.
        allowed: String,
    },
    /// A known command with a wrong argument.
    #[error("{argument}: {given} is refused; allowed: {allowed}")]
    Argument {
        /// Which argument.
        argument: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

type Make = fn(&[&str]) -> Result<Request, CommandError>;

/// Form as help prints it (`<…>` takes one word, `[…]` may be left out), what it does, how the request is made of the words.
const COMMANDS: &[(&str, &str, Make)] = &[
    ("get system ha status", "both units, links, volumes, virtual IPs, mail, alarms", |_| {
        Ok(Request::Status)
    }),
    ("diagnose system event list [<after>]", "event log, from record number <after> on", |words| {
        words.first().map_or(Ok(0), |word| number("<after>", word)).map(|after| Request::Events { after })
    }),
    (
        "diagnose system log [<lines>]",
        "last lines of the services of this unit, the mail log among them",
        |words| {
            words
                .first()
                .map_or(Ok(LOG_LINES_DEFAULT), |word| log_lines(word))
                .map(|lines| Request::Log { lines })
        },
    ),
    ("diagnose system ha failover", "orderly switch to the other unit", |_| Ok(Request::Failover)),
    ("diagnose system ha restore", "both units back to their configured modes", |_| Ok(Request::Restore)),
    ("diagnose system ha restart", "rejoin as configured", |_| Ok(Request::Restart)),
    ("diagnose system ha sync", "all data onto the drives of both units now", |_| Ok(Request::Sync)),
    ("execute ha restart", "the same", |_| Ok(Request::Restart)),
    ("execute ha force-primary", "take the role although the data may be stale: mail may be lost", |_| {
        Ok(Request::ForcePrimary)
    }),
    (
        "diagnose system ha queue list",
        "mail that only this unit's copy holds, and what was handed over",
        |_| Ok(Request::QueueList),
    ),
    (
        "diagnose system ha queue report",
        "mail since the last takeover: queued, handed over, delivered, at risk",
        |_| Ok(Request::QueueReport),
    ),
    ("diagnose system ha queue adopt", "pass it to the PRIMARY now", |_| Ok(Request::QueueAdopt)),
    ("diagnose system ha queue discard [confirm]", "give it up: what the PRIMARY lacks is lost", |words| {
        match words {
            [] => Ok(Request::QueueDiscard { confirmed: false }),
            ["confirm"] => Ok(Request::QueueDiscard { confirmed: true }),
            [other, ..] => {
                let given = shown(other);
                Err(CommandError::Argument { argument: "[confirm]", given, allowed: "confirm" })
            }
        }
    }),
    ("execute reboot", "planned restart of this unit", |_| Ok(Request::Reboot)),
    ("execute shutdown", "planned power-off of this unit", |_| Ok(Request::Shutdown)),
    ("execute date <YYYY-MM-DD> <HH:MM:SS>", "set the clock of this unit, UTC", |words| {
        let allowed = "a date of the years 2020 to 2099 and a time, UTC, such as 2026-07-31 23:59:00";
        let given = || shown(&words.join(" "));
        date::seconds(words[0], words[1])
            .map(|unix_s| Request::SetClock { unix_s })
            .ok_or_else(|| CommandError::Argument { argument: "<date>", given: given(), allowed })
    }),
    ("diagnose debug stress <kind> <seconds>", "load this unit: cpu, io or memory, for a burn-in", |words| {
        Ok(Request::Stress { kind: stress(words[0])?, seconds: stress_seconds(words[1])? })
    }),
    ("diagnose system process kill <service> <signal>", "signal a service; init starts it again", |words| {
        Ok(Request::Kill { service: service(words[0])?, signal: signal(words[1])? })
    }),
    ("diagnose system process start <service>", "start a service", |words| {
        Ok(Request::Service { service: service(words[0])?, start: true })
    }),
    ("diagnose system process stop <service>", "stop a service", |words| {
        Ok(Request::Service { service: service(words[0])?, start: false })
    }),
];

/// Views of the status.
const VIEWS: &[(&str, &str, View)] = &[
    ("diagnose system ha cluster-status", "both units in short", View::Cluster),
    ("diagnose system ha sync-status", "whether data and configuration of both units are alike", View::Sync),
    ("diagnose system ha showcsum", "checksum of this unit's configuration", View::Checksums { all: false }),
    (
        "diagnose system ha showcsum all",
        "checksums of both units' configurations",
        View::Checksums { all: true },
    ),
];

/// Older forms: accepted, not listed.
const OLD_FORMS: &[(&str, Request)] = &[
    ("set system ha restart", Request::Restart),
    ("set system ha restore", Request::Restore),
    ("set system ha takeover", Request::Failover),
    ("set system ha resync", Request::Sync),
];

/// Makes a command of words.
///
/// # Errors
/// Words that are no command, with the list of what is allowed.
pub fn parse(words: &[&str]) -> Result<Command, CommandError> {
    if matches!(words, ["help" | "?"]) {
        return Ok(Command::Help);
    }
    for (form, _, make) in COMMANDS {
        if let Some(arguments) = fits(form, words) {
            return make(arguments).map(Command::Request);
        }
    }
    let given = words.join(" ");
    if let Some((.., view)) = VIEWS.iter().find(|(form, ..)| *form == given) {
        return Ok(Command::Look(*view));
    }
    if let Some((_, request)) = OLD_FORMS.iter().find(|(form, _)| *form == given) {
        return Ok(Command::Request(request.clone()));
    }
    let given = if words.is_empty() { "(empty line)".into() } else { shown(&given) };
    Err(CommandError::Unknown { given, allowed: alike(words) })
}

/// All commands with what they do.
#[must_use]
pub fn help() -> String {
    let width = listed().map(|(form, _)| form.len()).max().unwrap_or(0);
    let mut lines: Vec<_> = listed().map(|(form, what)| format!("{form:width$}  {what}")).collect();
    lines.push(format!("{:width$}  this list", "help, ?"));
    lines.join("\n")
}

/// Every command that help lists, with what it does.
fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let commands = COMMANDS.iter().map(|(form, what, _)| (*form, *what));
    commands.chain(VIEWS.iter().map(|(form, what, _)| (*form, *what)))
}

/// The words in place of the arguments if the words have this form.
fn fits<'a, 'b>(form: &str, words: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let forms: Vec<_> = form.split(' ').collect();
    let fixed = forms.iter().position(|f| f.starts_with(['<', '['])).unwrap_or(forms.len());
    let optional = forms.iter().filter(|f| f.starts_with('[')).count();
    let count = forms.len() - optional..=forms.len();
    (words.get(..fixed)? == &forms[..fixed] && count.contains(&words.len())).then(|| &words[fixed..])
}

/// The commands that share the longest beginning with the words.
fn alike(words: &[&str]) -> String {
    let common = |form: &str| form.split(' ').zip(words).take_while(|(a, b)| a == *b).count();
    let best = listed().map(|(form, _)| common(form)).max().unwrap_or(0);
    let mut forms: Vec<_> = listed().map(|(form, _)| form).filter(|form| common(form) == best).collect();
    if best == 0 {
        forms.push("help");
    }
    forms.join("; ")
}

fn number(argument: &'static str, word: &str) -> Result<u64, CommandError> {
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let value = word.parse().ok().filter(|_| digits);
    value.ok_or_else(|| CommandError::Argument { argument, given: shown(word), allowed: "a whole number" })
}

fn service(word: &str) -> Result<String, CommandError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=SERVICE_BYTES_MAX).contains(&word.len()) && word.bytes().all(good) {
        return Ok(word.into());
    }
    let allowed = "a service as listed in: get system ha status";
    Err(CommandError::Argument { argument: "<service>", given: shown(word), allowed })
}

fn log_lines(word: &str) -> Result<u32, CommandError> {
    let lines = number("<lines>", word).ok().and_then(|lines| u32::try_from(lines).ok());
    let allowed = "1 to 500 lines";
    lines.filter(|lines| (1..=LOG_LINES_MAX).contains(lines)).ok_or_else(|| CommandError::Argument {
        argument: "<lines>",
        given: shown(word),
        allowed,
    })
}

fn stress(word: &str) -> Result<Stress, CommandError> {
    let kinds = [("cpu", Stress::Cpu), ("io", Stress::Io), ("memory", Stress::Memory)];
    let kind = kinds.into_iter().find(|(name, _)| *name == word).map(|(_, kind)| kind);
    let allowed = "cpu, io, memory";
    kind.ok_or_else(|| CommandError::Argument { argument: "<kind>", given: shown(word), allowed })
}

fn stress_seconds(word: &str) -> Result<u32, CommandError> {
    let value = number("<seconds>", word).ok().and_then(|n| u32::try_from(n).ok());
    let value = value.filter(|n| (1..=STRESS_SECONDS_MAX).contains(n));
    let allowed = "1 to 3600";
    value.ok_or_else(|| CommandError::Argument { argument: "<seconds>", given: shown(word), allowed })
}

/// By number or by name, as kill(1) takes them.
fn signal(word: &str) -> Result<u8, CommandError> {
    const NAMES: &[(&str, u8)] = &[
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
    ];
    let name = word.strip_prefix("SIG").unwrap_or(word);
    if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Ok(*number);
    }
    let value =
        number("<signal>", word).ok().and_then(|n| u8::try_from(n).ok()).filter(|n| (1..=31).contains(n));
    let allowed = "1 to 31, or HUP, INT, QUIT, ABRT, KILL, USR1, SEGV, USR2, TERM, CONT, STOP";
    value.ok_or_else(|| CommandError::Argument { argument: "<signal>", given: shown(word), allowed })
}

fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN_CHARS_MAX {
        out.push('…');
    }
    format!("\"{out}\"")
}
