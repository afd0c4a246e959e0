//! The boards that this firmware knows and the choice by DMI. Applying a board is the work of the phases.

use std::path::Path;
use twinpost_board::{Board, Dmi};

/// Where the chosen board file is put for the other programs.
pub const CHOSEN: &str = "/run/twinpost/board.toml";

/// The board of this box with its file's text.
#[must_use]
pub fn chosen() -> Option<(Board, &'static str)> {
    let files = [
        (twinpost_board_qemu_q35::board(), twinpost_board_qemu_q35::TOML),
        (twinpost_board_generic_x86_64::board(), twinpost_board_generic_x86_64::TOML),
    ];
    let (boards, texts): (Vec<Board>, Vec<&'static str>) = files.into_iter().unzip();
    let board = twinpost_board::choose(&boards, &read())?;
    let text = texts[boards.iter().position(|other| other.id == board.id)?];
    Some((board.clone(), text))
}

fn read() -> Dmi {
    let get = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/sys/class/dmi/id").join(name)).unwrap_or_default();
        text.trim().to_owned()
    };
    Dmi { sys_vendor: get("sys_vendor"), product_name: get("product_name"), board_name: get("board_name") }
}
