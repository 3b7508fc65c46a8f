//! Tests of the encoder's arithmetic.

mod portable;
