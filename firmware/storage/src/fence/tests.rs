//! Questions reach the supervisor and its answers the kernel; without one nothing is decided.

use super::*;
use std::time::Instant;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn ask(path: &Path, event: &'static str, resource: &'static str) -> u8 {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || helper::ask(&path, event, resource, Duration::from_millis(300)))
        .await
        .unwrap()
}

#[test]
fn an_answer_becomes_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/fence.sock");
    runtime().block_on(async {
        let mut listener = listen(&path).unwrap();
        let asking = ask(&path, "fence-peer", "queue");
        let answering = async {
            let question = listener.next().await;
            assert_eq!(
                (question.event.clone(), question.volume()),
                (HelperEvent::FencePeer, Some(VolumeId::Queue))
            );
            question.answer(5);
        };
        assert_eq!(tokio::join!(asking, answering).0, 5);
    });
}

#[test]
fn notices_go_on_at_once_and_name_the_volume_by_minor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fence.sock");
    runtime().block_on(async {
        let mut listener = listen(&path).unwrap();
        assert_eq!(ask(&path, "split-brain", "minor-1").await, 0);
        let notice = listener.next().await;
        assert_eq!((notice.event.clone(), notice.volume()), (HelperEvent::SplitBrain, Some(VolumeId::Data)));
        // More notices than the queue holds: none may hang.
        for _ in 0..2 * QUEUE {
            assert_eq!(ask(&path, "before-resync-source", "minor-0").await, 0);
        }
    });
}

#[test]
fn without_a_supervisor_nothing_is_decided() {
    let began = Instant::now();
    let path = Path::new("/nonexistent/fence.sock");
    assert_eq!(helper::ask(path, "fence-peer", "queue", Duration::from_millis(300)), UNDECIDED);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(helper::ask(path, "split-brain", "minor-0", Duration::from_millis(300)), 0);
}

#[test]
fn a_dropped_question_is_undecided() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fence.sock");
    runtime().block_on(async {
        let mut listener = listen(&path).unwrap();
        let (code, ()) =
            tokio::join!(ask(&path, "fence-peer", "data"), async { drop(listener.next().await) });
        assert_eq!(code, UNDECIDED);
    });
}

#[test]
fn a_supervisor_that_comes_late_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fence.sock");
    runtime().block_on(async {
        let late = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut listener = listen(&path).unwrap();
            listener.next().await.answer(4);
            listener
        };
        let waiting = path.clone();
        let asking = tokio::task::spawn_blocking(move || {
            helper::ask(&waiting, "fence-peer", "queue", Duration::from_secs(30))
        });
        let (code, _listener) = tokio::join!(asking, late);
        assert_eq!(code.unwrap(), 4);
    });
}

#[test]
fn garbage_on_the_socket_is_ignored() {
    use tokio::io::AsyncWriteExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fence.sock");
    runtime().block_on(async {
        let mut listener = listen(&path).unwrap();
        for garbage in [&b"\n"[..], b"fence-peer\n", &[0xff; 4096], b""] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            // The listener may hang up first.
            let _ = stream.write_all(garbage).await;
        }
        let (code, ()) = tokio::join!(ask(&path, "fence-peer", "data"), async {
            let question = listener.next().await;
            assert_eq!(question.volume(), Some(VolumeId::Data));
            question.answer(6);
        });
        assert_eq!(code, 6);
    });
}
