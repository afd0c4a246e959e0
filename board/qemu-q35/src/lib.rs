//! The QEMU q35 machine, tier "emulated": every scenario of the project runs on it. See `board.toml`.
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
    fn parses_and_is_chosen_by_both_names() {
        let boards = [super::board()];
        for name in ["Twinpost QEMU q35", "Standard PC (Q35 + ICH9, 2009)"] {
            let dmi = Dmi { product_name: name.into(), ..Dmi::default() };
            assert_eq!(twinpost_board::choose(&boards, &dmi).expect("fits").id, "qemu-q35");
        }
        let other = Dmi { product_name: "Standard PC (i440FX + PIIX, 1996)".into(), ..Dmi::default() };
        assert!(twinpost_board::choose(&boards, &other).is_none());
        assert_eq!(boards[0].ports.len(), 4);
    }
}
