//! The face as a whole: commands, golden vectors of the text form, the socket with a supervisor that answers, hangs up or
//! talks nonsense, and lines that are no lines.

use super::*;
use command::parse;
use std::io::{BufReader, Cursor};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use twinpost_api::Stress;

fn request(line: &str) -> Request {
    match parse(&line.split(' ').collect::<Vec<_>>()) {
        Ok(Command::Request(request)) => request,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn every_command_of_the_machine_console_is_known() {
    let kill = |signal| Request::Kill { service: "postfix".into(), signal };
    let service = |start| Request::Service { service: "dovecot".into(), start };
    for (line, wanted) in [
        ("get system ha status", Request::Status),
        ("diagnose system event list 17", Request::Events { after: 17 }),
        ("diagnose system log", Request::Log { lines: 50 }),
        ("diagnose system log 500", Request::Log { lines: 500 }),
        ("diagnose system event list", Request::Events { after: 0 }),
        ("diagnose system ha failover", Request::Failover),
        ("diagnose system ha restore", Request::Restore),
        ("diagnose system ha restart", Request::Restart),
        ("execute ha restart", Request::Restart),
        ("execute ha force-primary", Request::ForcePrimary),
        ("execute reboot", Request::Reboot),
        ("execute shutdown", Request::Shutdown),
        ("diagnose system process kill postfix 9", kill(9)),
        ("diagnose system process kill postfix SIGKILL", kill(9)),
        ("diagnose system process start dovecot", service(true)),
        ("diagnose system process stop dovecot", service(false)),
        ("execute date 2026-11-22 07:00:01", Request::SetClock { unix_s: 1_795_330_801 }),
        ("diagnose debug stress io 300", Request::Stress { kind: Stress::Io, seconds: 300 }),
        ("set system ha takeover", Request::Failover),
        ("diagnose system ha sync", Request::Sync),
        ("set system ha resync", Request::Sync),
        ("set system ha restore", Request::Restore),
        ("set system ha restart", Request::Restart),
    ] {
        assert_eq!(request(line), wanted, "{line}");
    }
    assert_eq!(parse(&["?"]), Ok(Command::Help));
    for (line, view) in [
        ("diagnose system ha cluster-status", View::Cluster),
        ("diagnose system ha sync-status", View::Sync),
        ("diagnose system ha showcsum", View::Checksums { all: false }),
        ("diagnose system ha showcsum all", View::Checksums { all: true }),
    ] {
        assert_eq!(parse(&line.split(' ').collect::<Vec<_>>()), Ok(Command::Look(view)), "{line}");
        assert!(command::help().contains(line));
    }
    assert!(command::help().contains("diagnose system ha failover "));
}

#[test]
fn leftovers_are_given_up_only_after_a_confirmation() {
    let request = |line: &str| parse(&line.split(' ').collect::<Vec<_>>());
    let discard = |confirmed| Ok(Command::Request(Request::QueueDiscard { confirmed }));
    assert_eq!(request("diagnose system ha queue list"), Ok(Command::Request(Request::QueueList)));
    assert_eq!(request("diagnose system ha queue adopt"), Ok(Command::Request(Request::QueueAdopt)));
    assert_eq!(request("diagnose system ha queue discard"), discard(false));
    assert_eq!(request("diagnose system ha queue discard confirm"), discard(true));
    assert!(request("diagnose system ha queue discard yes").is_err());
}

#[test]
fn what_is_no_command_is_refused_with_what_is_allowed() {
    let refusal =
        |line: &str| parse(&line.split_ascii_whitespace().collect::<Vec<_>>()).unwrap_err().to_string();
    let all = refusal("");
    assert!(all.starts_with("unknown command (empty line)") && all.ends_with("help"), "{all}");
    assert_eq!(
        refusal("diagnose system ha explode"),
        "unknown command \"diagnose system ha explode\"; allowed: diagnose system ha failover; \
         diagnose system ha restore; diagnose system ha restart; diagnose system ha sync; \
         diagnose system ha queue list; diagnose system ha queue report; diagnose system ha queue adopt; \
         diagnose system ha queue discard [confirm]; diagnose system ha cluster-status; diagnose system ha sync-status; diagnose system ha showcsum; \
         diagnose system ha showcsum all"
    );
    assert!(refusal("diagnose system process kill postfix 32").contains("1 to 31"));
    assert!(refusal("diagnose system process kill ../x 9").contains("<service>"));
    assert!(refusal("diagnose debug stress disk 5").contains("cpu, io, memory"));
    assert!(refusal("diagnose debug stress cpu 3601").contains("1 to 3600"));
    assert!(refusal("diagnose system log 501").contains("1 to 500"));
    assert!(refusal("diagnose system log +5").contains("1 to 500"));
    assert!(refusal("execute date 2026-02-30 00:00:00").contains("2026-02-30 00:00:00"));
    assert!(refusal("diagnose system event list -1").contains("a whole number"));
    assert!(refusal("diagnose system ha showcsum none").contains("diagnose system ha showcsum all"));
    assert!(refusal(&"x".repeat(4000)).len() < 1200);
}

#[test]
fn replies_are_rendered_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let bless = std::env::var_os("TWINPOST_BLESS").is_some();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let input = entry.unwrap().path();
        let name = input.file_name().unwrap().to_str().unwrap().to_string();
        let Some(stem) = name.strip_suffix("-input.json") else { continue };
        let output = folder.join(format!("{stem}-output.txt"));
        let reply = serde_json::from_slice(&std::fs::read(&input).unwrap()).unwrap();
        let got = render::reply(&reply) + "\n";
        if bless {
            std::fs::write(&output, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&output).unwrap_or_default();
        assert_eq!(got, expected, "{name}: set TWINPOST_BLESS=1 to record a wanted change");
        count += 1;
    }
    assert!(count >= 6, "vectors are missing: {count}");
}

/// A socket in the test's own folder whose supervisor says `answer` to one request.
fn supervisor(name: &str, answer: &'static [u8]) -> (PathBuf, std::thread::JoinHandle<String>) {
    let path = std::env::temp_dir().join(format!("twinpostctl-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(answer).unwrap();
        line
    });
    (path, thread)
}

#[test]
fn the_supervisor_is_asked_and_its_faults_are_told() {
    let ask = |name, answer| {
        let (path, thread) = supervisor(name, answer);
        let got = connection::ask_at(&path, &Request::Events { after: 3 });
        assert_eq!(thread.join().unwrap(), "{\"request\":\"events\",\"after\":3}\n");
        std::fs::remove_file(path).unwrap();
        got
    };
    let good = ask("good", b"{\"reply\":\"accepted\",\"message\":\"ok\"}\n").unwrap();
    assert_eq!(good, Reply::Accepted { message: "ok".into() });
    assert!(matches!(ask("mute", b""), Err(connection::AskError::Answer(_))));
    assert!(matches!(ask("mad", b"hello\n"), Err(connection::AskError::Garbled(_))));

    let nobody = connection::ask_at(Path::new("/nonexistent/api.sock"), &Request::Status).unwrap_err();
    let told = connection::explain(&nobody);
    assert!(told.contains("/run/twinpost/api.sock") && told.contains("/run/twinpost/service.log"), "{told}");
}

#[test]
fn a_missing_supervisor_leaves_its_last_lines() {
    let log = "1.000 had: old\n2.000 postfix: no\n".to_owned()
        + &(0..8).map(|i| format!("3.00{i} had: line\t{i}\n")).collect::<String>();
    let told = connection::last_words(&log);
    assert!(told.ends_with("3.007 had: line?7") && told.contains("3.000 had: line?0"), "{told}");
    assert!(!told.contains("old") && !told.contains("postfix"), "{told}");
}

#[test]
fn lines_are_bounded_and_garbage_is_answered() {
    let mut bytes = b"get system ha status\r\n".to_vec();
    bytes.extend(vec![b'x'; 3 * LINE_BYTES_MAX]);
    bytes.extend(b"\n\xff\xfe\n\nlast");
    let mut input = Cursor::new(bytes);
    let mut lines = Vec::new();
    while let Some(line) = read_line(&mut input).unwrap() {
        lines.push(line);
    }
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], Line::Text("get system ha status\r\n".into()));
    assert!(matches!(lines[1], Line::Bad(_)) && matches!(lines[2], Line::Bad(_)));
    assert_eq!((&lines[3], &lines[4]), (&Line::Text("\n".into()), &Line::Text("last".into())));
}

#[test]
fn a_program_on_the_operators_console_asks_for_json() {
    assert_eq!(command_words("--json get system\r\n"), (true, vec!["get", "system"]));
    assert_eq!(command_words("get --json\n"), (false, vec!["get", "--json"]));
    assert_eq!(command_words(" \n"), (false, vec![]));
}

#[test]
fn json_answers_are_one_line() {
    let (help, code) = answer(&["help"]);
    assert_eq!(code, DONE);
    assert_eq!(text(&help, true).lines().count(), 1);
    let (empty, code) = answer(&[]);
    assert_eq!(code, NOT_A_COMMAND);
    assert!(text(&empty, true).starts_with("{\"reply\":\"refused\""));
}
