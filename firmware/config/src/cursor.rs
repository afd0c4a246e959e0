//! Walks over the statements of a script and remembers where each variable was set, so that a check of the whole can
//! point at the line to change. Knows verbs and blocks, not variables.

use crate::error::{Problem, ScriptError, shown};
use crate::model::SCRIPT_BYTES_MAX;
use crate::value::PortName;
use crate::words::{Word, words};
use std::collections::BTreeMap;

/// One statement: a line that is neither blank nor a comment; it has at least one word.
#[derive(Debug)]
pub(crate) struct Line {
    pub number: u32,
    pub words: Vec<Word>,
}

/// How a block was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// `next`: the entry is complete.
    Next,
    /// `end`: the section is complete.
    End,
}

/// The statements still to be read.
pub(crate) struct Cursor<'a> {
    pub ports: Vec<PortName>,
    lines: std::str::Lines<'a>,
    number: u32,
    places: BTreeMap<String, (u32, u32)>,
}

impl Line {
    /// The first word.
    pub fn verb(&self) -> &str {
        &self.words[0].text
    }

    /// Text of the word with this index, empty if there is none.
    pub fn text(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    /// An error at the word with this index; behind the last word if there is none.
    pub fn error(&self, index: usize, problem: Problem) -> ScriptError {
        let behind = |word: &Word| word.column + u32::try_from(word.text.chars().count()).unwrap_or(0) + 1;
        let column = match self.words.get(index) {
            Some(word) => word.column,
            None => self.words.last().map_or(1, behind),
        };
        ScriptError { line: self.number, column, problem }
    }

    /// An unknown word at this index.
    pub fn unknown(&self, index: usize, what: &'static str, allowed: impl Into<String>) -> ScriptError {
        let word = if index < self.words.len() { shown(self.text(index)) } else { "(nothing)".into() };
        self.error(index, Problem::Unknown { what, word, allowed: allowed.into() })
    }

    /// Refuses words from this index on.
    pub fn no_more(&self, index: usize) -> Result<(), ScriptError> {
        if self.words.len() <= index {
            return Ok(());
        }
        let what = format!("unexpected {}", shown(self.text(index)));
        Err(self.error(index, Problem::Syntax { what, allowed: "nothing more on this line".into() }))
    }
}

impl<'a> Cursor<'a> {
    /// Starts at the first line.
    pub fn new(script: &'a str, ports: &[&str]) -> Result<Self, ScriptError> {
        if script.len() > SCRIPT_BYTES_MAX {
            let problem = Problem::Limit { what: "bytes in one script", max: SCRIPT_BYTES_MAX };
            return Err(ScriptError { line: 1, column: 1, problem });
        }
        let ports = ports.iter().map(|port| PortName((*port).into())).collect();
        Ok(Self { ports, lines: script.lines(), number: 0, places: BTreeMap::new() })
    }

    /// The next statement; `None` at the end of the script.
    pub fn next(&mut self) -> Result<Option<Line>, ScriptError> {
        for text in self.lines.by_ref() {
            self.number += 1;
            let words = words(text, self.number)?;
            if !words.is_empty() {
                return Ok(Some(Line { number: self.number, words }));
            }
        }
        Ok(None)
    }

    /// The next statement inside the block that `open` began; the script may not end here.
    pub fn within(&mut self, open: &Line) -> Result<Line, ScriptError> {
        self.next()?.ok_or_else(|| {
            let opened: Vec<_> = open.words.iter().map(|word| word.text.as_str()).collect();
            let what = format!("{} is not closed", shown(&opened.join(" ")));
            open.error(0, Problem::Syntax { what, allowed: "a block that ends with \"end\"".into() })
        })
    }

    /// Remembers that `variable` of `entry` was set at this word.
    pub fn remember(&mut self, variable: &str, entry: &str, line: &Line, index: usize) {
        let column = line.words.get(index).map_or(1, |word| word.column);
        self.places.insert(key(variable, entry), (line.number, column));
    }

    /// Where `variable` of `entry` was set last, or a variable that stands for it; the script's last line if none was set.
    pub fn place(&self, variable: &str, entry: &str) -> (u32, u32) {
        let others = ALSO.iter().filter(|(name, _)| *name == variable).map(|(_, other)| *other);
        let mut names = std::iter::once(variable).chain(others);
        let find =
            |name: &str| self.places.get(&key(name, entry)).or_else(|| self.places.get(&key(name, "")));
        names.find_map(find).copied().unwrap_or((self.number.max(1), 1))
    }

    /// The ports in words.
    pub fn port_names(&self) -> String {
        if self.ports.is_empty() {
            return "none, because this unit found no network port; check its network cards".to_owned();
        }
        let names: Vec<_> = self.ports.iter().map(PortName::as_str).collect();
        names.join(", ")
    }
}

/// A variable, and another one by which it may have been set or come into force.
const ALSO: &[(&str, &str)] = &[
    ("virtual-ip", "action"),
    ("virtual-ip", "failover"),
    ("virtual-ip6", "action"),
    ("virtual-ip6", "failover"),
    ("action", "failover"),
    ("heartbeat-1-interface", "heartbeat-status"),
    ("heartbeat-2-interface", "heartbeat-status"),
    ("heartbeat-1-interface", "mode"),
    ("heartbeat-1-peer", "peer-ip"),
    ("heartbeat-2-peer", "peer-ip"),
    ("heartbeat-1-peer6", "peer-ip6"),
    ("heartbeat-2-peer6", "peer-ip6"),
    ("heartbeat-1-peer6", "heartbeat-1-ip6"),
    ("heartbeat-2-peer6", "heartbeat-2-ip6"),
    ("heartbeat-1-ip6", "heartbeat-1-peer6"),
    ("heartbeat-2-ip6", "heartbeat-2-peer6"),
    ("heartbeat-1-ip6", "peer-ip6"),
    ("heartbeat-2-ip6", "peer-ip6"),
    ("heartbeat-2-peer", "heartbeat-2-interface"),
    ("heartbeat-2-ip", "heartbeat-2-interface"),
    ("heartbeat-2-ip", "heartbeat-status"),
    ("hb-interval", "hb-lost-threshold"),
    ("hb-interval", "fast-detect"),
    ("password", "mode"),
    ("ip", "status"),
    ("port", "status"),
    ("port", "remote-service"),
    ("remote-services-as-heartbeat", "status"),
    ("remote-services-as-heartbeat", "remote-service"),
];

fn key(variable: &str, entry: &str) -> String {
    format!("{entry} {variable}")
}
