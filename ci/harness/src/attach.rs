//! Hands-on use: joins the terminal to a unit's console until Ctrl-]. The unit's own login does the rest.

use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Ctrl-], as telnet has it.
const LEAVE: u8 = 0x1D;

/// Joins standard input and output to the console at `path`. Returns when Ctrl-] is typed or the unit loses power.
///
/// # Errors
/// The unit does not run, or somebody else holds its console.
pub fn attach(path: &Path) -> std::io::Result<()> {
    let console = UnixStream::connect(path)?;
    let mut from_unit = console.try_clone()?;
    let mut to_unit = console.try_clone()?;
    enable_raw_mode()?;
    let typist = std::thread::spawn(move || {
        let mut key = [0; 64];
        let mut keys = std::io::stdin().lock();
        while let Ok(length @ 1..) = keys.read(&mut key) {
            let typed = key.get(..length).unwrap_or_default();
            if typed.contains(&LEAVE) || to_unit.write_all(typed).is_err() {
                break;
            }
        }
        // Wakes the other direction.
        let _ = to_unit.shutdown(std::net::Shutdown::Both);
    });
    let result = show(&mut from_unit);
    disable_raw_mode()?;
    drop(typist); // it waits for a key that nobody needs to type: the process ends
    result
}

fn show(from_unit: &mut UnixStream) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut piece = [0; 4096];
    loop {
        let length = from_unit.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        out.write_all(piece.get(..length).unwrap_or_default())?;
        out.flush()?;
    }
}
