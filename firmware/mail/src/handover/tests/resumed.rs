//! Passes that are ended by what the primary cannot do, or told to stop, and go on.

use super::super::message::{Piece, Request, Response, VERSION};
use super::*;

#[test]
fn pieces_that_cannot_be_written_are_told_by_the_next_answer() {
    for writes in [false, true] {
        let (loser, winner) = split();
        let server = winner.server(6);
        let parts = winner.layout.queue.join("handover/parts");
        let ask = |request: &Request| {
            let answer = server.handle(&request.encode().unwrap());
            if writes {
                server.write_pending();
            }
            Response::decode(&answer).unwrap()
        };
        assert!(matches!(ask(&Request::Begin { version: VERSION }), Response::Ready { .. }));
        fs::remove_dir(&parts).unwrap();
        let item = Item::Queue { folder: QueueFolder::Incoming, id: "A1".into() };
        let piece = Piece { item, offset: 0, length: 5, bytes: b"first".to_vec() };
        assert_eq!(ask(&Request::Store(vec![piece])), Response::Stored);
        let Response::NotNow(why) = ask(&Request::Confirm) else { panic!("it was confirmed") };
        assert!(why.contains("cannot store"), "{why}");
        assert!(matches!(ask(&Request::Confirm), Response::NotNow(_)), "the pass has ended");
        loser.pass(&wire(&server)).unwrap();
        assert_eq!((files(&winner.layout.spool()), files(&winner.layout.mailboxes())), expected());
    }
}

#[test]
fn a_pass_that_goes_on_counts_what_was_passed_before() {
    let (loser, winner) = (Unit::new(), Unit::new());
    loser.promote(LOSER, 5, true);
    winner.promote(WINNER, 6, true);
    loser.queued("incoming/A1", 0o700, "first");
    let (server, progress) = (winner.server(6), Progress::default());
    let pass = |wire: &Wire| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let source = Source::Replica { whole: true };
        runtime.block_on(pass::pass(&loser.layout, source, wire, &progress))
    };
    // The end is not heard of.
    let last = wire(&server);
    pass(&last).unwrap();
    let breaks_at = last.calls.load(Ordering::Relaxed) - 1;
    loser.queued("incoming/A2", 0o700, "second");
    assert!(pass(&Wire { breaks_at, ..wire(&server) }).is_err());
    progress.stop();
    assert!(matches!(pass(&wire(&server)), Err(PassError::Stopped)));
    progress.resume();
    let counts = pass(&wire(&server)).unwrap();
    assert_eq!((counts.queue_found, counts.queue_passed), (2, 2));
}
