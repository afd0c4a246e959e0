//! Whole hand-overs between two folders, with interruptions at every point.

mod local;
mod resumed;
mod twins;

use super::item::{Item, QueueFolder};
use super::manifest::{self, Promotion, Volume};
use super::pass::{self, PassError, Progress, Source};
use super::server::{self, Served, Server};
use super::settle::{Deliveries, Marked};
use super::{Channel, ChannelError, Layout, report};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const LOSER: u64 = 1;
const WINNER: u64 = 2;

/// The wire of the tests: breaks at one call, before or after the primary has done it.
struct Wire<'a> {
    server: &'a Server,
    calls: AtomicUsize,
    breaks_at: usize,
    answered: bool,
    /// Pieces are written as soon as they are answered, not before the next answer.
    writes: bool,
}

impl Channel for Wire<'_> {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let breaks = self.calls.fetch_add(1, Ordering::Relaxed) == self.breaks_at;
        let gone = || Err(ChannelError("test".into()));
        if breaks && !self.answered {
            return gone();
        }
        let answer = self.server.handle(&request);
        if self.writes {
            self.server.write_pending();
        }
        if breaks { gone() } else { Ok(answer) }
    }
}

fn wire(server: &Server) -> Wire<'_> {
    Wire { server, calls: AtomicUsize::new(0), breaks_at: usize::MAX, answered: false, writes: false }
}

/// No Postfix runs here: counts how often it would be held back.
#[derive(Clone, Default)]
struct Held(Arc<AtomicUsize>);

impl Deliveries for Held {
    fn hold_back(&self, work: &mut dyn FnMut() -> io::Result<Marked>) -> io::Result<Marked> {
        self.0.fetch_add(1, Ordering::Relaxed);
        work()
    }

    fn local_domains(&self) -> BTreeSet<String> {
        BTreeSet::from(["local.test".to_owned()])
    }
}

struct Unit {
    _dir: tempfile::TempDir,
    layout: Layout,
}

impl Unit {
    fn new() -> Self {
        // In memory where there is such a folder: confirmations sync the whole file system, and tests share it with builds.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(parent).unwrap();
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let layout = Layout {
            queue: dir.path().join("queue"),
            data: dir.path().join("data"),
            postfix: own,
            vmail: own,
        };
        for queue in ["incoming", "active", "deferred/A", "hold", "maildrop", "bounce", "trace"] {
            fs::create_dir_all(layout.spool().join(queue)).unwrap();
        }
        fs::create_dir_all(layout.mailboxes()).unwrap();
        Self { _dir: dir, layout }
    }

    fn promote(&self, unit: u64, epoch: u64, copies_equal: bool) {
        let promotion = Promotion { epoch, unit, copies_equal, local: false, before_s: 100 };
        let go_on = AtomicBool::new(false);
        manifest::note(&self.layout, Volume::Queue, promotion, &go_on).unwrap();
        manifest::note(&self.layout, Volume::Data, promotion, &go_on).unwrap();
    }

    fn queued(&self, path: &str, mode: u32, text: &str) {
        let path = self.layout.spool().join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mail(&self, path: &str, text: &str) {
        let path = self.layout.mailboxes().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn server(&self, epoch: u64) -> Server {
        self.server_of(epoch, Held::default())
    }

    fn server_of(&self, epoch: u64, held: Held) -> Server {
        let server = Server::new(self.layout.clone(), WINNER, Box::new(held));
        server.open(epoch);
        server
    }

    fn pass(&self, wire: &Wire) -> Result<super::message::Counts, PassError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(pass::pass(
            &self.layout,
            Source::Replica { whole: true },
            wire,
            &Progress::default(),
        ))
    }
}

/// Names and contents.
type Files = Vec<(String, String)>;

/// All files below a folder with their content, sorted.
fn files(root: &Path) -> Files {
    let mut all = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                all.push((name, String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()));
            }
        }
    }
    all.sort();
    all
}

/// Both units had `common`, then each accepted mail alone.
fn split() -> (Unit, Unit) {
    let (loser, winner) = (Unit::new(), Unit::new());
    for unit in [&loser, &winner] {
        unit.queued("deferred/A/Acommon", 0o700, "common");
        unit.mail("local.test/alice/Maildir/new/1.M1P1.a", "old");
    }
    // Stored while the loser already listed its mailboxes.
    loser.mail("local.test/alice/Maildir/new/200.M2P2.a", "new");
    loser.promote(LOSER, 5, true);
    winner.promote(WINNER, 6, true);
    // Delivered by the primary since: it must not come back.
    fs::remove_file(winner.layout.spool().join("deferred/A/Acommon")).unwrap();
    fs::remove_file(winner.layout.mailboxes().join("local.test/alice/Maildir/new/1.M1P1.a")).unwrap();
    winner.queued("incoming/Bwinner", 0o700, "winner");
    loser.queued("incoming/A1", 0o700, "first");
    loser.queued("active/A2", 0o700, &"second ".repeat(200_000));
    loser.queued("deferred/A/A3", 0o700, "third");
    loser.queued("bounce/A3", 0o600, "log of the third");
    loser.queued("hold/A4", 0o700, "held");
    loser.queued("maildrop/A5", 0o744, "dropped");
    loser.queued("incoming/A6", 0o600, "not acknowledged");
    loser.queued("incoming/A7", 0o700, "");
    loser.mail("local.test/alice/Maildir/cur/3.M3P3.a,S=3:2,S", "read");
    loser.mail("local.test/bob/Maildir/.Sent Items/cur/4.M4P4.a:2,RS", "sent");
    loser.mail("local.test/bob/Maildir/dovecot-uidlist", "not mail");
    loser.mail("local.test/bob/Maildir/tmp/5.M5P5.a", "half");
    (loser, winner)
}

fn expected() -> (Files, Files) {
    let own = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    let second = "second ".repeat(200_000);
    let queue: Files = own(&[
        ("bounce/A3", "log of the third"),
        ("hold/A4", "held"),
        ("incoming/A1", "first"),
        ("incoming/A2", &second),
        ("incoming/A3", "third"),
        ("incoming/A7", ""),
        ("incoming/Bwinner", "winner"),
        ("maildrop/A5", "dropped"),
    ]);
    let mail = own(&[
        ("local.test/alice/Maildir/cur/3.M3P3.a,S=3:2,S", "read"),
        ("local.test/alice/Maildir/new/200.M2P2.a", "new"),
        ("local.test/bob/Maildir/.Sent Items/cur/4.M4P4.a:2,RS", "sent"),
    ]);
    (queue, mail)
}

#[test]
fn everything_that_the_primary_lacks_arrives_and_nothing_else() {
    let (loser, winner) = split();
    let before = files(&loser.layout.queue);
    let server = winner.server(6);
    let counts = loser.pass(&wire(&server)).unwrap();
    assert_eq!((counts.queue_found, counts.queue_passed), (6, 6));
    assert_eq!((counts.mail_found, counts.mail_passed), (3, 3));
    assert_eq!((files(&winner.layout.spool()), files(&winner.layout.mailboxes())), expected());
    assert_eq!(files(&loser.layout.queue), before, "the copy is only read");
    let mode = |path| fs::metadata(winner.layout.spool().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("incoming/A1"), mode("bounce/A3")], [0o700, 0o600]);
    assert_eq!(server.served(), Served { ended: 1, last: counts, taken: 10, recognised: 0 });
}

#[test]
fn what_was_handed_over_and_delivered_is_not_taken_again() {
    let (loser, winner) = split();
    loser.pass(&wire(&winner.server(6))).unwrap();
    for queue in ["incoming/A1", "hold/A4"] {
        fs::remove_file(winner.layout.spool().join(queue)).unwrap();
    }
    // Another takeover of the same unit, which has forgotten everything but its volumes.
    winner.promote(WINNER, 7, false);
    let counts = loser.pass(&wire(&winner.server(7))).unwrap();
    assert_eq!((counts.queue_found, counts.queue_passed, counts.mail_passed), (6, 0, 0));
    assert!(!winner.layout.spool().join("incoming/A1").exists());
}

#[test]
fn an_interruption_at_any_call_loses_and_doubles_nothing() {
    for (answered, writes) in [(false, false), (true, false), (false, true), (true, true)] {
        for breaks_at in 0.. {
            let (loser, winner) = split();
            let server = winner.server(6);
            let broken = Wire { breaks_at, answered, writes, ..wire(&server) };
            if loser.pass(&broken).is_ok() {
                assert!(breaks_at > 8, "the test interrupts something");
                break;
            }
            loser.pass(&wire(&server)).unwrap();
            let found = (files(&winner.layout.spool()), files(&winner.layout.mailboxes()));
            assert_eq!(found, expected(), "broken at {breaks_at}, answered {answered}, writes {writes}");
        }
    }
}

#[test]
fn parts_in_the_ledger_are_placed_and_others_dropped() {
    let (loser, winner) = split();
    loser.pass(&wire(&winner.server(6))).unwrap();
    // As if the power had failed between the ledger and the renames, and in the middle of another message.
    let part = |id: &str| Item::Queue { folder: QueueFolder::Incoming, id: id.into() };
    let parts = |item: &Item| super::place::part(&winner.layout, item);
    fs::rename(winner.layout.spool().join("incoming/A1"), parts(&part("A1"))).unwrap();
    fs::write(parts(&part("A9")), "half").unwrap();
    fs::write(winner.layout.queue.join("handover/parts/strange"), "file").unwrap();
    assert_eq!(server::recover(&winner.layout).unwrap(), 1);
    assert_eq!(files(&winner.layout.spool()), expected().0);
    assert!(fs::read_dir(winner.layout.queue.join("handover/parts")).unwrap().next().is_none());
    assert_eq!(server::ledger(&winner.layout).unwrap().len(), 10);
    server::forget(&winner.layout).unwrap();
    assert_eq!(server::ledger(&winner.layout).unwrap(), []);
}

#[test]
fn a_copy_that_the_other_unit_wrote_last_holds_nothing_of_its_own() {
    let (loser, winner) = split();
    let copy = Unit::new();
    copy.queued("incoming/B1", 0o700, "of the primary");
    copy.promote(WINNER, 6, true);
    assert_eq!(copy.pass(&wire(&winner.server(6))).unwrap().queue_found, 0);
    assert_eq!(pass::leftovers(&copy.layout, LOSER, 9).unwrap(), vec![]);
    let vector = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/queue/01-one-of-two-delivered");
    fs::copy(vector, loser.layout.spool().join("incoming/A8")).unwrap();
    fs::set_permissions(loser.layout.spool().join("incoming/A8"), fs::Permissions::from_mode(0o700)).unwrap();
    let all = pass::leftovers(&loser.layout, LOSER, 9).unwrap();
    assert_eq!((all.len(), all.iter().filter(|one| one.item.is_mail()).count()), (10, 3));
    let senders: Vec<_> = all.iter().filter_map(|one| Some(one.envelope.as_ref()?.sender.as_str())).collect();
    assert_eq!(senders, ["alice@sender.test"]);
}

#[test]
fn without_manifests_everything_is_offered_but_what_the_primary_has_now() {
    let (loser, winner) = split();
    for volume in [&loser.layout.queue, &loser.layout.data] {
        fs::remove_dir_all(volume.join("handover")).unwrap();
    }
    let counts = loser.pass(&wire(&winner.server(6))).unwrap();
    assert_eq!((counts.queue_found, counts.queue_passed), (7, 6));
    assert_eq!((counts.mail_found, counts.mail_passed), (4, 3));
    assert_eq!((files(&winner.layout.spool()), files(&winner.layout.mailboxes())), expected());
}

#[test]
fn a_primary_that_is_not_ready_says_so() {
    let (loser, winner) = split();
    let server = winner.server(6);
    server.close();
    assert!(matches!(loser.pass(&wire(&server)), Err(PassError::NotNow(_))));
    // Promoted anew, and its mailboxes are not listed yet.
    server.open(7);
    assert!(matches!(loser.pass(&wire(&server)), Err(PassError::NotNow(_))));
}

#[test]
fn many_small_messages_go_in_few_calls() {
    let (loser, winner) = (Unit::new(), Unit::new());
    loser.promote(LOSER, 5, true);
    winner.promote(WINNER, 6, true);
    for id in 0..5000 {
        loser.queued(&format!("incoming/A{id}"), 0o700, &"x".repeat(500));
    }
    let server = winner.server(6);
    let wire = wire(&server);
    assert_eq!(loser.pass(&wire).unwrap().queue_passed, 5000);
    assert!(wire.calls.load(Ordering::Relaxed) < 40, "{:?}", wire.calls);
    assert_eq!(files(&winner.layout.spool()).len(), 5000);
}

/// A queue file as `cleanup` writes it, with short records: kind and content.
fn queue_file(recipients: &[(char, &str)]) -> String {
    queue_file_of(recipients, &["Subject: x"])
}

fn queue_file_of(recipients: &[(char, &str)], lines: &[&str]) -> String {
    let record = |kind: char, content: &str| {
        let length = u8::try_from(content.len()).ok().filter(|length| *length < 128).unwrap();
        format!("{kind}{}{content}", char::from(length))
    };
    let recipients: String = recipients.iter().map(|(kind, address)| record(*kind, address)).collect();
    let begin = record('T', "1700000000 1") + &record('S', "sender@example.test");
    let lines: String = lines.iter().map(|line| record('N', line)).collect();
    begin + &recipients + &record('M', "") + &lines + &record('X', "") + &record('E', "")
}

/// The first unit was PRIMARY when the second took over its copy with these messages; then both went on.
fn parted(messages: &[(&str, &str)]) -> (Unit, Unit) {
    let (loser, winner) = (Unit::new(), Unit::new());
    loser.promote(LOSER, 5, true);
    for unit in [&loser, &winner] {
        for (path, text) in messages {
            unit.queued(path, 0o700, text);
        }
    }
    let manifest = |unit: &Unit, volume: &Path| unit.layout.queue.parent().unwrap().join(volume);
    for volume in ["queue", "data"].map(Path::new) {
        fs::create_dir_all(manifest(&winner, volume).join("handover")).unwrap();
        let list = Path::new("handover/manifest");
        fs::copy(manifest(&loser, volume).join(list), manifest(&winner, volume).join(list)).unwrap();
    }
    winner.promote(WINNER, 6, false);
    (loser, winner)
}

#[test]
fn what_the_loser_finished_of_common_messages_is_not_delivered_again() {
    let open = queue_file(&[('R', "one@example.test"), ('R', "two@example.test")]);
    let half = queue_file(&[('R', "one@example.test"), ('D', "two@example.test")]);
    let all = queue_file(&[('D', "one@example.test"), ('D', "two@example.test")]);
    let names =
        ["deferred/A/Agone", "active/Apart", "hold/Asame", "incoming/Acorrupt", "deferred/A/Abounced"];
    let (loser, winner) = parted(&names.map(|name| (name, open.as_str())));
    fs::remove_file(loser.layout.spool().join("deferred/A/Agone")).unwrap();
    loser.queued("active/Apart", 0o700, &half);
    fs::create_dir(loser.layout.spool().join("corrupt")).unwrap();
    let aside = |name: &str| loser.layout.spool().join(name);
    fs::rename(aside("incoming/Acorrupt"), aside("corrupt/Acorrupt")).unwrap();
    // Refused by the next hop: the sender would never hear of it from the loser.
    loser.queued("deferred/A/Abounced", 0o700, &all);
    let offset = open.find("R\u{10}two").unwrap();
    let log =
        format!("\n<two@example.test>: no\nrecipient=two@example.test\noffset={offset}\naction=failed\n");
    loser.queued("bounce/Abounced", 0o600, &log);
    // Came to the winner alone, and is none of the loser's business.
    winner.queued("incoming/Bnew", 0o700, &open);

    let held = Held::default();
    let server = winner.server_of(6, held.clone());
    let counts = loser.pass(&wire(&server)).unwrap();
    assert_eq!((counts.settled_messages, counts.settled_recipients, counts.queue_passed), (3, 4, 0));
    let now = |path: &str| fs::read_to_string(winner.layout.spool().join(path)).unwrap();
    assert_eq!(now("deferred/A/Agone"), all);
    assert_eq!(now("active/Apart"), half);
    assert_eq!(
        now("deferred/A/Abounced"),
        queue_file(&[('D', "one@example.test"), ('R', "two@example.test")])
    );
    for untouched in ["hold/Asame", "incoming/Acorrupt", "incoming/Bnew"] {
        assert_eq!(now(untouched), open, "{untouched}");
    }
    let ledger = fs::read_to_string(winner.layout.queue.join("handover/ledger")).unwrap();
    assert!(ledger.contains("{\"settled\":\"Apart\",\"recipients\":[\"two@example.test\"]}"), "{ledger}");
    assert_eq!(held.0.load(Ordering::Relaxed), 1);
    // Again, as after an interruption: nothing is left to mark, and no delivery is held back for it.
    let counts = loser.pass(&wire(&server)).unwrap();
    assert_eq!((counts.settled_recipients, held.0.load(Ordering::Relaxed)), (0, 1));
}

#[test]
fn a_settlement_that_is_interrupted_goes_on() {
    let open = queue_file(&[('R', "one@example.test")]);
    for answered in [false, true] {
        for breaks_at in 0..3 {
            let (loser, winner) = parted(&[("deferred/A/Agone", &open)]);
            fs::remove_file(loser.layout.spool().join("deferred/A/Agone")).unwrap();
            let server = winner.server(6);
            assert!(loser.pass(&Wire { breaks_at, answered, ..wire(&server) }).is_err());
            loser.pass(&wire(&server)).unwrap();
            let now = fs::read_to_string(winner.layout.spool().join("deferred/A/Agone")).unwrap();
            assert_eq!(now, queue_file(&[('D', "one@example.test")]), "broken at {breaks_at}, {answered}");
        }
    }
}

#[test]
fn a_file_that_is_gone_proves_nothing_without_a_common_history() {
    let open = queue_file(&[('R', "one@example.test")]);
    let unsettled = |loser: &Unit, winner: &Unit, whole: bool, why: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let server = winner.server(6);
        let (wire, progress) = (wire(&server), Progress::default());
        let counts =
            runtime.block_on(pass::pass(&loser.layout, Source::Replica { whole }, &wire, &progress)).unwrap();
        assert_eq!(counts.settled_recipients, 0, "{why}");
        let now = fs::read_to_string(winner.layout.spool().join("deferred/A/Agone")).unwrap();
        assert_eq!(now, open, "{why}");
    };
    let gone = || {
        let (loser, winner) = parted(&[("deferred/A/Agone", &open)]);
        fs::remove_file(loser.layout.spool().join("deferred/A/Agone")).unwrap();
        (loser, winner)
    };
    let (loser, winner) = gone();
    unsettled(&loser, &winner, false, "in the middle of a resynchronisation");
    let (loser, winner) = gone();
    fs::remove_dir_all(loser.layout.queue.join("handover")).unwrap();
    unsettled(&loser, &winner, true, "a new drive");
    let (loser, winner) = gone();
    fs::remove_dir_all(loser.layout.spool().join("deferred")).unwrap();
    unsettled(&loser, &winner, true, "a damaged spool");
    let (loser, winner) = gone();
    fs::remove_dir_all(loser.layout.queue.join("handover")).unwrap();
    fs::remove_dir_all(loser.layout.data.join("handover")).unwrap();
    loser.promote(LOSER, 4, true);
    unsettled(&loser, &winner, true, "another history");
}

#[test]
fn the_report_says_what_was_queued_handed_over_delivered_and_at_risk() {
    let open = queue_file(&[('D', "one@example.test"), ('R', "two@example.test")]);
    // What had just come may have been moved to `active` and delivered, unseen by this copy.
    let (loser, winner) = parted(&[
        ("active/Aunderway", &open),
        ("deferred/A/Awaits", &open),
        ("active/Aodd", "odd"),
        ("incoming/Bcame", &open),
    ]);
    assert_eq!(report::now(&winner.layout).unwrap(), None);
    let begun = report::begin(&winner.layout, 6, 2).unwrap();
    assert_eq!((begun.queued, begun.at_risk, begun.completed), (4, 3, 2));
    assert_eq!((begun.listed[0].id.as_str(), begun.listed[0].open), ("Aodd", 0));
    let named = &begun.listed[1];
    assert_eq!(
        (named.sender.as_str(), &named.recipients[..], named.open),
        ("sender@example.test", &["two@example.test".to_owned()][..], 1)
    );
    report::add_recognised(&winner.layout, 4).unwrap();

    fs::remove_file(winner.layout.spool().join("active/Aunderway")).unwrap();
    fs::remove_file(winner.layout.spool().join("incoming/Bcame")).unwrap();
    fs::remove_file(loser.layout.spool().join("deferred/A/Awaits")).unwrap();
    for id in ["A1", "A2"] {
        loser.queued(&format!("incoming/{id}"), 0o700, "only here");
    }
    loser.pass(&wire(&winner.server(6))).unwrap();
    fs::remove_file(winner.layout.spool().join("incoming/A1")).unwrap();
    winner.queued("incoming/Bnew", 0o700, "came since");
    let now = report::now(&winner.layout).unwrap().unwrap();
    assert_eq!((now.queued, now.still_queued, now.at_risk, now.at_risk_queued), (4, 2, 3, 1));
    assert_eq!(now.listed.iter().map(|one| one.queued).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!((now.hand_overs, now.handed_queue, now.handed_queued), (1, 2, 1));
    assert_eq!((now.settled, now.recognised, now.completed), (1, 4, 2));
}
