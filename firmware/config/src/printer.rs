//! Writes the canonical script: blocks, indentation, only what differs from the default unless everything is asked for.

use crate::variable::{Fields, Shown};
use crate::words::quoted;

/// The script so far.
pub(crate) struct Printer {
    pub out: String,
    /// Defaults too.
    pub full: bool,
    depth: usize,
}

impl Printer {
    pub fn new(full: bool) -> Self {
        Self { out: String::new(), full, depth: 0 }
    }

    /// One line at the present depth.
    pub fn line(&mut self, text: &str) {
        self.out.push_str(&"    ".repeat(self.depth));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// A block that is left out again if `body` writes nothing and `keep` is false.
    pub fn block(&mut self, open: &str, close: &str, keep: bool, body: impl FnOnce(&mut Self)) {
        let before = self.out.len();
        self.line(open);
        let inside = self.out.len();
        self.depth += 1;
        body(self);
        self.depth -= 1;
        if self.out.len() == inside && !keep {
            self.out.truncate(before);
        } else {
            self.line(close);
        }
    }

    /// `edit` … `next`.
    pub fn entry(&mut self, name: &str, keep: bool, body: impl FnOnce(&mut Self)) {
        self.block(&format!("edit {}", quoted(name)), "next", keep, body);
    }

    /// The variables of a block.
    pub fn fields<T>(&mut self, fields: &Fields<T>, target: &T, default: &T) {
        for variable in fields.variables {
            let now = (variable.show)(target);
            if !self.full && now == (variable.show)(default) {
                continue;
            }
            match now {
                Shown::Set(value) => self.line(&format!("set {} {value}", variable.name)),
                Shown::Unset(effective) if self.full => {
                    self.line(&format!("unset {} # {effective}", variable.name));
                }
                Shown::Unset(_) | Shown::Never => {}
            }
        }
    }
}
