//! `history.csv`: how a training went, one row an epoch. No times: the same seed gives the same bytes.

use crate::{Error, Result, RunFolder, RunSpec, write_atomically};
use serde::{Deserialize, Serialize};

/// One epoch of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counts from 1.
    pub epoch: usize,
    /// Optimiser steps since the start.
    pub step: usize,
    /// Mean loss over the epoch's batches, margin and scale included: never compare it across heads.
    pub train_loss: f64,
    /// Share of training images whose class has the highest score, labels withheld, while training went on; `None`, an
    /// empty field, for a head that scores no classes.
    pub train_accuracy: Option<f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// The head's effective scale after the epoch.
    pub effective_scale: f64,
}

/// The fields of [`EpochRecord`] behind those that name the run.
const COLUMNS: &str = "variant,head,seed,epoch,step,train_loss,train_accuracy,learning_rate,effective_scale";

impl RunFolder {
    /// Writes the history of the run of `spec`; each row names the run too.
    pub fn write_history(&self, spec: &RunSpec, records: &[EpochRecord]) -> Result<()> {
        write_atomically(&self.file("history.csv"), |file| {
            let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
            writer.write_record(COLUMNS.split(','))?;
            for record in records {
                writer.serialize((&spec.variant.name, spec.variant.head.kind(), spec.seed, record))?;
            }
            writer.flush()
        })
    }

    /// Reads the history.
    pub fn history(&self) -> Result<Vec<EpochRecord>> {
        let path = self.file("history.csv");
        let mut reader = csv::Reader::from_path(&path).map_err(|error| Error::damaged(&path, error))?;
        reader.deserialize().map(|row| row.map_err(|error| Error::damaged(&path, error))).collect()
    }
}
