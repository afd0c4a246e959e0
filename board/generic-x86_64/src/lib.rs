//! Any x86-64 box that no other board file knows; tier "untested". See `board.toml`.
#![forbid(unsafe_code)]

/// The board file; parsed by [`board`].
pub const TOML: &str = include_str!("../board.toml");

/// The board.
#[must_use]
pub fn board() -> twinpost_board::Board {
    twinpost_board::Board::parse(TOML).expect("a test of this crate parses the same constant")
}

#[cfg(test)]
mod tests {
    use twinpost_board::Dmi;

    #[test]
    fn parses_and_fits_any_box() {
        let boards = [super::board()];
        assert_eq!(twinpost_board::choose(&boards, &Dmi::default()).expect("fits").id, "generic-x86_64");
        assert!(boards[0].ports.is_empty() && boards[0].machine_console.is_none());
    }
}
