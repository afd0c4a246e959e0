//! A namespace that obeys: started under `unshare`, it makes itself at home and then does what its standard input says, one line
//! each, answered with one line. It knows nothing of what is measured.
//!
//! | line | what |
//! | --- | --- |
//! | `ip ARGUMENTS` | runs `ip` here |
//! | `start PROGRAM ARGUMENTS` | starts the program; its output lines come out among the answers |
//! | `tell LINE` | passes a line to the program |
//! | `cut` | all ports down in one go, then the program is killed: power is gone |

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

/// The ports of a unit, in the order in which a power cut takes them: the service first, for the outage begins there.
const PORTS: [&str; 3] = ["port1", "port3", "port4"];

/// Obeys until the end of its input.
pub fn enclose() -> anyhow::Result<ExitCode> {
    at_home()?;
    let mut home = Home { switch_off: None, program: None };
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        match home.obey(&line) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("error {line}: {error:#}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `/sys` of this namespace, for carriers are read there.
fn at_home() -> anyhow::Result<()> {
    run("mount", &["--make-rprivate", "/"])?;
    run("mount", &["-t", "sysfs", "sysfs", "/sys"])?;
    run("ip", &["link", "set", "lo", "up"])
}

struct Home {
    /// `ip -batch`, waiting for the cut: nothing must be started in that moment.
    switch_off: Option<Child>,
    program: Option<Child>,
}

impl Home {
    fn obey(&mut self, line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["ip", ref arguments @ ..] => run("ip", arguments).map(|()| String::new()),
            ["start", program, ref arguments @ ..] => self.start(program, arguments),
            ["tell", ref words @ ..] => self.tell(&words.join(" ")),
            ["cut"] => self.cut(),
            _ => bail!("no such order"),
        }
    }

    fn start(&mut self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        ensure!(self.program.is_none(), "a program runs already");
        let switch_off = Command::new("ip").args(["-force", "-batch", "-"]).stdin(Stdio::piped()).spawn();
        self.switch_off = Some(switch_off.context("cannot run ip")?);
        // A group of its own: keepalived consists of several processes.
        let program = Command::new(program).args(arguments).stdin(Stdio::piped()).process_group(0).spawn();
        self.program = Some(program.context("cannot start the program")?);
        Ok(String::new())
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<String> {
        let input = self.program.as_mut().and_then(|child| child.stdin.as_mut());
        // In one write: the program takes what it reads for whole lines.
        input.context("no program runs")?.write_all(format!("{line}\n").as_bytes())?;
        Ok(String::new())
    }

    /// Power is gone: first nothing of this unit is heard any more, then nothing runs. Answers when that began, in µs.
    fn cut(&mut self) -> anyhow::Result<String> {
        let begun = twinpost_net::rt::now();
        let mut switch_off = self.switch_off.take().context("nothing was started")?;
        let mut input = switch_off.stdin.take().context("ip has no input")?;
        let lines: String = PORTS.iter().map(|port| format!("link set {port} down\n")).collect();
        input.write_all(lines.as_bytes())?;
        drop(input);
        ensure!(switch_off.wait()?.success(), "a port could not be taken down");
        let down = twinpost_net::rt::now();
        self.kill();
        Ok(format!("{} {}", begun.0, down.since(begun).as_micros()))
    }

    fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            if let Some(group) = i32::try_from(program.id()).ok().and_then(Pid::from_raw) {
                let _gone_already = kill_process_group(group, Signal::KILL);
            }
            let _reaped = program.wait();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut waiting) = self.switch_off.take() {
            let _gone_already = waiting.kill();
            let _reaped = waiting.wait();
        }
    }
}

/// The lines that an enclosed program was told by now, without waiting for more than one; `None` at the end of its input. Not
/// through a buffer of lines, for the program polls its input and must not leave one behind.
pub fn told() -> anyhow::Result<Option<Vec<String>>> {
    // Longer than the few short lines that can wait; each is written in one go.
    let mut bytes = [0; 4096];
    let length = rustix::io::read(rustix::stdio::stdin(), &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    Ok((length > 0).then(|| text.lines().map(str::to_owned).collect()))
}

/// Runs a program to its end; its words are the error.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), words.trim());
    Ok(())
}
