//! Words of one scenario line with their columns, and the small grammars that many lines share: units, ports, times. Every
//! refusal says where and what is allowed.

use std::time::Duration;
use twinpost_types::EffectiveMode;

/// Longest time that a scenario may name: longer is a slip of the pen.
const TIME_MAX: Duration = Duration::from_secs(2 * 366 * 24 * 3600);
const TIME_ALLOWED: &str = "a time such as 500ms, 3s, 1.5s, 2m or 1h";

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}; allowed: {allowed}")]
pub struct ScenarioError {
    /// File name as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub allowed: String,
}

/// The rest of a line.
pub(crate) struct Words<'a> {
    file: &'a str,
    line: usize,
    words: std::vec::IntoIter<(usize, String)>,
    end: usize,
}

pub(crate) type Parsed<T> = Result<T, ScenarioError>;

impl<'a> Words<'a> {
    /// Splits a line; `#` begins a comment outside quotes.
    pub(crate) fn split(file: &'a str, line: usize, text: &str) -> Parsed<Self> {
        let mut words: Vec<(usize, String)> = Vec::new();
        let (mut open, mut quoted) = (None::<String>, None::<usize>);
        let mut start = 0;
        for (index, c) in text.chars().enumerate() {
            let column = index + 1;
            match (c, &mut open, quoted) {
                ('"', _, Some(_)) => quoted = None,
                ('"', word, None) => {
                    quoted = Some(column);
                    if word.is_none() {
                        (start, *word) = (column, Some(String::new()));
                    }
                }
                ('#', _, None) => break,
                (c, word, None) if c.is_whitespace() => {
                    words.extend(word.take().map(|word| (start, word)));
                }
                (c, Some(word), _) => word.push(c),
                (c, word, _) => (start, *word) = (column, Some(c.to_string())),
            }
        }
        words.extend(open.map(|word| (start, word)));
        let end = text.chars().count() + 1;
        let this = Self { file, line, words: words.into_iter(), end };
        match quoted {
            Some(column) => {
                Err(this.error(column, "quotation is not closed", "a closing \" on the same line"))
            }
            None => Ok(this),
        }
    }

    /// True when no word is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.len() == 0
    }

    /// The next word without taking it.
    pub(crate) fn peek(&self) -> Option<&str> {
        self.words.as_slice().first().map(|(_, word)| word.as_str())
    }

    /// The next word.
    pub(crate) fn word(&mut self, allowed: &str) -> Parsed<String> {
        self.take(allowed).map(|(_, word)| word)
    }

    /// One of `choices`.
    pub(crate) fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Parsed<T> {
        let allowed = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let (column, word) = self.take(&allowed)?;
        let chosen = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        chosen.ok_or_else(|| self.unknown(column, &word, &allowed))
    }

    /// Exactly this word.
    pub(crate) fn expect(&mut self, keyword: &str) -> Parsed<()> {
        self.choice(&[(keyword, ())])
    }

    /// Nothing more.
    pub(crate) fn finish(mut self) -> Parsed<()> {
        match self.words.next() {
            None => Ok(()),
            Some((column, word)) => Err(self.unknown(column, &word, "the end of the line or a comment")),
        }
    }

    /// A unit's name.
    pub(crate) fn unit(&mut self) -> Parsed<usize> {
        self.choice(&[("a", 0), ("b", 1)])
    }

    /// `<unit>.<port>`; ports from 1.
    pub(crate) fn port(&mut self) -> Parsed<(usize, usize)> {
        let allowed = "a.port1 to a.port4, b.port1 to b.port4";
        let (column, word) = self.take(allowed)?;
        let parse = || {
            let (unit, port) = word.split_once('.')?;
            let unit = crate::UNITS.iter().position(|name| *name == unit)?;
            let port = port.strip_prefix("port")?.parse().ok()?;
            (1..=crate::PORTS).contains(&port).then_some((unit, port))
        };
        parse().ok_or_else(|| self.unknown(column, &word, allowed))
    }

    /// `<unit>.<name>`
    pub(crate) fn unit_dot_name(&mut self, allowed: &str) -> Parsed<(usize, String)> {
        let (column, word) = self.take(allowed)?;
        let parsed = word.split_once('.').filter(|(_, name)| !name.is_empty()).and_then(|(unit, name)| {
            Some((crate::UNITS.iter().position(|known| *known == unit)?, name.to_owned()))
        });
        parsed.ok_or_else(|| self.unknown(column, &word, allowed))
    }

    /// A time with its unit.
    pub(crate) fn time(&mut self) -> Parsed<Duration> {
        let (column, word) = self.take(TIME_ALLOWED)?;
        time(&word).ok_or_else(|| self.unknown(column, &word, TIME_ALLOWED))
    }

    /// A time with a sign; true is forward.
    pub(crate) fn signed_time(&mut self) -> Parsed<(bool, Duration)> {
        let allowed = "a time with its sign, such as +1h or -30s";
        let (column, word) = self.take(allowed)?;
        let parsed = word.split_at_checked(1).and_then(|(sign, rest)| {
            let forward = [("+", true), ("-", false)].into_iter().find(|(text, _)| *text == sign)?.1;
            Some((forward, time(rest)?))
        });
        parsed.ok_or_else(|| self.unknown(column, &word, allowed))
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, from: u64, to: u64) -> Parsed<u64> {
        let allowed = format!("{from} to {to}");
        let (column, word) = self.take(&allowed)?;
        let number = word.parse().ok().filter(|number| (from..=to).contains(number));
        number.ok_or_else(|| self.unknown(column, &word, &allowed))
    }

    /// An effective mode.
    pub(crate) fn mode(&mut self) -> Parsed<EffectiveMode> {
        use EffectiveMode::{ConfigPrimary, ConfigSecondary, Failed, HoldOff, Off, Primary, Secondary};
        let modes = [Primary, Secondary, Off, Failed, HoldOff, ConfigPrimary, ConfigSecondary];
        self.choice(&modes.map(|mode| (mode.name(), mode)))
    }

    /// A word that a caller checks with `parse`; `None` is refused.
    pub(crate) fn parsed<T>(&mut self, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Parsed<T> {
        let (column, word) = self.take(allowed)?;
        parse(&word).ok_or_else(|| self.unknown(column, &word, allowed))
    }

    /// All words that are left, joined by blanks.
    pub(crate) fn rest(&mut self, allowed: &str) -> Parsed<String> {
        let mut text = self.word(allowed)?;
        for (_, word) in self.words.by_ref() {
            text.push(' ');
            text.push_str(&word);
        }
        Ok(text)
    }

    /// An error at a column of this line.
    pub(crate) fn error(&self, column: usize, problem: &str, allowed: &str) -> ScenarioError {
        ScenarioError {
            file: self.file.to_owned(),
            line: self.line,
            column,
            problem: problem.to_owned(),
            allowed: allowed.to_owned(),
        }
    }

    fn take(&mut self, allowed: &str) -> Parsed<(usize, String)> {
        self.words.next().ok_or_else(|| self.error(self.end, "the line ends here", allowed))
    }

    fn unknown(&self, column: usize, word: &str, allowed: &str) -> ScenarioError {
        self.error(column, &format!("`{word}` is not understood"), allowed)
    }
}

fn time(word: &str) -> Option<Duration> {
    let split = word.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = word.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(value * seconds).ok().filter(|time| *time <= TIME_MAX)
}
