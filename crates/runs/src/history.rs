//! `history.csv`: how a training went, one row an epoch. No times: the same seed gives the same bytes.

use crate::{Error, Manifest, Result, RunFolder, RunSpec, write_atomically};
use serde::{Deserialize, Serialize};

/// A margin changes a logit if it moves it by more than this, times the scale: more than rounding does.
pub const MARGIN_ACTS_FROM: f64 = 1e-4;

/// One epoch of training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Median over the epoch's training images of the angle between embedding and class weight of the label, in degrees; of a
    /// class with several weights the nearest. This figure and those below are of the augmented images while training went on;
    /// `None` where the head has no such thing, and in histories older than they.
    pub own_angle_degrees: Option<f64>,
    /// Median of the angle to the nearest weight of another class, in degrees.
    pub other_angle_degrees: Option<f64>,
    /// Share of the images whose angle to their own class weight is above pi - m, for a head with a margin of radians.
    pub beyond_pi_minus_m: Option<f64>,
    /// Share of the images whose margin changes the logit of their label, for a head with a margin.
    pub margin_active: Option<f64>,
    /// Mean probability of the label under the logits of the loss.
    pub label_probability: Option<f64>,
    /// Mean length of the gradient of an image's own loss (batch size times that of the batch's mean) at its embedding.
    pub gradient_norm: Option<f64>,
    /// Mean length of the embeddings.
    pub embedding_norm: Option<f64>,
    /// Mean length of the class weights.
    pub class_weight_norm: Option<f64>,
    /// The numbers of the head's state after the epoch by name, such as the t of CurricularFace; in a file as
    /// `name=value name=value`.
    #[serde(default, with = "named_numbers")]
    pub head_state: Vec<(String, f64)>,
}

/// The fields of [`EpochRecord`] behind those that name the run.
const COLUMNS: &str = "variant,head,seed,epoch,step,train_loss,train_accuracy,learning_rate,effective_scale,\
own_angle_degrees,other_angle_degrees,beyond_pi_minus_m,margin_active,label_probability,gradient_norm,embedding_norm,\
class_weight_norm,head_state";

/// So many of them stand in histories that are older than the figures of the head's health.
const OLDER_COLUMNS: usize = 9;

impl EpochRecord {
    /// [`Self::head_state`] as it stands in a file.
    pub fn head_state_text(&self) -> String {
        named(&self.head_state)
    }
}

/// `name=value name=value`, all digits.
fn named(numbers: &[(String, f64)]) -> String {
    numbers.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Numbers by name as text.
mod named_numbers {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(numbers: &[(String, f64)], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::named(numbers))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, f64)>, D::Error> {
        let text = String::deserialize(from)?;
        let number = |part: &str| {
            let found = part.split_once('=').and_then(|(name, value)| Some((name.to_string(), value.parse().ok()?)));
            found.ok_or_else(|| D::Error::custom(format!("`{part}` is not `name=number`")))
        };
        text.split_whitespace().map(number).collect()
    }
}

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
        let older = COLUMNS.split(',').take(OLDER_COLUMNS);
        if headers.iter().ne(COLUMNS.split(',')) && headers.iter().ne(older) {
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
            let figures = [
                record.own_angle_degrees,
                record.other_angle_degrees,
                record.beyond_pi_minus_m,
                record.margin_active,
                record.label_probability,
                record.gradient_norm,
                record.embedding_norm,
                record.class_weight_norm,
            ];
            let figures = figures.into_iter().flatten().chain(record.head_state.iter().map(|(_, value)| *value));
            if numbers.into_iter().chain(figures).any(|number| !number.is_finite()) {
                return Err(format!("row {row} has a number that is not finite"));
            }
        }
        Ok(())
    }
}
