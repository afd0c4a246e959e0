//! The terminal that commands come from: raw and without echo for machines, a prompt with the host name for people.

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::io::IsTerminal;

/// Where the kernel tells the host name (proc(5)).
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Makes a terminal on standard input a plain byte stream: no echo, no line editing, no signals. Nothing to do elsewhere.
pub fn quieten() -> std::io::Result<()> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(());
    }
    let mut settings = tcgetattr(&input)?;
    settings.make_raw();
    Ok(tcsetattr(&input, OptionalActions::Now, &settings)?)
}

/// `<host> # `.
pub fn prompt() -> String {
    let name = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    format!("{name} # ")
}
