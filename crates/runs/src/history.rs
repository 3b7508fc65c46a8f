//! `history.csv`: how a training went, one row an epoch. No times: the same seed gives the same bytes.

use crate::{Error, Result, RunSpec, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One epoch of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counts from 1.
    pub epoch: usize,
    /// Optimiser steps since the start.
    pub step: usize,
    /// Mean cross-entropy over the epoch's batches, margin and scale included: never compare it across heads.
    pub train_loss: f64,
    /// Share of training images whose class has the highest score, labels withheld, while training went on.
    pub train_accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// The head's effective scale after the epoch.
    pub effective_scale: f64,
}

#[derive(Serialize, Deserialize)]
struct Row {
    variant: String,
    head: String,
    seed: u64,
    epoch: usize,
    step: usize,
    train_loss: f64,
    train_accuracy: f64,
    learning_rate: f64,
    effective_scale: f64,
}

/// Writes the history of a run.
pub fn write_history(path: &Path, spec: &RunSpec, records: &[EpochRecord]) -> Result<()> {
    write_atomically(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        for record in records {
            let EpochRecord { epoch, step, train_loss, train_accuracy, learning_rate, effective_scale } =
                *record;
            writer.serialize(Row {
                variant: spec.variant.name.clone(),
                head: spec.variant.head.kind().into(),
                seed: spec.seed,
                epoch,
                step,
                train_loss,
                train_accuracy,
                learning_rate,
                effective_scale,
            })?;
        }
        writer.flush()
    })
}

/// Reads the history of a run.
pub fn read_history(path: &Path) -> Result<Vec<EpochRecord>> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| Error::damaged(path, error))?;
    reader
        .deserialize::<Row>()
        .map(|row| {
            let Row { epoch, step, train_loss, train_accuracy, learning_rate, effective_scale, .. } =
                row.map_err(|error| Error::damaged(path, error))?;
            Ok(EpochRecord { epoch, step, train_loss, train_accuracy, learning_rate, effective_scale })
        })
        .collect()
}
