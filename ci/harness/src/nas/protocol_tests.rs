//! Tests of the procedures: a kernel's way to a file, long folders, what is refused.

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A call by root; the results behind the accepted reply.
fn call(server: &mut Server, program: u32, procedure: u32, arguments: &Writer) -> Vec<u8> {
    let version = if program == PROGRAM_MAPPER { 2 } else { 3 };
    let mut record = Writer::default();
    record.word(7).word(0).word(2).word(program).word(version).word(procedure);
    let mut credentials = Writer::default();
    credentials.word(0).bytes(b"unit").word(0).word(0).word(0);
    record.word(1).bytes(&credentials.0).word(0).bytes(b"");
    record.0.extend_from_slice(&arguments.0);
    let reply = server.answer(&record.0, NOW).unwrap();
    let mut words = Reader::new(&reply);
    words.word();
    assert_eq!([0; 6].map(|_| words.word().unwrap()), [7, 1, 0, 0, 0, 0]);
    reply[28..].to_vec()
}

fn words(write: impl FnOnce(&mut Writer)) -> Writer {
    let mut words = Writer::default();
    write(&mut words);
    words
}

#[test]
fn the_kernels_way_to_a_file() {
    let mut server = Server::new("/export/mail", NOW);
    let port = call(
        &mut server,
        PROGRAM_MAPPER,
        3,
        &words(|w| {
            w.word(PROGRAM_MOUNT).word(3).word(6).word(0);
        }),
    );
    assert_eq!(port, u32::from(PORT).to_be_bytes());
    let refused = call(
        &mut server,
        PROGRAM_MOUNT,
        1,
        &words(|w| {
            w.bytes(b"/other");
        }),
    );
    assert_eq!(refused, 2_u32.to_be_bytes());
    let mounted = call(
        &mut server,
        PROGRAM_MOUNT,
        1,
        &words(|w| {
            w.bytes(b"/export/mail");
        }),
    );
    let mut results = Reader::new(&mounted);
    assert_eq!(results.word(), Some(0));
    let root = results.bytes().unwrap().to_vec();

    // CREATE, guarded, mode 0600; then what is there already.
    let create = words(|w| {
        w.bytes(&root).bytes(b"one").word(1);
        w.word(1).word(0o600).word(0).word(0).word(0).word(0).word(0);
    });
    let made = call(&mut server, PROGRAM_NFS, 8, &create);
    let mut results = Reader::new(&made);
    assert_eq!((results.word(), results.word()), (Some(0), Some(1)));
    let file = results.bytes().unwrap().to_vec();
    let again = call(&mut server, PROGRAM_NFS, 8, &create);
    assert_eq!(again, [17_u32, 0, 0].map(u32::to_be_bytes).concat());

    let written = words(|w| {
        w.bytes(&file).long(0).word(5).word(2).bytes(b"hello");
    });
    call(&mut server, PROGRAM_NFS, 7, &written);
    let read = call(
        &mut server,
        PROGRAM_NFS,
        6,
        &words(|w| {
            w.bytes(&file).long(1).word(100);
        }),
    );
    let mut results = Reader::new(&read[4 + 4 + 84..]);
    assert_eq!((results.word(), results.word(), results.bytes()), (Some(4), Some(1), Some(&b"ello"[..])));
    let attributes = call(
        &mut server,
        PROGRAM_NFS,
        1,
        &words(|w| {
            w.bytes(&file);
        }),
    );
    assert_eq!(attributes.len(), 4 + 84);
    assert_eq!(attributes[4 + 20..4 + 28], 5_u64.to_be_bytes());
}

#[test]
fn a_long_folder_comes_in_parts() {
    let mut server = Server::new("/export/mail", NOW);
    let root = Tree::ROOT.to_be_bytes();
    for number in 0..300 {
        let folder = words(|w| {
            w.bytes(&root).bytes(format!("folder-{number:03}").as_bytes());
            w.word(1).word(0o755).word(0).word(0).word(0).word(0).word(0);
        });
        call(&mut server, PROGRAM_NFS, 9, &folder);
    }
    let (mut after, mut names, mut answers) = (0, Vec::new(), 0);
    loop {
        let asked = words(|w| {
            w.bytes(&root).long(after).long(0).word(4096).word(8192);
        });
        let answer = call(&mut server, PROGRAM_NFS, 17, &asked);
        assert!(answer.len() <= 8192);
        answers += 1;
        let mut results = Reader::new(&answer[4 + 4 + 84 + 8..]);
        while results.flag().unwrap() {
            results.long();
            names.push(String::from_utf8(results.bytes().unwrap().to_vec()).unwrap());
            after = results.long().unwrap();
            assert_eq!(results.word(), Some(1));
            results.fixed::<84>().unwrap();
            assert_eq!(results.word(), Some(1));
            results.bytes().unwrap();
        }
        if results.flag().unwrap() {
            break;
        }
    }
    assert_eq!((names.len(), answers > 3), (302, true));
    assert_eq!(names[..3], [".", "..", "folder-000"]);
}

#[test]
fn what_is_not_served_is_said() {
    let mut server = Server::new("/export/mail", NOW);
    let mut record = Writer::default();
    record.word(7).word(0).word(2).word(PROGRAM_NFS).word(4).word(0).word(0).bytes(b"").word(0).bytes(b"");
    let other_version = server.answer(&record.0, NOW).unwrap();
    assert_eq!(other_version[24..], [2_u32, 3, 3].map(u32::to_be_bytes).concat());
    record.0[12..16].copy_from_slice(&9_u32.to_be_bytes());
    assert_eq!(server.answer(&record.0, NOW).unwrap()[24..], 1_u32.to_be_bytes());
    assert!(server.answer(b"garbage", NOW).is_none());
    // A handle that nobody gave.
    let stale = call(
        &mut server,
        PROGRAM_NFS,
        1,
        &words(|w| {
            w.bytes(&9_u64.to_be_bytes());
        }),
    );
    assert_eq!(stale, 70_u32.to_be_bytes());
}
