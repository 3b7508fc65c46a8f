//! Tests of the encoder's arithmetic.

mod fast;
mod portable;
