//! The choice of a board by its DMI strings (`spec/appliance.md` section 7). Does not read them: the caller does.

use crate::{Board, DmiMatch, pattern_fits};

/// DMI strings of the box that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dmi {
    /// `sys_vendor`; empty if the firmware gives none.
    pub sys_vendor: String,
    /// `product_name`.
    pub product_name: String,
    /// `board_name`.
    pub board_name: String,
}

/// The board that fits best: the first one of `boards` with a match that fits, else the first one without any match
/// (the generic board). `None` only if neither exists.
#[must_use]
pub fn choose<'a>(boards: &'a [Board], dmi: &Dmi) -> Option<&'a Board> {
    boards
        .iter()
        .find(|board| board.matches.iter().any(|rule| fits(rule, dmi)))
        .or_else(|| boards.iter().find(|board| board.matches.is_empty()))
}

fn fits(rule: &DmiMatch, dmi: &Dmi) -> bool {
    let one = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|p| pattern_fits(p, text));
    one(&rule.sys_vendor, &dmi.sys_vendor)
        && one(&rule.product_name, &dmi.product_name)
        && one(&rule.board_name, &dmi.board_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(id: &str, rule: Option<&str>) -> Board {
        let matches = rule.map(|r| format!("match = [{{ product_name = \"{r}\" }}]")).unwrap_or_default();
        Board::parse(&format!(
            "id = \"{id}\"\nname = \"x\"\ntier = \"untested\"\nconsole = \"ttyS0\"\n{matches}\n"
        ))
        .expect("valid")
    }

    #[test]
    fn named_board_wins_over_generic_and_unknown_gets_generic() {
        let boards = [board("generic", None), board("q", Some("Box *"))];
        let dmi = |name: &str| Dmi { product_name: name.into(), ..Dmi::default() };
        assert_eq!(choose(&boards, &dmi("Box 9")).expect("one").id, "q");
        assert_eq!(choose(&boards, &dmi("Other")).expect("one").id, "generic");
        assert_eq!(choose(&boards, &Dmi::default()).expect("one").id, "generic");
    }
}
