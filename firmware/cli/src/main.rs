//! `twinpostctl`, the operator's face of the supervisor: one command as arguments, or one command a line from standard
//! input. Knows the api and nothing else of the supervisor; decides nothing and keeps nothing.
//!
//! ```text
//! twinpostctl get system ha status      one command; exit 0 done, 1 refused, 2 not a command, 3 no supervisor
//! twinpostctl                           a command a line, answers as text (the board's console)
//! twinpostctl --json                    a command a line, exactly one JSON line as answer (the board's machine console)
//! ```
//!
//! Follows ARCHITECTURE.md, "Machine console", and the verbs of `spec/ha.md` section 4.
#![forbid(unsafe_code)]

mod command;
mod connection;
mod render;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use command::{Command, View};
use std::io::{BufRead, IsTerminal, Read, Write};
use twinpost_api::{Reply, Request};

/// Longest command line, bytes: the longest command has a dozen words.
const LINE_BYTES_MAX: usize = 4096;

const USAGE: &str = "\
usage: twinpostctl [--json] [COMMAND WORDS...]

With a command: runs it and ends. Without: reads one command a line from standard input.
--json    answers with one JSON line for each command, without prompt and without echo; at the beginning of a command
          line: answers that one command so

exit codes: 0 done, 1 refused (nothing was changed), 2 not a command, 3 the supervisor cannot be reached";

/// Exit codes, as `--help` documents them.
const DONE: i32 = 0;
const REFUSED: i32 = 1;
const NOT_A_COMMAND: i32 = 2;
const NO_SUPERVISOR: i32 = 3;

fn main() {
    let mut words: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let json = words.first().is_some_and(|word| word == "--json");
    if json {
        words.remove(0);
    }
    let code = match words.first().map(String::as_str) {
        Some("--help" | "-h") => say(&format!("{USAGE}\n\n{}\n", command::help())).map_or(REFUSED, |()| DONE),
        Some(word) if word.starts_with('-') => {
            eprintln!("twinpostctl: unknown option {word:?}\n{USAGE}");
            NOT_A_COMMAND
        }
        Some(_) => once(&words, json),
        None => console(json),
    };
    std::process::exit(code);
}

/// One command given as arguments.
fn once(words: &[String], json: bool) -> i32 {
    let words: Vec<_> = words.iter().flat_map(|word| word.split_ascii_whitespace()).collect();
    let (answer, code) = answer(&words);
    let printed = say(&format!("{}\n", text(&answer, json)));
    if printed.is_err() { REFUSED } else { code }
}

/// Commands from standard input until it ends.
fn console(json: bool) -> i32 {
    if json && let Err(error) = terminal::quieten() {
        eprintln!("twinpostctl: the terminal cannot be set up: {error}");
        return REFUSED;
    }
    let prompt = !json && std::io::stdin().is_terminal();
    let mut input = std::io::stdin().lock();
    loop {
        if prompt && say(&terminal::prompt()).is_err() {
            return REFUSED;
        }
        let line = match read_line(&mut input) {
            Ok(Some(line)) => line,
            Ok(None) => return DONE,
            Err(error) => {
                eprintln!("twinpostctl: the console cannot be read: {error}");
                return REFUSED;
            }
        };
        let answer = match &line {
            Line::Text(line) if line.trim().is_empty() && !json => continue,
            Line::Text(line) => answer(&command_words(line).1).0,
            Line::Bad(why) => Answer::Reply(refused((*why).into())),
        };
        let json = json || matches!(&line, Line::Text(line) if command_words(line).0);
        if say(&format!("{}\n", text(&answer, json))).is_err() {
            return REFUSED;
        }
    }
}

/// The words of a command line, and whether it asks for an answer in JSON: a program on the operator's console.
fn command_words(line: &str) -> (bool, Vec<&str>) {
    let mut words: Vec<_> = line.split_ascii_whitespace().collect();
    let json = words.first() == Some(&"--json");
    if json {
        words.remove(0);
    }
    (json, words)
}

/// What a command is answered with.
enum Answer {
    Reply(Reply),
    Look(View, Reply),
    Help(String),
}

/// Runs one command; the exit code says how it went.
fn answer(words: &[&str]) -> (Answer, i32) {
    let (request, view) = match command::parse(words) {
        Ok(Command::Help) => return (Answer::Help(command::help()), DONE),
        Ok(Command::Request(request)) => (request, None),
        Ok(Command::Look(view)) => (Request::Status, Some(view)),
        Err(error) => return (Answer::Reply(refused(error.to_string())), NOT_A_COMMAND),
    };
    match connection::ask(&request) {
        Ok(reply @ Reply::Refused { .. }) => (Answer::Reply(reply), REFUSED),
        Ok(reply) => (
            view.map_or_else(|| Answer::Reply(reply.clone()), |view| Answer::Look(view, reply.clone())),
            DONE,
        ),
        Err(error) => (Answer::Reply(refused(connection::explain(&error))), NO_SUPERVISOR),
    }
}

fn refused(message: String) -> Reply {
    Reply::Refused { message }
}

fn text(answer: &Answer, json: bool) -> String {
    match answer {
        Answer::Help(text) if !json => text.clone(),
        Answer::Help(text) => to_json(&Reply::Accepted { message: text.clone() }),
        Answer::Reply(reply) if !json => render::reply(reply),
        Answer::Look(view, Reply::Status(status)) if !json => view::text(*view, status),
        Answer::Look(_, reply) if !json => render::reply(reply),
        Answer::Reply(reply) | Answer::Look(_, reply) => to_json(reply),
    }
}

fn to_json(reply: &Reply) -> String {
    serde_json::to_string(reply)
        .expect("replies have string keys and no failing fields, so they always serialise")
}

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text(String),
    /// Not usable, and why; it was read to its end.
    Bad(&'static str),
}

/// The next line; a line that is too long is read to its end and dropped. `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    if input.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.len() == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
        while !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.clear();
            input.by_ref().take(limit).read_until(b'\n', &mut bytes)?;
        }
        return Ok(Some(Line::Bad("the line is too long; allowed: at most 4096 bytes")));
    }
    Ok(Some(match String::from_utf8(bytes) {
        Ok(text) => Line::Text(text),
        Err(_) => Line::Bad("the line is not UTF-8 text; allowed: a command, or help"),
    }))
}

/// Writes to standard output at once.
fn say(text: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}
