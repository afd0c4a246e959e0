//! Two units on the loopback interface: what arrives, what is refused, what a hostile peer costs.

use super::*;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use twinpost_control::{GREETING_MESSAGE_BYTES, Handshake, Message};
use twinpost_types::{BootId, UnitId};

/// Own addresses of both units, and a port for this test alone.
const A: [u8; 4] = [127, 77, 0, 1];
const B: [u8; 4] = [127, 77, 0, 2];

/// A port that no other test uses.
fn port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let own = u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap();
    // Below the ephemeral range; several runs of the tests may overlap.
    10_000 + own + u16::try_from(std::process::id() % 400).unwrap() * 40
}

fn unit(password: u8, own: [u8; 4], peer: [u8; 4], port: u16) -> Arc<Control> {
    let at = |ip: [u8; 4]| SocketAddr::new(ip.into(), port);
    let way = Way { link: LinkId::ALL[0], device: None, own: at(own), peer: at(peer) };
    Control::new(Setup {
        key: ControlKey::new([password; 32]),
        own: Greeting { unit: UnitId(u64::from(own[3])), boot: BootId(1) },
        ways: vec![way],
    })
}

/// Starts to serve, and waits until it does.
async fn start(control: &Arc<Control>) {
    control.start(|link, trouble| assert_eq!(trouble, None, "{link}"));
    while TcpListener::bind(control.setup.ways[0].own).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn pair() -> (Arc<Control>, Arc<Control>) {
    let port = port();
    let (a, b) = (unit(7, A, B, port), unit(7, B, A, port));
    start(&b).await;
    (a, b)
}

/// A raw connection to `to` from its peer's address.
async fn raw(to: &Control) -> TcpStream {
    let way = &to.setup.ways[0];
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((way.peer.ip(), 0).into()).unwrap();
    socket.connect(way.own).await.unwrap()
}

async fn counted(counter: &AtomicU64, at_least: u64) {
    let counted = async {
        while counter.load(Ordering::Relaxed) < at_least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("counted in time");
}

#[tokio::test]
async fn requests_are_answered_in_order_over_one_connection() {
    let (a, b) = pair().await;
    b.serve(Service::HandOver, |mut request| async move {
        tokio::time::sleep(Duration::from_millis(u64::from(request[0] % 3))).await;
        request.reverse();
        Ok(request)
    });
    let calls = (0..20_u8).map(|n| {
        let a = Arc::clone(&a);
        tokio::spawn(async move { a.call(Service::HandOver, vec![n, 1]).await })
    });
    for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), [1, u8::try_from(n).unwrap()]);
    }
    assert_eq!(*b.served.borrow(), 1, "one connection");
    let large: Vec<u8> = (0..BODY_BYTES_MAX).map(|n| n as u8).collect();
    let mut back = a.call(Service::HandOver, large.clone()).await.unwrap();
    back.reverse();
    assert!(back == large);
    assert_eq!(a.state().borrow().link, Some(LinkId::ALL[0]));
}

#[tokio::test]
async fn refusals_and_limits_are_told_apart() {
    let (a, b) = pair().await;
    b.serve(Service::Command, |_| async { Err("no room".to_string()) });
    b.serve(Service::Keys, |_| async { Ok(vec![0; BODY_BYTES_MAX + 1]) });
    let refused = a.call(Service::Command, vec![]).await;
    assert!(matches!(refused, Err(CallError::Refused(why)) if why == "no room"));
    assert!(matches!(a.call(Service::Keys, vec![]).await, Err(CallError::Refused(_))));
    assert!(matches!(a.call(Service::HandOver, vec![]).await, Err(CallError::NotServed(Service::HandOver))));
    let long = a.call(Service::HandOver, vec![0; BODY_BYTES_MAX + 1]).await;
    assert!(matches!(long, Err(CallError::TooLarge(_))));
    assert_eq!(a.call(Service::Ping, vec![5]).await.unwrap(), [5]);
}

#[tokio::test]
async fn another_password_reaches_nothing() {
    let port = port();
    let (a, b) = (unit(8, A, B, port), unit(7, B, A, port));
    start(&b).await;
    let error = a.call(Service::Ping, vec![]).await.unwrap_err().to_string();
    assert!(error.contains("same HA password"), "{error}");
    assert_eq!(b.counters.wrong_key.load(Ordering::Relaxed), 1);
    assert_eq!(*b.served.borrow(), 0);
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again() {
    let port = port();
    let a = unit(7, A, B, port);
    let error = a.call(Service::Ping, vec![]).await;
    assert!(matches!(error, Err(CallError::Unreachable(_))), "{error:?}");
    let b = unit(7, B, A, port);
    start(&b).await;
    a.call(Service::Ping, vec![]).await.unwrap();
    // A second line of the same unit proves itself: the first one is given up, and its user notices.
    let second = unit(7, A, B, port);
    second.call(Service::Ping, vec![]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(matches!(a.call(Service::Ping, vec![]).await, Err(CallError::Broken(_))));
    a.call(Service::Ping, vec![]).await.unwrap();
}

#[tokio::test]
async fn a_unit_does_not_answer_itself() {
    let port = port();
    let a = unit(7, A, A, port);
    start(&a).await;
    assert!(matches!(a.call(Service::Ping, vec![]).await, Err(CallError::Unreachable(_))));
    counted(&a.counters.wrong_key, 1).await;
}

#[tokio::test]
async fn a_recorded_stream_is_worth_nothing() {
    let (a, b) = pair().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    b.serve(Service::Command, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok(vec![]) }
    });
    // Everything that the peer would send, up to its first request.
    let mut stream = raw(&b).await;
    let (handshake, first) = Handshake::call(&a.setup.key, a.setup.own, entropy());
    let mut recorded = [&u16::try_from(first.len()).unwrap().to_be_bytes()[..], &first].concat();
    stream.write_all(&recorded).await.unwrap();
    let mut second = [0; GREETING_MESSAGE_BYTES + 2];
    stream.read_exact(&mut second).await.unwrap();
    let (mut channel, peer) = handshake.finish(&second[2..]).unwrap();
    assert_eq!(peer, b.setup.own);
    let mut request = Vec::new();
    channel.seal(&Message::request(Service::Command, 1, vec![1]), &mut request).unwrap();
    stream.write_all(&request).await.unwrap();
    assert!(stream.read_u16().await.unwrap() > 0);
    recorded.extend_from_slice(&request);
    // The same again, while the living connection stays.
    let mut replay = raw(&b).await;
    replay.write_all(&recorded).await.unwrap();
    counted(&b.counters.malformed, 1).await;
    assert_eq!((seen.load(Ordering::Relaxed), *b.served.borrow()), (1, 1));
}

#[tokio::test]
async fn hostile_bytes_are_counted_and_dropped() {
    let (a, b) = pair().await;
    a.call(Service::Ping, vec![]).await.unwrap();
    let mut oversized = raw(&b).await;
    oversized.write_all(&[0xff; 3]).await.unwrap();
    counted(&b.counters.malformed, 1).await;
    let mut noise = raw(&b).await;
    noise
        .write_all(&[&[0, GREETING_MESSAGE_BYTES as u8][..], &[9; GREETING_MESSAGE_BYTES]].concat())
        .await
        .unwrap();
    counted(&b.counters.wrong_key, 1).await;
    // Cut in the middle of the handshake.
    let mut cut = raw(&b).await;
    cut.write_all(&[0, GREETING_MESSAGE_BYTES as u8, 1]).await.unwrap();
    drop(cut);
    let mut stranger = TcpStream::connect(b.setup.ways[0].own).await.unwrap();
    assert_eq!(stranger.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(b.counters.stranger.load(Ordering::Relaxed), 1);
    a.call(Service::Ping, vec![]).await.unwrap();
    assert_eq!(*b.served.borrow(), 1, "the living connection was never touched");
}

#[tokio::test]
async fn slow_strangers_hold_few_places_for_a_short_time() {
    let (a, b) = pair().await;
    let mut slow = Vec::new();
    for _ in 0..server::UNPROVEN_MAX {
        let mut stream = raw(&b).await;
        stream.write_all(&[0]).await.unwrap();
        slow.push(stream);
    }
    // The places are taken when the connections have been accepted, which happens in order.
    let mut crowded = raw(&b).await;
    assert_eq!(crowded.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(b.counters.crowded.load(Ordering::Relaxed), 1);
    let begun = tokio::time::Instant::now();
    counted(&b.counters.slow, server::UNPROVEN_MAX as u64).await;
    assert!(begun.elapsed() < server::HANDSHAKE + Duration::from_secs(2));
    a.call(Service::Ping, vec![]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_given_up() {
    let (a, b) = pair().await;
    a.call(Service::Ping, vec![]).await.unwrap();
    b.serve(Service::Keys, |_| std::future::pending());
    let hung = a.call(Service::Keys, vec![]).await.unwrap_err();
    assert!(matches!(hung, CallError::TimedOut(_) | CallError::Refused(_)), "{hung:?}");
    a.call(Service::Ping, vec![]).await.unwrap();
}
