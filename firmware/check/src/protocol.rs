//! The steps of each protocol and how a line of an answer is judged: SMTP (RFC 5321), IMAP (RFC 3501), POP3 (RFC 1939 and
//! 2449), HTTP (RFC 9112). One command at a time: the next is sent when the last was answered.

/// What is talked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Banner, EHLO, NOOP, QUIT: a peer's SMTP service.
    Smtp,
    /// Banner, EHLO, MAIL, RCPT, RSET, QUIT: the own SMTP service up to its queue. Without a recipient, RCPT is left out.
    SmtpOwn,
    /// Greeting, CAPABILITY, LOGOUT.
    Imap,
    /// Greeting, CAPA, QUIT.
    Pop3,
    /// Status line.
    Http,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 5] = [Self::Smtp, Self::SmtpOwn, Self::Imap, Self::Pop3, Self::Http];

    /// Name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp | Self::SmtpOwn => "SMTP",
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
            Self::Http => "HTTP",
        }
    }

    pub(crate) fn steps(self) -> &'static [Step] {
        match self {
            Self::Smtp => SMTP,
            Self::SmtpOwn => SMTP_OWN,
            Self::Imap => IMAP,
            Self::Pop3 => POP3,
            Self::Http => HTTP,
        }
    }
}

/// One command and its answer.
#[derive(Debug)]
pub(crate) struct Step {
    /// Name for people.
    pub name: &'static str,
    /// What is sent before; `{host}` and `{to}` stand for the subject's words. Empty: nothing is sent.
    pub send: &'static str,
    /// Judges one line of the answer; the number is kept between the lines of one answer and begins with 0.
    pub judge: fn(&mut u16, &str) -> Judged,
}

/// What a line of an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The answer goes on.
    More,
    /// The answer is complete and as wished.
    Good,
    /// The service says that its volume is full.
    Full,
    /// The answer is another one.
    Bad,
}

const fn step(name: &'static str, send: &'static str, judge: fn(&mut u16, &str) -> Judged) -> Step {
    Step { name, send, judge }
}

const SMTP: &[Step] = &[
    step("banner", "", smtp_banner),
    step("EHLO", "EHLO {host}\r\n", smtp),
    step("NOOP", "NOOP\r\n", smtp),
    step("QUIT", "QUIT\r\n", smtp),
];

const SMTP_OWN: &[Step] = &[
    step("banner", "", smtp_banner),
    step("EHLO", "EHLO {host}\r\n", smtp),
    step("MAIL", "MAIL FROM:<>\r\n", smtp_room),
    step("RCPT", "RCPT TO:<{to}>\r\n", smtp_room),
    step("RSET", "RSET\r\n", smtp),
    step("QUIT", "QUIT\r\n", smtp),
];

const IMAP: &[Step] = &[
    step("greeting", "", |_, line| {
        if line.starts_with("* OK") || line.starts_with("* PREAUTH") { Judged::Good } else { Judged::Bad }
    }),
    step("CAPABILITY", "a1 CAPABILITY\r\n", |seen, line| match line {
        _ if line.starts_with("* CAPABILITY ") => {
            *seen = 1;
            Judged::More
        }
        _ if line.starts_with("* BYE") => Judged::Bad,
        _ if line.starts_with("* ") => Judged::More,
        _ if line.starts_with("a1 OK") && *seen == 1 => Judged::Good,
        _ => Judged::Bad,
    }),
    step("LOGOUT", "a2 LOGOUT\r\n", |_, line| match line {
        _ if line.starts_with("* ") => Judged::More,
        _ if line.starts_with("a2 OK") => Judged::Good,
        _ => Judged::Bad,
    }),
];

const POP3: &[Step] = &[
    step("greeting", "", pop3),
    step("CAPA", "CAPA\r\n", |seen, line| match (*seen, line) {
        // A server without the extension says so, and is well.
        (0, _) if line.starts_with("-ERR") => Judged::Good,
        (0, _) if line.starts_with("+OK") => {
            *seen = 1;
            Judged::More
        }
        (0, _) => Judged::Bad,
        (_, ".") => Judged::Good,
        _ => Judged::More,
    }),
    step("QUIT", "QUIT\r\n", pop3),
];

const HTTP: &[Step] = &[step(
    "status line",
    "GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: twinpost-check\r\nConnection: close\r\n\r\n",
    |_, line| match line.strip_prefix("HTTP/1.").and_then(|rest| code(rest.split(' ').nth(1)?)) {
        // 4xx is the answer of a server that works and wants a login or another page.
        Some(100..=499) => Judged::Good,
        _ => Judged::Bad,
    },
)];

fn pop3(_: &mut u16, line: &str) -> Judged {
    if line.starts_with("+OK") { Judged::Good } else { Judged::Bad }
}

fn smtp_banner(first: &mut u16, line: &str) -> Judged {
    smtp_reply(first, line, |code| if code == 220 { Judged::Good } else { Judged::Bad })
}

fn smtp(first: &mut u16, line: &str) -> Judged {
    smtp_reply(first, line, |code| if (200..300).contains(&code) { Judged::Good } else { Judged::Bad })
}

/// As [`smtp`], where the server may have no room.
fn smtp_room(first: &mut u16, line: &str) -> Judged {
    smtp_reply(first, line, |code| match code {
        452 => Judged::Full,
        200..300 => Judged::Good,
        _ => Judged::Bad,
    })
}

/// One line of a reply (RFC 5321 section 4.2.1): all lines carry the same code, the last one a blank behind it.
fn smtp_reply(first: &mut u16, line: &str, judge: fn(u16) -> Judged) -> Judged {
    let Some(now) = line.get(..3).and_then(code) else { return Judged::Bad };
    if *first != 0 && *first != now {
        return Judged::Bad;
    }
    *first = now;
    match line.as_bytes().get(3) {
        Some(b'-') => Judged::More,
        Some(b' ') | None => judge(now),
        Some(_) => Judged::Bad,
    }
}

/// A code of three digits.
fn code(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|code| digits && *code >= 100)
}
