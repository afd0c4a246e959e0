//! Lists the files of this unit's own copies, read through snapshots: run it on a unit that is not promoted.

use twinpost_storage::stale::{Look, StaleCopies};
use twinpost_types::{VOLUMES, VolumeId};

fn main() {
    let copies = match StaleCopies::open([Look::Snapshot; VOLUMES]) {
        Ok(copies) => copies,
        Err(error) => return eprintln!("{error}: {:?}", std::error::Error::source(&error)),
    };
    for volume in VolumeId::ALL {
        println!("{}:", volume.name());
        for entry in std::fs::read_dir(copies.root(volume)).into_iter().flatten().flatten() {
            let bytes = entry.metadata().map_or(0, |data| data.len());
            println!("  {} {bytes}", entry.file_name().to_string_lossy());
        }
    }
}
