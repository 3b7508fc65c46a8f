//! Tests of the run contract.

mod adapt;
mod experiment;
mod npy;
mod run;
mod table;
