//! Placeholder written by the scaffold.
fn main() {}
