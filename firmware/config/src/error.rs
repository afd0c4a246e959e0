//! Why a script was refused: where, which variable, which value, what is allowed. Messages are bounded and never show a
//! password. Nothing was changed whenever one of these is returned.

/// Longest piece of the operator's own input that a message repeats, characters: enough to recognise a value on a terminal.
const SHOWN_CHARS_MAX: usize = 60;

/// A script was refused whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}; nothing was changed")]
pub struct ScriptError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub problem: Problem,
}

impl ScriptError {
    /// The variable that was refused, if the error is about one.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match &self.problem {
            Problem::Value { variable, .. }
            | Problem::NotAvailable { variable, .. }
            | Problem::Conflict { variable, .. } => Some(variable),
            Problem::Unknown { .. } | Problem::Syntax { .. } | Problem::Limit { .. } => None,
        }
    }
}

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value outside of what the variable takes.
    #[error("{variable}: {value} is refused; allowed: {allowed}")]
    Value {
        /// Variable.
        variable: String,
        /// Value as given, shortened; hidden for passwords.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A good value that this release does not act on.
    #[error("{variable}: {value} is not available in this release; allowed: {allowed}")]
    NotAvailable {
        /// Variable.
        variable: String,
        /// Value as given, shortened.
        value: String,
        /// What is allowed in this release.
        allowed: String,
    },
    /// The value does not fit the other settings.
    #[error("{variable}: {why}; allowed: {allowed}")]
    Conflict {
        /// Variable.
        variable: String,
        /// With what it conflicts.
        why: String,
        /// What is allowed.
        allowed: String,
    },
    /// A word that does not exist in this place.
    #[error("unknown {what} {word}; allowed: {allowed}")]
    Unknown {
        /// What was expected: `command`, `variable`, `section`, `entry`.
        what: &'static str,
        /// The word as given, shortened.
        word: String,
        /// What is allowed.
        allowed: String,
    },
    /// Wrong form: quotes, missing `end`, missing words, control characters.
    #[error("{what}; allowed: {allowed}")]
    Syntax {
        /// What is wrong.
        what: String,
        /// What is allowed.
        allowed: String,
    },
    /// Too much of something.
    #[error("too many {what}; allowed: at most {max}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
}

/// The operator's input as it may appear in a message: quoted, control characters escaped, shortened.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_input_is_bounded_and_escaped() {
        assert_eq!(shown("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert!(shown(&"x".repeat(10_000)).chars().count() <= SHOWN_CHARS_MAX + 3);
    }
}
