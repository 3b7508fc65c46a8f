//! `history.csv`: how a training went, one row an epoch. No times: the same seed gives the same bytes.

use crate::{Error, Manifest, Result, RunFolder, RunSpec, write_atomically};
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

    /// Reads the history of a whole run.
    ///
    /// # Errors
    /// [`Error::Changed`]; rows of another run, out of order or with numbers that are not finite.
    pub fn history(&self, manifest: &Manifest) -> Result<Vec<EpochRecord>> {
        let path = self.file("history.csv");
        let bytes = self.read_listed(manifest, "history.csv")?;
        let damaged = |problem: String| Error::damaged(&path, problem);
        let mut reader = csv::Reader::from_reader(&bytes[..]);
        let headers = reader.headers().map_err(|error| damaged(error.to_string()))?.clone();
        if headers.iter().ne(COLUMNS.split(',')) {
            return Err(damaged(format!("its columns are not {COLUMNS}")));
        }
        let RunSpec { variant, seed, .. } = &manifest.spec;
        let run = [&variant.name, variant.head.kind(), &seed.to_string()];
        let mut records = Vec::new();
        for row in reader.into_records() {
            let row = row.map_err(|error| damaged(error.to_string()))?;
            if row.iter().take(run.len()).ne(run) {
                return Err(damaged(format!("row {} is of another run", records.len() + 1)));
            }
            records.push(row.deserialize(Some(&headers)).map_err(|error| damaged(error.to_string()))?);
        }
        EpochRecord::check(&records).map_err(damaged)?;
        match manifest.spec.training.epochs {
            epochs if epochs == records.len() => Ok(records),
            epochs => Err(damaged(format!("it has {} rows, but the run has {epochs} epochs", records.len()))),
        }
    }
}

impl EpochRecord {
    /// Whether these are the first epochs of one training, in order and with finite numbers; if not, what is wrong.
    pub fn check(records: &[Self]) -> std::result::Result<(), String> {
        for (index, record) in records.iter().enumerate() {
            let row = index + 1;
            if record.epoch != row || record.step != records[0].step.saturating_mul(row) {
                return Err(format!(
                    "row {row} is epoch {} at step {}, which is out of order",
                    record.epoch, record.step
                ));
            }
            let accuracy = record.train_accuracy.unwrap_or(0.0);
            let numbers = [record.train_loss, accuracy, record.learning_rate, record.effective_scale];
            if numbers.iter().any(|number| !number.is_finite()) {
                return Err(format!("row {row} has a number that is not finite"));
            }
        }
        Ok(())
    }
}
