//! The envelope of a Postfix queue file: who sends to whom since when, and which recipients are done. Layout after Postfix
//! 3.7 `rec_type.h`, `record.c` and `mail_proto.h`: records of a type byte, a length in groups of seven bits with the lowest
//! first, and content. Reads only; nothing of the content of a message is looked at. Pure.

/// Most records of one file that are looked at: a message of the largest size in its shortest lines.
const RECORDS_MAX: usize = 4 << 20;
/// Most recipients of one message (`smtpd_recipient_limit` is 1000; aliases may add some).
const RECIPIENTS_MAX: usize = 50_000;

/// What an envelope says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Seconds since 1970 when it arrived.
    pub arrived: u64,
    /// Sender; empty for a bounce.
    pub sender: String,
    /// Recipients in order.
    pub recipients: Vec<Recipient>,
}

/// One recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Address.
    pub address: String,
    /// Delivered or given up: nothing is left to do.
    pub done: bool,
    /// Where its record begins in the file, bytes. The byte there is `R`, or `D` when it is done.
    pub offset: u64,
}

/// Reads an envelope; `None` when the bytes are not a whole queue file.
#[must_use]
pub fn envelope(bytes: &[u8]) -> Option<Envelope> {
    let mut envelope = Envelope { arrived: 0, sender: String::new(), recipients: Vec::new() };
    let (mut at, mut began) = (0, false);
    for _ in 0..RECORDS_MAX {
        let record = Record::at(bytes, at)?;
        let offset = u64::try_from(at).ok()?;
        at = record.next;
        let text = || String::from_utf8_lossy(record.content).into_owned();
        match record.kind {
            b'T' => envelope.arrived = arrival(&text())?,
            b'S' => (envelope.sender, began) = (text(), true),
            kind @ (b'R' | b'D') if envelope.recipients.len() < RECIPIENTS_MAX => {
                let recipient = Recipient { address: text(), done: kind == b'D', offset };
                envelope.recipients.push(recipient);
            }
            b'R' | b'D' => return None,
            // Records that were added later are elsewhere in the file; 0 points nowhere.
            b'p' => match text().trim().parse::<usize>().ok()? {
                0 => {}
                target => at = target,
            },
            b'E' => return began.then_some(envelope),
            _ => {}
        }
    }
    None
}

/// The first header of the content, its lines joined as a mailbox has them, without the last line end. `None` when there is no whole one.
#[must_use]
pub fn first_header(bytes: &[u8]) -> Option<String> {
    let (mut at, mut in_content, mut header) = (0, false, Vec::new());
    for _ in 0..RECORDS_MAX {
        let record = Record::at(bytes, at)?;
        at = record.next;
        match record.kind {
            b'M' => in_content = true,
            b'p' => match std::str::from_utf8(record.content).ok()?.trim().parse::<usize>().ok()? {
                0 => {}
                target => at = target,
            },
            b'N' if in_content => match (header.is_empty(), record.content.first()) {
                (true, _) => header.extend_from_slice(record.content),
                (false, Some(b' ' | b'\t')) => {
                    header.push(b'\n');
                    header.extend_from_slice(record.content);
                }
                (false, _) => return String::from_utf8(header).ok(),
            },
            // The end of the content, or a line that is longer than any trace header.
            b'X' | b'E' | b'L' => return None,
            _ => {}
        }
    }
    None
}

struct Record<'a> {
    kind: u8,
    content: &'a [u8],
    next: usize,
}

impl<'a> Record<'a> {
    fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
        let kind = *bytes.get(offset)?;
        let (mut length, mut at) = (0_usize, offset + 1);
        // Five groups hold any length that Postfix writes.
        for group in 0..5 {
            let byte = usize::from(*bytes.get(at)?);
            at += 1;
            length |= (byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                let next = at.checked_add(length)?;
                return Some(Self { kind, content: bytes.get(at..next)?, next });
            }
        }
        None
    }
}

/// `<seconds> <microseconds>`.
fn arrival(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn vector(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/queue").join(name)).unwrap()
    }

    fn done(envelope: &Envelope) -> Vec<(&str, bool)> {
        envelope.recipients.iter().map(|recipient| (recipient.address.as_str(), recipient.done)).collect()
    }

    #[test]
    fn files_of_a_real_postfix_are_read() {
        let partial = envelope(&vector("01-one-of-two-delivered")).unwrap();
        assert_eq!(partial.sender, "alice@sender.test");
        assert_eq!(done(&partial), [("good@example.test", true), ("later@example.test", false)]);
        let bytes = vector("01-one-of-two-delivered");
        let kinds = partial.recipients.iter().map(|one| bytes[usize::try_from(one.offset).unwrap()]);
        assert_eq!(kinds.collect::<Vec<_>>(), *b"DR");
        let bounce = envelope(&vector("02-null-sender-with-dsn")).unwrap();
        assert_eq!((bounce.sender.as_str(), bounce.recipients.len()), ("", 1));
        assert!(bounce.arrived > 1_600_000_000);
    }

    #[test]
    fn a_file_that_is_not_whole_is_none() {
        let whole = vector("01-one-of-two-delivered");
        for length in 0..whole.len() {
            assert_eq!(envelope(&whole[..length]), None, "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let _ = envelope(&bytes);
            let _ = first_header(&bytes);
        }
    }
}
