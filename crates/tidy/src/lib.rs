//! The rules of ARCHITECTURE.md, checked on the files of this repository: which crate depends on which, where what is reserved may
//! be used, and that documents name only what exists. `cargo test --release -p tidy` takes seconds; there is nothing else here.

#[cfg(test)]
mod rules;
