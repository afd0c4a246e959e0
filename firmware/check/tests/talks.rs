//! Whole talks: golden vectors of what each service says and what comes of it, and properties over anything that it may say.
//! A vector `NN-input.txt` names the protocol in its first line; then `<` lines come from the service, `!closed` and `!late` end it.
//! Outputs show what this side sends. `TWINPOST_BLESS=1` writes them anew.

use proptest::prelude::*;
use std::fmt::Write as _;
use std::path::Path;
use twinpost_check::{
    Dialogue, Input, LINE_BYTES_MAX, LINES_A_REPLY_MAX, Outcome, Protocol, SEND_BYTES_MAX, Subject,
    TALK_BYTES_MAX, fuzz_bytes,
};

fn protocol(name: &str) -> Protocol {
    *Protocol::ALL.iter().find(|p| format!("{p:?}") == name).unwrap_or_else(|| panic!("{name}"))
}

fn subject() -> Subject {
    Subject::new("mail-b.example.test", "postmaster@example.test")
}

/// Plays a vector; `piece` bytes at a time.
fn play(script: &str, piece: usize) -> String {
    let mut lines = script.lines();
    let mut talk = Dialogue::new(protocol(lines.next().expect("a first line")), subject());
    let mut log = String::new();
    let mut flush = |talk: &mut Dialogue| {
        for line in String::from_utf8(talk.output().to_vec()).expect("commands are text").lines() {
            writeln!(log, "> {line}").expect("a string takes all");
        }
    };
    flush(&mut talk);
    for line in lines {
        match line {
            "!closed" => talk.handle(Input::Closed),
            "!late" => talk.handle(Input::Late),
            _ => {
                let text = format!("{}\r\n", line.strip_prefix("< ").expect("a line of the service"));
                for bytes in text.as_bytes().chunks(piece) {
                    talk.handle(Input::Bytes(bytes));
                }
            }
        }
        flush(&mut talk);
    }
    match talk.verdict() {
        Some(verdict) => {
            writeln!(log, "{:?}: {}", verdict.outcome, verdict.words).expect("a string takes all")
        }
        None => writeln!(log, "waits for the answer to {}", talk.step()).expect("a string takes all"),
    }
    log
}

#[test]
fn talks_end_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let bless = std::env::var_os("TWINPOST_BLESS").is_some();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let input = entry.unwrap().path();
        let name = input.file_name().unwrap().to_str().unwrap().to_string();
        let Some(stem) = name.strip_suffix("-input.txt") else { continue };
        let script = std::fs::read_to_string(&input).unwrap();
        let got = play(&script, usize::MAX);
        for piece in [1, 2, 3, 7] {
            assert_eq!(play(&script, piece), got, "{name}: in pieces of {piece}");
        }
        let output = folder.join(format!("{stem}-output.txt"));
        if bless {
            std::fs::write(&output, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&output).unwrap_or_default();
        assert_eq!(got, expected, "{name}: TWINPOST_BLESS=1 records a wanted change");
        count += 1;
    }
    assert!(count >= 25, "vectors are missing: {count}");
}

#[test]
fn a_service_that_never_ends_has_failed() {
    for protocol in Protocol::ALL {
        for (bytes, why) in
            [(&b"x"[..], "a line of more than"), (&b"250-x\r\n"[..], ""), (&b"* x\r\n"[..], "")]
        {
            let mut talk = Dialogue::new(protocol, subject());
            for _ in 0..=TALK_BYTES_MAX {
                talk.handle(Input::Bytes(bytes));
            }
            let verdict = talk.verdict().expect("it ended");
            assert_eq!(verdict.outcome, Outcome::Failed, "{protocol:?}");
            assert!(verdict.words.contains(why), "{}", verdict.words);
        }
    }
    let mut talk = Dialogue::new(Protocol::Smtp, subject());
    talk.handle(Input::Bytes(b"220 a\r\n"));
    for _ in 0..LINES_A_REPLY_MAX {
        talk.handle(Input::Bytes(b"250-a\r\n"));
    }
    assert!(talk.verdict().unwrap().words.contains("lines"));
    let mut talk = Dialogue::new(Protocol::Imap, subject());
    talk.handle(Input::Bytes(b"* OK\r\n"));
    let long = [b"* ".as_slice(), &vec![b'c'; LINE_BYTES_MAX - 4], b"\r\n"].concat();
    for _ in 0..8 {
        talk.handle(Input::Bytes(&long));
    }
    assert!(talk.verdict().unwrap().words.contains("bytes of answers"));
}

#[test]
fn the_longest_words_fit_and_nothing_breaks_out_of_a_command() {
    let long = "x".repeat(4000);
    for protocol in Protocol::ALL {
        let mut talk = Dialogue::new(protocol, Subject::new(&long, &long));
        let mut most = talk.output().len();
        for answer in ["220 x", "250 x", "250 x", "250 x", "250 x", "250 x"] {
            talk.handle(Input::Bytes(format!("{answer}\r\n").as_bytes()));
            most = most.max(talk.output().len());
        }
        assert!(most < SEND_BYTES_MAX, "{protocol:?}: {most}");
    }
    let mut talk = Dialogue::new(Protocol::Smtp, Subject::new("a\r\nMAIL FROM:<x>\u{e9}", ""));
    talk.handle(Input::Bytes(b"220 x\r\n"));
    assert_eq!(talk.output(), b"EHLO aMAILFROM:x\r\n");
}

/// What services say, and what they do not.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "220 a ESMTP\r\n",
            "220-a\r\n",
            "250 ok\r\n",
            "250-SIZE\r\n",
            "221 bye\r\n",
            "452 4.3.1 full\r\n",
            "421 busy\r\n",
            "* OK ready\r\n",
            "* CAPABILITY IMAP4rev1\r\n",
            "a1 OK done\r\n",
            "* BYE\r\n",
            "a2 OK\r\n",
            "a1 BAD\r\n",
            "+OK\r\n",
            "-ERR\r\n",
            ".\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 503 x\r\n",
            "\r\n",
            "\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn anything_ends_within_its_limits(
        choice in any::<u8>(), size in any::<u8>(), answers in prop::collection::vec(answer(), 0..40),
    ) {
        let mut data = vec![choice, size];
        data.extend(answers.concat());
        fuzz_bytes(&data);
    }

    #[test]
    fn pieces_do_not_matter(which in 0..5_usize, answers in prop::collection::vec(answer(), 0..20), size in 1..9_usize) {
        let bytes = answers.concat();
        let verdict = |size: usize| {
            let mut talk = Dialogue::new(Protocol::ALL[which], subject());
            bytes.chunks(size).for_each(|piece| talk.handle(Input::Bytes(piece)));
            talk.handle(Input::Closed);
            talk.verdict().cloned()
        };
        prop_assert_eq!(verdict(size), verdict(100_000));
    }
}
