//! Tests of the run contract.

mod experiment;
mod run;
