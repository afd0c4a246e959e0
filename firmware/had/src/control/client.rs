//! The calling side: one connection that is kept, made again over either link when it broke. A request is sent once; whether it is
//! repeated is the caller's decision.

use super::stream::{self, StreamError};
use super::{CallError, Control, State, Way, entropy};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use twinpost_control::{BODY_BYTES_MAX, Channel, GREETING_MESSAGE_BYTES, Handshake, Kind, Message, Service};
use twinpost_types::LinkId;

/// How long one link may take to connect and shake hands: both units are one cable apart.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection over which this unit asks.
pub struct Line {
    stream: TcpStream,
    channel: Channel,
    link: LinkId,
    last_id: u32,
}

/// One request and its answer.
pub async fn call(control: &Control, service: Service, request: Vec<u8>) -> Result<Vec<u8>, CallError> {
    if request.len() > BODY_BYTES_MAX {
        return Err(CallError::TooLarge(request.len()));
    }
    let mut kept = control.line.lock().await;
    // Taken out, so that a call that ends in the middle leaves no half-used line behind.
    let mut line = match kept.take() {
        Some(line) => line,
        None => connect(control).await.map_err(CallError::Unreachable)?,
    };
    line.last_id = line.last_id.wrapping_add(1);
    let request = Message::request(service, line.last_id, request);
    match exchange(&mut line, &request).await {
        Ok(answer) => {
            control.tell(State { link: Some(line.link), why: String::new() });
            *kept = Some(line);
            match answer.kind {
                Kind::Done => Ok(answer.body),
                Kind::Refused => Err(CallError::Refused(answer.reason())),
                Kind::NotServed | Kind::Request => Err(CallError::NotServed(service)),
            }
        }
        Err(error) => Err(CallError::Broken(error.to_string())),
    }
}

async fn exchange(line: &mut Line, request: &Message) -> Result<Message, StreamError> {
    stream::write_message(&mut line.stream, &mut line.channel, request).await?;
    let begun = stream::read_first(&mut line.stream, &mut line.channel).await?;
    let answer = stream::read_rest(&mut line.stream, &mut line.channel, begun).await?;
    if answer.kind == Kind::Request || (answer.id, answer.service) != (request.id, request.service) {
        return Err(StreamError::Open(twinpost_control::OpenError::Malformed));
    }
    Ok(answer)
}

/// A new connection over the first link that works, the one that worked last first; what failed on each link otherwise.
async fn connect(control: &Control) -> Result<Line, String> {
    let last = control.state.borrow().link;
    let mut ways: Vec<&Way> = control.setup.ways.iter().collect();
    ways.sort_by_key(|way| Some(way.link) != last);
    let mut failures = Vec::new();
    for way in ways {
        let outcome = tokio::time::timeout(CONNECT, connect_over(control, way)).await;
        match outcome.unwrap_or_else(|_| Err("no answer".to_string())) {
            Ok(line) => return Ok(line),
            Err(failure) => failures.push(format!("{}: {failure}", way.link)),
        }
    }
    if failures.is_empty() {
        failures.push("no heartbeat link is configured".to_string());
    }
    Err(failures.join("; "))
}

async fn connect_over(control: &Control, way: &Way) -> Result<Line, String> {
    let mut stream = open(way).await.map_err(|error| error.to_string())?;
    let setup = &control.setup;
    let (handshake, first) = Handshake::call(&setup.key, setup.own, entropy());
    stream::write_piece(&mut stream, &first).await.map_err(|error| error.to_string())?;
    let second =
        stream::read_piece(&mut stream, GREETING_MESSAGE_BYTES).await.map_err(|error| match error {
            // A unit that does not know the caller's password closes without a word.
            StreamError::Closed => "refused; do both units have the same HA password?".to_string(),
            error => error.to_string(),
        })?;
    let (channel, _peer) = handshake.finish(&second).map_err(|error| error.to_string())?;
    Ok(Line { stream, channel, link: way.link, last_id: 0 })
}

async fn open(way: &Way) -> io::Result<TcpStream> {
    let socket = way.socket()?;
    if let Some(device) = &way.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    // Any port, but the link's own address.
    let mut own = way.own;
    own.set_port(0);
    socket.bind(own)?;
    let stream = socket.connect(way.peer).await?;
    stream::prepare(&stream)?;
    Ok(stream)
}
