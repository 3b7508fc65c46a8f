//! Tests of what is measured and what is said of it.

mod registry;
mod statements;
