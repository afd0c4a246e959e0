//! A line of the operator's syntax cut into words: blanks separate, `#` at the start of a word begins a comment, double
//! quotes take `\"` and `\\`, single quotes take everything. No meaning is given to any word here.

use crate::error::{Problem, ScriptError, shown};

/// Most words on one line: the longest command has seven.
const WORDS_MAX: usize = 32;

/// One word with the place where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Text without quotes.
    pub text: String,
    /// Column of its first character, from 1.
    pub column: u32,
}

/// Cuts line number `line` into words; an empty result is a blank line or a comment.
pub(crate) fn words(text: &str, line: u32) -> Result<Vec<Word>, ScriptError> {
    let mut out = Vec::new();
    let mut rest = text.chars().zip(1_u32..).peekable();
    while let Some(&(c, column)) = rest.peek() {
        if c == ' ' || c == '\t' {
            rest.next();
            continue;
        }
        if c == '#' {
            break;
        }
        if out.len() == WORDS_MAX {
            let problem = Problem::Limit { what: "words on a line", max: WORDS_MAX };
            return Err(ScriptError { line, column, problem });
        }
        let text = word(&mut rest).map_err(|(column, problem)| ScriptError { line, column, problem })?;
        out.push(Word { text, column });
    }
    Ok(out)
}

/// Writes one word so that [`words`] reads it back as it is: bare if possible, else in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || ".:/_-+@%,=".contains(c);
    if !text.is_empty() && text.chars().all(bare) {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

type Characters<'a> = std::iter::Peekable<std::iter::Zip<std::str::Chars<'a>, std::ops::RangeFrom<u32>>>;

/// One word; quoted and bare pieces may touch, as in a shell.
fn word(rest: &mut Characters<'_>) -> Result<String, (u32, Problem)> {
    let mut out = String::new();
    while let Some(&(c, column)) = rest.peek() {
        match c {
            ' ' | '\t' => break,
            '"' | '\'' => {
                rest.next();
                quotation(rest, c, column, &mut out)?;
            }
            c if c.is_control() => return Err((column, control(c))),
            c => {
                rest.next();
                out.push(c);
            }
        }
    }
    Ok(out)
}

/// The inside of a quotation up to its closing mark.
fn quotation(
    rest: &mut Characters<'_>,
    mark: char,
    open: u32,
    out: &mut String,
) -> Result<(), (u32, Problem)> {
    while let Some((c, column)) = rest.next() {
        match c {
            c if c == mark => return Ok(()),
            '\\' if mark == '"' => match rest.next() {
                Some((escaped @ ('"' | '\\'), _)) => out.push(escaped),
                _ => {
                    let what = "lone backslash in double quotes".into();
                    return Err((column, Problem::Syntax { what, allowed: "\\\" and \\\\".into() }));
                }
            },
            c if c.is_control() => return Err((column, control(c))),
            c => out.push(c),
        }
    }
    let what = format!("quotation {mark} is not closed on its line");
    Err((open, Problem::Syntax { what, allowed: format!("a closing {mark}") }))
}

fn control(c: char) -> Problem {
    Problem::Syntax {
        what: format!("control character {}", shown(&c.to_string())),
        allowed: "printable text in UTF-8, blanks and line ends".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<(String, u32)> {
        words(line, 1).unwrap().into_iter().map(|w| (w.text, w.column)).collect()
    }

    #[test]
    fn cuts_words_quotes_and_comments() {
        assert_eq!(
            texts("  set a\t\"b # c\"  # d"),
            [("set".into(), 3), ("a".into(), 7), ("b # c".into(), 9)]
        );
        assert_eq!(texts(r#"x'a"b'"c\"\\" y#z"#), [("xa\"bc\"\\".into(), 1), ("y#z".into(), 15)]);
        assert_eq!(texts("# nothing"), []);
        assert_eq!(texts("set x \"\""), [("set".into(), 1), ("x".into(), 5), (String::new(), 7)]);
    }

    #[test]
    fn refuses_open_quotes_and_control_characters() {
        assert_eq!(words("set a \"b", 7).unwrap_err().column, 7);
        assert_eq!(words("set \u{1b}[2J", 7).unwrap_err().column, 5);
        assert_eq!(words("set \"\\n\"", 7).unwrap_err().column, 6);
        assert!(words(&"a ".repeat(33), 1).is_err());
    }

    proptest::proptest! {
        #[test]
        fn quoted_words_read_back(text in "[ -~é]{0,40}") {
            let line = quoted(&text);
            let read = words(&line, 1).unwrap();
            proptest::prop_assert_eq!(read.len(), 1);
            proptest::prop_assert_eq!(&read[0].text, &text);
        }
    }
}
