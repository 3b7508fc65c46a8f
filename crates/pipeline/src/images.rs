//! The images of an experiment.

use crate::{Event, EventFn, Result};
use faceoff_data::{Dataset, ImageSource};
use faceoff_runs::{Compute, DataConfig, DataRecord, Experiment, RunSpec, Sizes};

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

    /// What is to be said of them: what lies in their folders and was not taken for an image, and what else a reader has to know; each
    /// once.
    pub fn remarks(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for (_, images) in &self.0 {
            let remarks = images.passed_over().into_iter().chain(images.remarks().iter().map(String::as_str));
            for remark in remarks {
                if !all.contains(&remark) {
                    all.push(remark);
                }
            }
        }
        all
    }

    /// The smallest numbers of images of any set.
    pub fn sizes(&self) -> Sizes {
        self.0.iter().map(|(_, images)| images.sizes()).reduce(Sizes::min).expect("an experiment has images")
    }

    /// Notes what a reader of results has to know in the record of every set.
    pub fn note(&mut self, notes: &[String]) {
        self.0.iter_mut().for_each(|(_, images)| images.note(notes));
    }

    /// The sets themselves.
    pub fn sets(&self) -> impl Iterator<Item = &Dataset> {
        self.0.iter().map(|(_, images)| images)
    }

    /// What is known of each set.
    pub fn records(&self) -> impl Iterator<Item = &DataRecord> {
        self.0.iter().map(|(_, images)| images.record())
    }
}
