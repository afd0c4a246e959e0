//! The handle of an enclosed program: what the bench says to it and hears of it. Dropping it ends the program and its namespace.

use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// An order is answered within this time.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A namespace and what runs in it.
pub struct Unit {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Lines that were read while another one was waited for.
    pub heard: Vec<String>,
}

impl Unit {
    /// A new namespace.
    pub fn enclose() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("no way to start this program again")?;
        let mut child = Command::new("unshare")
            .args(["--net", "--mount", "--"])
            .arg(own)
            .arg("enclose")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C ends the bench; the end of its input then ends this one in order.
            .process_group(0)
            .spawn()
            .context("cannot run unshare")?;
        let (sender, lines) = channel();
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let input = child.stdin.take();
        let tell = sender.clone();
        let output = output.context("no output")?;
        std::thread::spawn(move || forward(output, "", &sender));
        let errors = errors.context("no error output")?;
        std::thread::spawn(move || forward(errors, "stderr: ", &tell));
        let mut unit = Self { child, input, lines, heard: Vec::new() };
        unit.expect("ready", ANSWER_MAX)?;
        Ok(unit)
    }

    /// Process that is in the namespace.
    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Gives an order and waits until it is done.
    pub fn order(&mut self, line: &str) -> anyhow::Result<String> {
        writeln!(self.input.as_ref().context("input was taken")?, "{line}")?;
        let answer = self.expect_either("ok ", "error ", ANSWER_MAX)?;
        match answer.strip_prefix("ok ") {
            Some(words) => Ok(words.to_owned()),
            None => bail!("{answer}"),
        }
    }

    /// Waits for a line that begins so; what follows it is returned.
    pub fn expect(&mut self, begins: &str, limit: Duration) -> anyhow::Result<String> {
        let line = self.expect_either(begins, begins, limit)?;
        Ok(line[begins.len()..].to_owned())
    }

    fn expect_either(&mut self, one: &str, other: &str, limit: Duration) -> anyhow::Result<String> {
        let wanted = |line: &String| line.starts_with(one) || line.starts_with(other);
        if let Some(at) = self.heard.iter().position(wanted) {
            return Ok(self.heard.remove(at));
        }
        let end = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no `{one}` within {} s; heard: {:?}", limit.as_secs(), self.last_words())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("ended while `{one}` was waited for; heard: {:?}", self.last_words())
                }
            }
        }
    }

    /// Takes all lines that have come so far.
    pub fn drain(&mut self) -> Vec<String> {
        self.heard.extend(self.lines.try_iter());
        std::mem::take(&mut self.heard)
    }

    fn last_words(&self) -> &[String] {
        &self.heard[self.heard.len().saturating_sub(20)..]
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.input = None;
        let _ended = self.child.wait();
    }
}

fn forward(from: impl std::io::Read, prefix: &str, to: &std::sync::mpsc::Sender<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if to.send(format!("{prefix}{line}")).is_err() {
            return;
        }
    }
}
