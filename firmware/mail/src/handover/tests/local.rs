//! Volumes that are not replicated: handed over and emptied, to and fro, with interruptions.

use super::*;

/// Hands everything of `from` over to `to` as volumes do that are not replicated.
fn empty(from: &Unit, wire: &Wire) -> Result<crate::handover::message::Counts, PassError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(pass::pass(&from.layout, Source::Local, wire, &Progress::default()))
}

fn serve_locally(unit: &Unit, epoch: u64) -> Server {
    for volume in [Volume::Queue, Volume::Data] {
        let promotion = Promotion { epoch, unit: epoch % 2, copies_equal: false, local: true, before_s: 0 };
        manifest::note(&unit.layout, volume, promotion, &AtomicBool::new(false)).unwrap();
    }
    unit.server(epoch)
}

#[test]
fn mail_of_volumes_that_are_not_replicated_goes_to_and_fro_and_is_never_lost() {
    let (one, two) = (Unit::new(), Unit::new());
    serve_locally(&one, 1);
    one.queued("deferred/A/A1", 0o700, "waits");
    one.queued("bounce/A1", 0o600, "log");
    one.mail("local.test/alice/Maildir/new/1.M1P1.a", "mail");
    let mut expected = (files(&one.layout.spool()), files(&one.layout.mailboxes()));
    expected.0 =
        expected.0.into_iter().map(|(name, text)| (name.replace("deferred/A/", "incoming/"), text)).collect();
    for epoch in 2..6 {
        let (from, to) = if epoch % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let server = serve_locally(to, epoch);
        let counts = empty(from, &wire(&server)).unwrap();
        assert_eq!((counts.queue_passed, counts.mail_passed), (1, 1), "epoch {epoch}");
        assert_eq!((files(&to.layout.spool()), files(&to.layout.mailboxes())), expected, "epoch {epoch}");
        assert_eq!(
            (files(&from.layout.spool()), files(&from.layout.mailboxes())),
            (vec![], vec![]),
            "epoch {epoch}"
        );
    }
}

#[test]
fn an_interrupted_hand_over_of_a_local_volume_is_not_repeated_and_forgets_nothing() {
    for answered in [false, true] {
        for breaks_at in 0.. {
            let (one, two) = (Unit::new(), Unit::new());
            serve_locally(&one, 1);
            for id in ["A1", "A2"] {
                one.queued(&format!("incoming/{id}"), 0o700, id);
            }
            let server = serve_locally(&two, 2);
            let ended = empty(&one, &Wire { breaks_at, answered, ..wire(&server) }).is_ok();
            // What arrived is delivered meanwhile; the rest follows, and nothing comes twice.
            let first = files(&two.layout.spool());
            first.iter().for_each(|(name, _)| fs::remove_file(two.layout.spool().join(name)).unwrap());
            empty(&one, &wire(&server)).unwrap();
            let mut all = first;
            all.extend(files(&two.layout.spool()));
            all.sort();
            let both =
                [("incoming/A1", "A1"), ("incoming/A2", "A2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(all, both, "broken at {breaks_at}, answered {answered}");
            assert_eq!(files(&one.layout.spool()), vec![]);
            if ended {
                assert!(breaks_at > 3, "the test interrupts something");
                break;
            }
        }
    }
}

#[test]
fn what_a_mailbox_holds_already_is_not_delivered_into_it_again() {
    let (one, two) = (Unit::new(), Unit::new());
    serve_locally(&one, 1);
    let file = |kind| queue_file(&[(kind, "alice@local.test"), ('R', "far@example.test")]);
    one.queued("active/A1", 0o700, &file('R'));
    one.queued("active/A2", 0o700, &file('R'));
    let server = serve_locally(&two, 2);
    // Stored by the first unit in a mailbox that is replicated; it died before its mark was on the drive.
    two.mail(
        "local.test/alice/Maildir/new/1.M1P1.a",
        "Received: from x\n\tby a (Postfix) with ESMTP id A1;\n\n",
    );
    empty(&one, &wire(&server)).unwrap();
    let now = |id: &str| fs::read_to_string(two.layout.spool().join("incoming").join(id)).unwrap();
    assert_eq!((now("A1"), now("A2")), (file('D'), file('R')));
}
