//! Style of Rust sources: opening words, sizes, `unwrap`, proofs in `expect`, unfinished work, `cfg(test)` on product code,
//! `unsafe` without a reason. Sources are parsed with syn, so strings and comments never confuse it.

use super::Finding;
use super::files::Tree;
use super::oversize::{ALLOWED, FILE_LINES_MAX, FUNCTION_LINES_MAX};
use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Fewest words of an `expect` that count as a proof.
const PROOF_WORDS_MIN: usize = 3;

/// Checks all sources. `sizes` prints a line for each oversized item.
pub(crate) fn check(tree: &Tree, sizes: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut oversized = BTreeMap::new();
    for (path, text) in tree.ending(".rs") {
        opening(path, text, &mut findings);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            oversized.insert((path.to_string(), String::new()), (1, lines));
        }
        match syn::parse_file(text) {
            Err(error) => {
                let line = error.span().start().line;
                findings.push(Finding::new(path, line, format!("does not parse: {error}"), "correct it"));
            }
            Ok(file) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let own_expect = tree.ending(".rs").any(|(other, text)| {
                    other.starts_with(folder) && text.contains(concat!("fn ", "expect("))
                });
                let test = is_test(path);
                crate_root(path, text, &file, &mut findings);
                let (findings, oversized) = (&mut findings, &mut oversized);
                let mut visitor = Visitor { path, test, own_expect, findings, oversized };
                visitor.visit_file(&file);
            }
        }
    }
    for (path, text) in tree.texts().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        unfinished(path, text, &mut findings);
    }
    if sizes {
        oversized
            .iter()
            .for_each(|((path, function), (_, lines))| println!("size: {path} {function} {lines}"));
    }
    findings.extend(sizes_against_list(&oversized));
    findings
}

/// True for files that are tests as a whole; hal/contract is a suite of tests that other crates call.
pub(crate) fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("hal/contract/")
        || path.contains("/tests/")
        || path.contains("/benches/")
        || name == "tests.rs"
        || name.ends_with("_tests.rs")
}

fn opening(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let first = text.lines().next().unwrap_or_default();
    if !first.starts_with("//!") || first.trim_start_matches("//!").trim().is_empty() {
        let todo = "open it with `//!`: its duty, what it does not do, the spec section";
        findings.push(Finding::new(path, 1, "file does not open with its duty", todo));
    }
}

/// Words of unfinished work, put together here so that this file does not find itself.
fn unfinished(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("Place", "holder written")];
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = words.iter().find(|word| line.contains(**word)) {
            findings.push(Finding::new(
                path,
                number + 1,
                format!("unfinished work ({word})"),
                "finish it or take it out",
            ));
        }
    }
}

/// A crate root forbids `unsafe` or says why it needs it.
fn crate_root(path: &str, text: &str, file: &syn::File, findings: &mut Vec<Finding>) {
    if !path.ends_with("src/lib.rs") && !path.ends_with("src/main.rs") {
        return;
    }
    let attributes: Vec<_> = file.attrs.iter().map(|attribute| attribute_text(&attribute.meta)).collect();
    let forbidden = attributes.iter().any(|a| a.replace(' ', "").contains("forbid(unsafe_code)"));
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    let reason = header.map(str::to_lowercase).any(|line| line.contains("unsafe"));
    if !forbidden && !reason {
        let todo = "add `#![forbid(unsafe_code)]`, or say in the `//!` lines why `unsafe` is needed";
        findings.push(Finding::new(path, 1, "`unsafe` is neither forbidden nor explained", todo));
    }
}

fn attribute_text(meta: &syn::Meta) -> String {
    let path: Vec<_> = meta.path().segments.iter().map(|s| s.ident.to_string()).collect();
    match meta {
        syn::Meta::List(list) => format!("{}({})", path.join("::"), list.tokens),
        _ => path.join("::"),
    }
}

type Sizes = BTreeMap<(String, String), (usize, usize)>;

fn sizes_against_list(oversized: &Sizes) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ((path, function), (line, lines)) in oversized {
        let entry = ALLOWED.iter().find(|a| a.path == path && a.function == function);
        let (what, max) = if function.is_empty() {
            ("file".to_string(), FILE_LINES_MAX)
        } else {
            (format!("fn {function}"), FUNCTION_LINES_MAX)
        };
        match entry {
            Some(entry) if *lines <= entry.lines => {}
            Some(entry) => {
                let what = format!("{what} has {lines} lines, its entry allows {}", entry.lines);
                findings.push(Finding::new(path, *line, what, "cut it up; the list only shrinks"));
            }
            None => {
                let todo = format!("cut it up to {max}, or give a reason in xtask/src/tidy/oversize.rs");
                findings.push(Finding::new(path, *line, format!("{what} has {lines} lines"), todo));
            }
        }
    }
    for entry in ALLOWED {
        let now =
            oversized.get(&(entry.path.to_string(), entry.function.to_string())).map(|(_, lines)| *lines);
        if now.is_none_or(|lines| lines < entry.lines) || entry.reason.is_empty() {
            let what = format!("the entry {} {} is larger than needed", entry.path, entry.function);
            let todo = now.map_or("remove it".into(), |lines| format!("lower it to {lines}"));
            findings.push(Finding::new("xtask/src/tidy/oversize.rs", 1, what, todo));
        }
    }
    findings
}

/// Walks one file.
struct Visitor<'a> {
    path: &'a str,
    /// Inside of a test.
    test: bool,
    /// The module has an `expect` of its own, which is no assertion.
    own_expect: bool,
    findings: &'a mut Vec<Finding>,
    oversized: &'a mut Sizes,
}

impl Visitor<'_> {
    fn find(&mut self, span: Span, what: &str, todo: &str) {
        self.findings.push(Finding::new(self.path, span.start().line, what, todo));
    }

    fn function(
        &mut self,
        name: &syn::Ident,
        attributes: &[syn::Attribute],
        span: Span,
        walk: impl FnOnce(&mut Self),
    ) {
        if let (Some(span), false) = (cfg_test(attributes), self.test) {
            self.find(span, "`cfg(test)` on product code", "move it into the module of tests");
        }
        let lines = span.end().line - name.span().start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            let key = (self.path.to_string(), name.to_string());
            let place = (name.span().start().line, lines);
            let entry = self.oversized.entry(key).or_insert(place);
            entry.1 = entry.1.max(lines);
        }
        let before = self.test;
        self.test |= attributes.iter().any(|a| a.path().segments.last().is_some_and(|s| s.ident == "test"));
        walk(self);
        self.test = before;
    }

    /// Macros hide expressions from the parser: look for `.unwrap()` among their tokens.
    fn macro_tokens(&mut self, stream: TokenStream) {
        let mut dot = false;
        for tree in stream {
            match tree {
                TokenTree::Ident(ident) if dot && ident == "unwrap" && !self.test => {
                    self.unwrap(ident.span())
                }
                TokenTree::Group(group) => self.macro_tokens(group.stream()),
                TokenTree::Punct(ref punct) if punct.as_char() == '.' => {
                    dot = true;
                    continue;
                }
                _ => {}
            }
            dot = false;
        }
    }

    fn unwrap(&mut self, span: Span) {
        self.find(
            span,
            "`unwrap()` outside of tests",
            "return the fault, or `expect` with the proof in words",
        );
    }
}

/// Where a `cfg` mentions `test`.
fn cfg_test(attributes: &[syn::Attribute]) -> Option<Span> {
    let is = |a: &&syn::Attribute| a.path().is_ident("cfg") && mentions_test(&a.meta);
    attributes.iter().find(is).map(Spanned::span)
}

fn mentions_test(meta: &syn::Meta) -> bool {
    fn within(stream: TokenStream) -> bool {
        stream.into_iter().any(|tree| match tree {
            TokenTree::Ident(ident) => ident == "test",
            TokenTree::Group(group) => within(group.stream()),
            _ => false,
        })
    }
    matches!(meta, syn::Meta::List(list) if within(list.tokens.clone()))
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let before = self.test;
        self.test |= cfg_test(&item.attrs).is_some();
        visit::visit_item_mod(self, item);
        self.test = before;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, &item.attrs, item.span(), |v| visit::visit_item_fn(v, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, &item.attrs, item.span(), |v| visit::visit_impl_item_fn(v, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig.ident, &item.attrs, item.span(), |v| visit::visit_trait_item_fn(v, item));
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if !self.test {
            if call.method == "unwrap" && call.args.is_empty() {
                self.unwrap(call.method.span());
            }
            if let (true, Some(syn::Expr::Lit(literal))) =
                (call.method == "expect" && !self.own_expect, call.args.first())
                && let syn::Lit::Str(text) = &literal.lit
                && text.value().split_whitespace().count() < PROOF_WORDS_MIN
            {
                self.find(call.method.span(), "`expect` without a proof", "say in words why it cannot fail");
            }
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
        if name == concat!("to", "do") || name == "unimplemented" {
            self.find(item.path.span(), "unfinished work", "finish it or take it out");
        }
        self.macro_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]), false).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn style_is_found() {
        let text = "//! Duty.\nfn a() { b().unwrap(); c.expect(\"works\"); format!(\"{}\", d.unwrap()); }\n\
                    fn e() { unimplemented!() }\n";
        let found = findings("firmware/x/src/a.rs", text);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(
            found
                .iter()
                .all(|f| f.starts_with("firmware/x/src/a.rs:2:") || f.starts_with("firmware/x/src/a.rs:3:"))
        );
        assert!(findings("a/src/lib.rs", "fn a() {}").iter().any(|f| f.contains("does not open")));
        assert!(findings("a/src/lib.rs", "//! D.\n").iter().any(|f| f.contains("unsafe")));
        assert_eq!(findings("a/src/lib.rs", "//! D.\n#![forbid(unsafe_code)]\n"), [""; 0]);
    }

    #[test]
    fn tests_may_unwrap_and_strings_do_not_count() {
        let text = "//! Duty.\n#[cfg(test)]\nmod tests {\n#[test]\nfn a() { b.unwrap() }\n}\n\
                    fn c() -> &'static str { \".unwrap() unimplemented!()\" }\n// .unwrap()\n";
        assert_eq!(findings("a/src/b.rs", text), [""; 0]);
        assert_eq!(findings("a/tests/b.rs", "//! Duty.\nfn a() { b.unwrap() }\n"), [""; 0]);
    }

    #[test]
    fn sizes_are_found() {
        let long = format!("//! Duty.\nfn a() {{\n{}}}\n", "b();\n".repeat(FUNCTION_LINES_MAX));
        assert!(findings("a/src/b.rs", &long)[0].contains("fn a has 72 lines"));
        let long = format!("//! Duty.\n{}", "//\n".repeat(FILE_LINES_MAX));
        assert!(findings("a/src/b.rs", &long)[0].contains("file has 501 lines"));
    }
}
