//! Tests of the run contract.

mod adapt;
mod experiment;
mod run;
mod table;
