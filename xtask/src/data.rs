//! `cargo xtask data`, and opening an experiment's images.
