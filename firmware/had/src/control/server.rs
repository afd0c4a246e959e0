//! The answering side: listens on each heartbeat link, believes nobody before a sealed message has opened, and serves one connection at
//! a time, the newest. What is hostile or broken is counted and dropped without an answer.

use super::stream::{self, StreamError};
use super::{Control, Way, count, entropy, limit};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twinpost_control::{
    BODY_BYTES_MAX, Channel, GREETING_MESSAGE_BYTES, Handshake, HandshakeError, Kind, Message, Service,
};
use twinpost_types::LinkId;

/// A connection whose peer says nothing for this long ends: a living one pings every five seconds.
const IDLE: Duration = Duration::from_secs(20);
/// From the connection to the first sealed piece.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);
/// Connections of one link that are not believed yet. The peer needs one.
pub(super) const UNPROVEN_MAX: usize = 4;
/// Pause before a link on which nobody can be served is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 8;

/// Listens on one link for ever.
pub async fn listen(
    control: Arc<Control>,
    way: Way,
    trouble: Arc<impl Fn(LinkId, Option<String>) + Send + Sync + 'static>,
) {
    let unproven = Arc::new(Semaphore::new(UNPROVEN_MAX));
    loop {
        let error = match open(&way) {
            Ok(listener) => {
                trouble(way.link, None);
                accept(&control, &way, &listener, &unproven).await
            }
            Err(error) => error,
        };
        trouble(way.link, Some(error.to_string()));
        tokio::time::sleep(AGAIN).await;
    }
}

fn open(way: &Way) -> io::Result<TcpListener> {
    let socket = way.socket()?;
    socket.set_reuseaddr(true)?;
    if let Some(device) = &way.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.bind(way.own)?;
    socket.listen(BACKLOG)
}

/// Takes connections until the listener breaks.
async fn accept(
    control: &Arc<Control>,
    way: &Way,
    listener: &TcpListener,
    unproven: &Arc<Semaphore>,
) -> io::Error {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => return error,
        };
        if from.ip() != way.peer.ip() {
            count(&control.counters.stranger);
            continue;
        }
        let Ok(place) = Arc::clone(unproven).try_acquire_owned() else {
            count(&control.counters.crowded);
            continue;
        };
        if stream::prepare(&stream).is_ok() {
            tokio::spawn(attend(Arc::clone(control), stream, place));
        }
    }
}

/// One connection from its first byte to its end.
async fn attend(control: Arc<Control>, mut stream: TcpStream, place: OwnedSemaphorePermit) {
    let proof = tokio::time::timeout(HANDSHAKE, prove(&control, &mut stream)).await;
    let (mut channel, mut begun) = match proof {
        Ok(Ok(proven)) => proven,
        Ok(Err(error)) => return note(&control, &error),
        Err(_) => return count(&control.counters.slow),
    };
    drop(place);
    let mut served = control.served.subscribe();
    control.served.send_modify(|connection| *connection += 1);
    let own = *served.borrow_and_update();
    loop {
        let request = match stream::read_rest(&mut stream, &mut channel, begun).await {
            Ok(request) if request.kind == Kind::Request => request,
            Ok(_) => return count(&control.counters.malformed),
            Err(error) => return note(&control, &error),
        };
        let answer = answer(&control, request).await;
        if let Err(error) = stream::write_message(&mut stream, &mut channel, &answer).await {
            return note(&control, &error);
        }
        let next = tokio::time::timeout(IDLE, stream::read_first(&mut stream, &mut channel));
        begun = tokio::select! {
            next = next => match next {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => return note(&control, &error),
                Err(_) => return count(&control.counters.slow),
            },
            // A newer connection has proven itself: the peer has given this one up.
            _ = served.wait_for(|newest| *newest != own) => return,
        };
    }
}

/// The handshake, and the first piece, which only a living peer can have sealed.
async fn prove(control: &Control, stream: &mut TcpStream) -> Result<(Channel, Option<Message>), StreamError> {
    let hello = stream::read_piece(stream, GREETING_MESSAGE_BYTES).await?;
    let setup = &control.setup;
    let (mut channel, second, _) =
        Handshake::answer(&setup.key, setup.own, entropy(), &hello).map_err(StreamError::Handshake)?;
    stream::write_piece(stream, &second).await.map_err(StreamError::Io)?;
    let begun = stream::read_first(stream, &mut channel).await?;
    Ok((channel, begun))
}

/// Runs the handler of a request, within the service's limit and after the one before it.
async fn answer(control: &Control, request: Message) -> Message {
    let Some(service) = Service::from_number(request.service) else {
        return request.answer(Kind::NotServed, Vec::new());
    };
    let place = usize::from(service.number());
    let handler = control.handlers()[place].clone();
    let Some(handler) = handler else { return request.answer(Kind::NotServed, Vec::new()) };
    let mut request = request;
    let body = std::mem::take(&mut request.body);
    let work = async {
        let _turn = control.turns[place].lock().await;
        handler(body).await
    };
    match tokio::time::timeout(limit(service), work).await {
        Ok(Ok(answer)) if answer.len() <= BODY_BYTES_MAX => request.answer(Kind::Done, answer),
        Ok(Ok(answer)) => request.refusal(&format!("the answer of {} bytes is too long", answer.len())),
        Ok(Err(why)) => request.refusal(&why),
        Err(_) => request.refusal(&format!("not done within {} s", limit(service).as_secs())),
    }
}

/// Counts what ended a connection; an orderly end is none of it.
fn note(control: &Control, error: &StreamError) {
    let counters = &control.counters;
    match error {
        StreamError::Handshake(HandshakeError::WrongKey | HandshakeError::Reflected) => {
            count(&counters.wrong_key)
        }
        StreamError::Handshake(HandshakeError::Length(_)) | StreamError::Open(_) => {
            count(&counters.malformed)
        }
        StreamError::Slow => count(&counters.slow),
        StreamError::Closed | StreamError::Io(_) => {}
    }
}
