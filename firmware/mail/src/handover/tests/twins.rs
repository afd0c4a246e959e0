//! Messages that both units held in their queue when they parted and that went into a local mailbox on one of them or on both: the
//! mailbox has each once, in every order and with interruptions between all steps.

use super::*;
use crate::handover::queue_file;

const ALICE: &str = "alice@local.test";
const FAR: &str = "far@example.test";
const INBOX: &str = "local.test/alice/Maildir/new";

/// The lines of a message as Postfix keeps them.
fn lines(id: &str, body: &str) -> Vec<String> {
    let by = format!("\tby mail.test (Postfix) with ESMTP id {id};");
    ["Received: from c (unknown [192.0.2.7])", &by, "\tdate", "Subject: s", "", body].map(String::from).into()
}

fn queued(recipients: &[(char, &str)], id: &str) -> String {
    let lines = lines(id, "body");
    queue_file_of(recipients, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The message as a delivery of this unit stores it.
fn stored(unit: &str, id: &str, body: &str) -> String {
    let own = format!(
        "Return-Path: <s@test>\nDelivered-To: {ALICE}\nReceived: from {unit}\n\tby {unit} with LMTP\n\tid {unit};\n"
    );
    own + &lines(id, body).join("\n") + "\n"
}

/// Postfix and Dovecot of a unit: every open local recipient gets the message, what is done leaves the queue.
fn deliver(unit: &Unit, name: &str) {
    for (path, text) in files(&unit.layout.spool()) {
        let Some(envelope) = queue_file::envelope(text.as_bytes()) else { continue };
        let mut text = text.into_bytes();
        let id = Path::new(&path).file_name().unwrap().to_string_lossy().into_owned();
        for (number, one) in envelope.recipients.iter().enumerate() {
            if one.address == ALICE && !one.done {
                unit.mail(&format!("{INBOX}/500.{id}{number}.{name}"), &stored(name, &id, "body"));
                text[usize::try_from(one.offset).unwrap()] = b'D';
            }
        }
        let after = queue_file::envelope(&text).unwrap();
        let path = unit.layout.spool().join(path);
        if after.recipients.iter().all(|one| one.done) {
            fs::remove_file(path).unwrap();
        } else {
            fs::write(path, text).unwrap();
        }
    }
}

fn in_mailbox(unit: &Unit) -> usize {
    files(&unit.layout.mailboxes()).len()
}

/// Whoever holds deliveries back dies once: before the work, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    Never,
    Before,
    After,
}

struct Dying(Dies);

impl Deliveries for Dying {
    fn hold_back(&self, work: &mut dyn FnMut() -> io::Result<Marked>) -> io::Result<Marked> {
        let dead = || io::Error::other("test");
        match self.0 {
            Dies::Never => work(),
            Dies::Before => Err(dead()),
            Dies::After => work().and_then(|_| Err(dead())),
        }
    }

    fn local_domains(&self) -> BTreeSet<String> {
        BTreeSet::from(["local.test".to_owned()])
    }
}

fn server(unit: &Unit, dies: Dies) -> Server {
    let server = Server::new(unit.layout.clone(), WINNER, Box::new(Dying(dies)));
    server.open(6);
    server
}

/// What the loser did with the common message for alice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// Delivered; the file is gone.
    Delivered,
    /// Delivered; the file waits for another recipient.
    Marked,
    /// Delivered, and the power failed before the mark.
    Unmarked,
}

/// What the winner did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Won {
    /// It waits.
    Queued,
    Delivered,
    /// Delivered, read and filed.
    Filed,
    /// It never had it: the message came to the loser alone.
    Never,
}

const LOST: [Lost; 3] = [Lost::Delivered, Lost::Marked, Lost::Unmarked];
const WON: [Won; 4] = [Won::Queued, Won::Delivered, Won::Filed, Won::Never];

fn world(lost: Lost, won: Won) -> (Unit, Unit) {
    let both = queued(&[('R', ALICE), ('R', FAR)], "Acommon");
    let only = queued(&[('R', ALICE)], "Acommon");
    let text = if lost == Lost::Marked { &both } else { &only };
    let messages = [("deferred/A/Acommon", text.as_str())];
    let (loser, winner) = parted(if won == Won::Never { &[] } else { &messages });
    if won == Won::Never {
        loser.queued("incoming/Acommon", 0o700, text);
    }
    deliver(&loser, "a");
    if lost == Lost::Unmarked {
        loser.queued("active/Acommon", 0o700, &only);
    }
    if matches!(won, Won::Delivered | Won::Filed) {
        deliver(&winner, "b");
    }
    if won == Won::Filed {
        let mailbox = winner.layout.mailboxes().join("local.test/alice/Maildir");
        fs::create_dir_all(mailbox.join(".Old Mail/cur")).unwrap();
        let inbox = files(&mailbox.join("new"));
        fs::rename(mailbox.join("new").join(&inbox[0].0), mailbox.join(".Old Mail/cur/9.M9P9.b:2,S"))
            .unwrap();
    }
    (loser, winner)
}

#[test]
fn in_every_order_the_mailbox_has_the_message_once() {
    for lost in LOST {
        for won in WON {
            let (loser, winner) = world(lost, won);
            loser.pass(&wire(&server(&winner, Dies::Never))).unwrap();
            deliver(&winner, "b");
            assert_eq!(in_mailbox(&winner), 1, "{lost:?} {won:?}");
            assert_eq!(fs::read_dir(winner.layout.data.join("handover/parts")).unwrap().count(), 0);
        }
    }
}

/// What happens after an interruption.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The loser comes back, and the winner delivered nothing meanwhile.
    AtOnce,
    /// It comes back after the winner delivered what it could.
    Later,
    /// The winner's power fails, it delivers after its start, and the loser comes back.
    Restarted,
    /// The loser is never seen again.
    Alone,
}

fn goes_on(loser: &Unit, winner: &Unit, then: Then) {
    match then {
        Then::AtOnce => {}
        Then::Later => deliver(winner, "b"),
        Then::Restarted | Then::Alone => {
            server::recover(&winner.layout).unwrap();
            deliver(winner, "b");
        }
    }
    if !matches!(then, Then::Alone) {
        loser.pass(&wire(&server(winner, Dies::Never))).unwrap();
        deliver(winner, "b");
    }
}

#[test]
fn an_interruption_anywhere_leaves_neither_none_nor_two() {
    for lost in LOST {
        for won in WON {
            for then in [Then::AtOnce, Then::Later, Then::Restarted, Then::Alone] {
                for answered in [false, true] {
                    for breaks_at in 0.. {
                        let (loser, winner) = world(lost, won);
                        let server = server(&winner, Dies::Never);
                        let ended = loser.pass(&Wire { breaks_at, answered, ..wire(&server) }).is_ok();
                        goes_on(&loser, &winner, then);
                        // What came to the loser alone and was not confirmed is lost with its unit.
                        let none = won == Won::Never && matches!(then, Then::Alone);
                        let found = in_mailbox(&winner);
                        let what =
                            format!("{lost:?} {won:?} {then:?}, broken at {breaks_at}, answered {answered}");
                        assert!(found == 1 || (found == 0 && none), "{found} copies: {what}");
                        if ended {
                            assert!(breaks_at > 3, "the test interrupts something");
                            break;
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_primary_that_dies_between_ledger_marks_and_place_has_it_once() {
    for lost in LOST {
        for dies in [Dies::Before, Dies::After] {
            for then in [Then::AtOnce, Then::Later, Then::Restarted, Then::Alone] {
                let (loser, winner) = world(lost, Won::Queued);
                assert!(loser.pass(&wire(&server(&winner, dies))).is_err(), "{lost:?} {dies:?}");
                let parts = fs::read_dir(winner.layout.data.join("handover/parts")).unwrap().count();
                assert_eq!((parts, in_mailbox(&winner)), (1, 0), "{lost:?} {dies:?}");
                goes_on(&loser, &winner, then);
                assert_eq!(in_mailbox(&winner), 1, "{lost:?} {dies:?} {then:?}");
            }
        }
    }
}

#[test]
fn another_message_is_never_taken_for_it() {
    let (loser, winner) = world(Lost::Delivered, Won::Delivered);
    let inbox = |name: &str, text: &str| loser.mail(&format!("{INBOX}/{name}"), text);
    // The id and all headers of the common message, and another body, as no unit writes it.
    inbox("600.M1P1.a", &stored("a", "Acommon", "other body"));
    inbox("601.M1P1.a", &stored("a", "Aother", "body"));
    inbox("602.M1P1.a", "Subject: by a client\n\nbody\n");
    // The same message to somebody else.
    loser.mail("local.test/bob/Maildir/new/603.M1P1.a", &stored("a", "Acommon", "body"));
    let server = server(&winner, Dies::Never);
    let counts = loser.pass(&wire(&server)).unwrap();
    assert_eq!(counts.mail_passed, 5, "the one that the mailbox has is confirmed as well");
    assert_eq!((server.served().taken, server.served().recognised), (5, 1));
    assert_eq!(in_mailbox(&winner), 5);
    assert_eq!(files(&winner.layout.mailboxes().join("local.test/bob")).len(), 1);
}

#[test]
fn copies_that_the_user_of_the_loser_made_stay_as_many() {
    let (loser, winner) = world(Lost::Delivered, Won::Queued);
    loser.mail("local.test/alice/Maildir/.Kept/cur/700.M1P1.a:2,S", &stored("a", "Acommon", "body"));
    for _ in 0..2 {
        loser.pass(&wire(&server(&winner, Dies::Never))).unwrap();
        deliver(&winner, "b");
        assert_eq!(in_mailbox(&winner), 2);
    }
}

#[test]
fn a_message_that_both_stored_in_one_file_stays_one() {
    // Stored shortly before the copies parted: no list says for certain that both have it. Read since, on the winner.
    let (loser, winner) = parted(&[]);
    loser.mail(&format!("{INBOX}/150.M1P1.a"), "Subject: by a client\n\nbody\n");
    winner.mail("local.test/alice/Maildir/cur/150.M1P1.a:2,S", "Subject: by a client\n\nbody\n");
    loser.pass(&wire(&server(&winner, Dies::Never))).unwrap();
    assert_eq!(in_mailbox(&winner), 1);
}

#[test]
fn what_its_user_deleted_on_the_loser_is_not_delivered_by_the_primary() {
    let (loser, winner) = world(Lost::Delivered, Won::Queued);
    fs::remove_dir_all(loser.layout.mailboxes().join("local.test")).unwrap();
    let counts = loser.pass(&wire(&server(&winner, Dies::Never))).unwrap();
    deliver(&winner, "b");
    assert_eq!((counts.settled_recipients, in_mailbox(&winner)), (1, 0));
}

#[test]
fn a_message_that_is_handed_over_together_with_its_delivery_is_marked() {
    let (loser, winner) = world(Lost::Unmarked, Won::Never);
    let server = server(&winner, Dies::Never);
    loser.pass(&wire(&server)).unwrap();
    let waits = fs::read_to_string(winner.layout.spool().join("incoming/Acommon")).unwrap();
    assert_eq!(waits, queued(&[('D', ALICE)], "Acommon"));
    let ledger = fs::read_to_string(winner.layout.queue.join("handover/ledger")).unwrap();
    assert!(ledger.contains("{\"settled\":\"Acommon\",\"recipients\":[\"alice@local.test\"]}"), "{ledger}");
}
