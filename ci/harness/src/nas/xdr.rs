//! The words of RPC: XDR (RFC 4506), calls and replies (RFC 5531), records on a stream. Every length is checked against what is there.

use super::tree::Who;

/// Longest record, bytes: a write of 16 KiB with its headers.
pub const RECORD_BYTES_MAX: usize = 24 * 1024;
/// Most groups in credentials (RFC 5531 appendix A).
const GROUPS_MAX: u32 = 16;
/// Flavours of credentials.
const AUTH_SYS: u32 = 1;
/// Highest bit of a record mark: the last fragment.
const LAST_FRAGMENT: u32 = 1 << 31;

/// Reads words.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub fn word(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub fn long(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_be_bytes)
    }

    pub fn flag(&mut self) -> Option<bool> {
        self.word().map(|word| word != 0)
    }

    /// Bytes with their length before them and padding behind.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.word()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest.get(length.next_multiple_of(4) - length..)?;
        Some(taken)
    }

    /// A value that may be there.
    pub fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }
}

/// Writes words.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn word(&mut self, word: u32) -> &mut Self {
        self.0.extend_from_slice(&word.to_be_bytes());
        self
    }

    pub fn long(&mut self, long: u64) -> &mut Self {
        self.0.extend_from_slice(&long.to_be_bytes());
        self
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.word(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// A call.
pub struct Call<'a> {
    pub id: u32,
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    pub who: Who,
    pub arguments: Reader<'a>,
}

/// How a call was accepted (`accept_stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    Success = 0,
    NoProgram = 1,
    OtherVersion = 2,
    NoProcedure = 3,
    Garbage = 4,
}

impl<'a> Call<'a> {
    /// `None` for what is no call of RPC version 2.
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        let mut words = Reader::new(record);
        let id = words.word()?;
        if (words.word()?, words.word()?) != (0, 2) {
            return None;
        }
        let (program, version, procedure) = (words.word()?, words.word()?, words.word()?);
        let who = who(words.word()?, words.bytes()?)?;
        let _verifier = (words.word()?, words.bytes()?);
        Some(Self { id, program, version, procedure, who, arguments: words })
    }
}

/// Without credentials somebody is nobody.
fn who(flavour: u32, body: &[u8]) -> Option<Who> {
    if flavour != AUTH_SYS {
        return Some(Who { user: 65_534, groups: vec![65_534] });
    }
    let mut words = Reader::new(body);
    let _stamp = words.word()?;
    let _machine = words.bytes()?;
    let (user, group) = (words.word()?, words.word()?);
    let count = words.word()?.min(GROUPS_MAX);
    let mut groups = vec![group];
    for _ in 0..count {
        groups.push(words.word()?);
    }
    Some(Who { user, groups })
}

/// A reply as a record.
pub fn reply(id: u32, accepted: Accepted, results: &[u8]) -> Vec<u8> {
    let mut words = Writer::default();
    words.word(0).word(id).word(1).word(0).word(0).word(0).word(accepted as u32);
    if accepted == Accepted::OtherVersion {
        // Lowest and highest that there is.
        words.word(3).word(3);
    }
    words.0.extend_from_slice(results);
    let mark = LAST_FRAGMENT | u32::try_from(words.0.len() - 4).unwrap_or(0);
    words.0[..4].copy_from_slice(&mark.to_be_bytes());
    words.0
}

/// Takes the next whole record off a stream; an error ends the connection: too long, or in several fragments, which Linux never sends.
pub fn take_record(stream: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    let Some((mark, rest)) = stream.split_first_chunk::<4>() else { return Ok(None) };
    let mark = u32::from_be_bytes(*mark);
    let length = usize::try_from(mark & !LAST_FRAGMENT).unwrap_or(usize::MAX);
    if mark & LAST_FRAGMENT == 0 || length > RECORD_BYTES_MAX {
        return Err(());
    }
    if rest.len() < length {
        return Ok(None);
    }
    let record = stream.drain(..4 + length).skip(4).collect();
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_padded_and_bounded() {
        let mut words = Writer::default();
        words.bytes(b"hello").long(7);
        assert_eq!(words.0.len(), 4 + 8 + 8);
        let mut reader = Reader::new(&words.0);
        assert_eq!((reader.bytes(), reader.long(), reader.word()), (Some(&b"hello"[..]), Some(7), None));
        assert_eq!(Reader::new(&[0, 0, 0, 9, 1]).bytes(), None);
        assert_eq!(Reader::new(&[0, 0, 0, 1, 1]).bytes(), None, "padding is missing");
    }

    #[test]
    fn a_call_tells_who_asks() {
        let mut credentials = Writer::default();
        credentials.word(0).bytes(b"a").word(106).word(107).word(1).word(108);
        let mut call = Writer::default();
        call.word(9).word(0).word(2).word(100_003).word(3).word(1).word(AUTH_SYS).bytes(&credentials.0);
        call.word(0).bytes(b"").word(77);
        let mut call = Call::parse(&call.0).unwrap();
        assert_eq!((call.id, call.program, call.version, call.procedure), (9, 100_003, 3, 1));
        assert_eq!((call.who.user, call.who.groups.as_slice()), (106, &[107, 108][..]));
        assert_eq!(call.arguments.word(), Some(77));
        assert!(Call::parse(&[0; 7]).is_none() && Call::parse(&[1; 64]).is_none());
    }

    #[test]
    fn records_come_whole_or_not_at_all() {
        let whole = reply(5, Accepted::Success, &[1, 2, 3, 4]);
        let mut stream = whole[..10].to_vec();
        assert_eq!(take_record(&mut stream), Ok(None));
        stream.extend_from_slice(&whole[10..]);
        stream.push(0);
        assert_eq!(take_record(&mut stream).unwrap().unwrap(), whole[4..]);
        assert_eq!(stream, [0]);
        assert_eq!(take_record(&mut vec![0x80, 0xff, 0, 0]), Err(()));
        assert_eq!(take_record(&mut vec![0, 0, 0, 4, 0, 0, 0, 0]), Err(()));
    }
}
