//! Lines out of bytes, bounded: only the head of a line is kept, its length is counted. Knows no protocol.

/// Longest line that a service may send, bytes: RFC 5321 allows 512, capabilities of IMAP servers are a few hundred more.
pub const LINE_BYTES_MAX: usize = 8192;
/// Kept of each line, characters: the code, the tag, and enough words to tell a person.
const HEAD: usize = 96;

/// The head of a complete line: printable ASCII, anything else is `?`.
pub(crate) type Head = heapless::String<HEAD>;

/// The line under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    head: Head,
    bytes: usize,
}

/// A line is longer than [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Line {
    /// Takes one byte; a line feed gives the line, without its carriage return.
    pub fn push(&mut self, byte: u8) -> Option<Result<Head, TooLong>> {
        self.bytes += 1;
        if self.bytes > LINE_BYTES_MAX {
            return Some(Err(TooLong));
        }
        match byte {
            b'\n' => Some(Ok(core::mem::take(self).head)),
            b'\r' => None,
            _ => {
                let shown = if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '?' };
                // What is behind the head only counts.
                let _ = self.head.push(shown);
                None
            }
        }
    }

    /// What came of a line that did not end.
    pub fn head(&self) -> &str {
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_but_counted() {
        let mut line = Line::default();
        let ended = core::iter::repeat_n(b'x', LINE_BYTES_MAX - 2).find_map(|byte| line.push(byte));
        assert_eq!(ended, None);
        assert_eq!(line.push(b'\r'), None);
        assert_eq!(line.push(b'\n').map(|end| end.map(|head| head.len())), Some(Ok(HEAD)));
        let mut line = Line::default();
        let ended = core::iter::repeat_n(b'x', LINE_BYTES_MAX + 1).find_map(|byte| line.push(byte));
        assert_eq!(ended, Some(Err(TooLong)));
    }

    #[test]
    fn what_is_not_printable_never_reaches_a_terminal() {
        let mut line = Line::default();
        let head = b"a\x1b[2J\xff\r\n".iter().find_map(|byte| line.push(*byte));
        assert_eq!(head.unwrap().unwrap(), "a?[2J?");
    }
}
