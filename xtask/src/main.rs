//! Faceoff commands.
fn main() {}
