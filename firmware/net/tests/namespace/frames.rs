//! Frames for tests of raw sockets.

use crate::tools::until;
use twinpost_net::raw::{FRAME_BUF_BYTES, RawSocket};

/// The next frame, waiting for it.
pub fn next_frame(socket: &RawSocket) -> Vec<u8> {
    let mut buf = [0; FRAME_BUF_BYTES];
    let mut length = None;
    until(2000, || {
        length = socket.recv(&mut buf).expect("receive");
        length.is_some()
    });
    buf[..length.expect("waited for")].to_vec()
}
