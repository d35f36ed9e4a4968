//! The program `decalign`.
fn main() {}
