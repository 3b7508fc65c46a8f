//! Tests of what is measured and what is said of it.

mod health;
mod registry;
mod statements;
