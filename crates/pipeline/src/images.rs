//! The images of an experiment.

use crate::{Event, EventFn, Result};
use faceoff_data::{Dataset, ImageSource};
use faceoff_runs::{Compute, DataConfig, DataRecord, Experiment, RunSpec};

/// The images of an experiment: one set for each `[data]` that its conditions make.
pub struct ImageSets(Vec<(DataConfig, Dataset)>);

impl ImageSets {
    /// Opens every set: fetched, made and decoded where that has not been done yet.
    ///
    /// # Errors
    /// Those of [`Dataset::open`].
    pub fn open(experiment: &Experiment, source: &ImageSource, on_event: EventFn) -> Result<Self> {
        let mut sets: Vec<(DataConfig, Dataset)> = Vec::new();
        for spec in RunSpec::of(experiment, &Compute::unknown()) {
            if sets.iter().all(|(data, _)| *data != spec.data) {
                let images = Dataset::open(&spec.data, source, &|phase, done, total| {
                    on_event(Event::Images(phase, done, total));
                });
                on_event(Event::ImagesEnd);
                sets.push((spec.data, images?));
            }
        }
        Ok(Self(sets))
    }

    /// The images of a run of the experiment.
    pub(crate) fn of(&self, spec: &RunSpec) -> &Dataset {
        let (_, images) = self.0.iter().find(|(data, _)| *data == spec.data).expect("every run's images were opened");
        images
    }

    /// What lies in their folders and was not taken for an image, each in words once.
    pub fn passed_over(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.0.iter().filter_map(|(_, images)| images.passed_over()).collect();
        all.dedup();
        all
    }

    /// What is known of each set.
    pub fn records(&self) -> impl Iterator<Item = &DataRecord> {
        self.0.iter().map(|(_, images)| images.record())
    }
}
