//! Run folders with made-up outcomes, by the same calls that training makes.

use faceoff_runs::{
    Compute, DataRecord, Dtype, Embeddings, EpochRecord, Experiment, Machine, Manifest, RunFolder, RunSpec, SCHEMA,
    Speed, SplitName, write_tensors,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

pub(crate) fn compute() -> Compute {
    Compute { device: "cpu".into(), kernels: "avx2".into() }
}

/// Images of each split.
const IMAGES: [usize; 2] = [120, 80];
/// Width of the embeddings.
const DIM: usize = 24;
/// Scale of the scores.
const SCALE: f32 = 16.0;

/// Runs on images of these classes.
pub(crate) struct MadeUp {
    pub(crate) classes: Vec<String>,
}

impl MadeUp {
    /// The images of all runs.
    pub(crate) fn data(&self, name: &str) -> DataRecord {
        DataRecord {
            name: name.into(),
            title: name.into(),
            synthetic: name == "synthetic",
            notes: (name != "synthetic").then(|| "Two <files> are byte-identical.".into()).into_iter().collect(),
            fingerprint: "f1".into(),
            archive_md5: None,
            options: Vec::new(),
            classes: self.classes.clone(),
            train_images: IMAGES[0],
            val_images: IMAGES[1],
        }
    }

    /// Writes whole runs for every variant and seed of `experiment` below `folder`.
    pub(crate) fn write(&self, folder: &Path, experiment: &Experiment) {
        for spec in RunSpec::of(experiment, &compute()) {
            let held_out = &spec.data.held_out_classes;
            let of_run = Self { classes: if held_out.is_empty() { &self.classes } else { held_out }.clone() };
            of_run.write_run(folder, &spec, &of_run.data(&experiment.data.dataset));
        }
    }

    /// Writes one whole run.
    pub(crate) fn write_run(&self, folder: &Path, spec: &RunSpec, data: &DataRecord) {
        let run = RunFolder::new(folder, spec);
        run.begin(spec).unwrap();
        let history: Vec<_> = (1..=spec.training.epochs)
            .map(|epoch| EpochRecord {
                epoch,
                step: epoch * 10,
                train_loss: 2.3 / epoch as f64 + 0.1 * spec.variant.name.len() as f64,
                train_accuracy: Some(1.0 - 0.9 / (epoch as f64).sqrt()),
                learning_rate: 1e-3,
                effective_scale: 1.0,
                ..EpochRecord::default()
            })
            .collect();
        run.write_history(spec, &history).unwrap();
        let of_class = spec.variant.head.number("sub_centers").map(|count| count as usize);
        let sizes: Vec<usize> = of_class.into_iter().chain([self.classes.len(), DIM]).collect();
        let weight = normal(7, sizes.iter().product()).iter().flat_map(|x| x.to_le_bytes()).collect();
        let weight = ("weight", Dtype::F32, sizes, weight);
        write_tensors(&run.head_path(), &[weight], None).unwrap();
        let seen = if spec.data.held_out_classes.is_empty() { &[] } else { &SplitName::SEEN[..] };
        for &split in SplitName::ALL.iter().chain(seen) {
            run.write_embeddings(split, &self.embeddings(spec, split)).unwrap();
        }
        let seconds = [("train", 100.0), ("wait for data", 2.5), ("embed", 10.0), ("checkpoints", 1.0)];
        let manifest = Manifest {
            schema: SCHEMA,
            experiment: "made-up".into(),
            spec: spec.clone(),
            spec_hash: spec.hash(),
            data: data.clone(),
            version: "0.1.0".into(),
            commit: "0123abcd".into(),
            machine: Machine {
                cpu: "A <small> CPU & more".into(),
                processors: 2,
                memory_mib: 8192,
                system: "Linux".into(),
                threads: 2,
            },
            speed: Speed { images_per_second: 100.0, data_wait_share: 0.01 },
            seconds: seconds.map(|(phase, seconds)| (phase.into(), seconds)).into(),
            finished: Some("2026-03-01T23:59:59Z".into()),
            files: Default::default(),
            blake3: String::new(),
        };
        run.finish(&manifest).unwrap();
    }

    /// Classes about centres of their own; the tighter, the longer the variant's name, the less the noise and the nearer
    /// scale and margin to 64 and 0.35.
    fn embeddings(&self, spec: &RunSpec, split: SplitName) -> Embeddings {
        let classes = self.classes.len();
        let seen = SplitName::SEEN.contains(&split);
        let centres = normal(7 + u64::from(seen), classes * DIM);
        let stream = spec.variant.name.bytes().map(u64::from).sum::<u64>() * 31 + spec.seed;
        let n = IMAGES[split as usize % 2];
        let noise = normal(1000 + 2 * stream + (split as u64 % 2) + 1_000_000 * u64::from(seen), n * DIM);
        let off = |value: Option<f64>, best: f64| value.map_or(0.0, |value| (value - best).abs() / best);
        let head = &spec.variant.head;
        let margin = head.margin().map(|margin| margin.value());
        let harm = f64::from(spec.data.label_noise_percent) / 25.0
            + off(head.scale().map(f64::ln), 64.0_f64.ln())
            + if head.kind() == "CosFace" { off(margin, 0.35) } else { 0.0 };
        let spread = 0.8 + 8.0 / spec.variant.name.len() as f32 + harm as f32;
        let (mut unit, mut norms, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for image in 0..n {
            let centre = &centres[(image % classes) * DIM..][..DIM];
            let point: Vec<f32> = centre.iter().zip(&noise[image * DIM..]).map(|(c, e)| c + spread * e).collect();
            let norm = point.iter().map(|x| x * x).sum::<f32>().sqrt();
            norms.push(norm);
            let row: Vec<f32> = point.iter().map(|x| x / norm).collect();
            for class in 0..classes {
                let centre = &centres[class * DIM..][..DIM];
                let length = centre.iter().map(|x| x * x).sum::<f32>().sqrt();
                scores.push(row.iter().zip(centre).map(|(a, b)| a * b).sum::<f32>() / length);
            }
            unit.extend(row);
        }
        let labels: Vec<u32> = (0..n).map(|image| (image % classes) as u32).collect();
        let margin = if head.has_margin() { 4.0 } else { 0.0 };
        let logit = |(index, score): (usize, &f32)| {
            let label = (index / classes) % classes;
            SCALE * score - if index % classes == label { margin } else { 0.0 }
        };
        Embeddings {
            logits: Some(scores.iter().enumerate().map(logit).collect()),
            ids: (0..n).map(|image| format!("{}/{image:05}.JPEG", split.as_str())).collect(),
            labels_trained: labels.clone(),
            predictions_labels_given: (0..n).map(|image| if image % 4 == 0 { 0 } else { labels[image] }).collect(),
            labels,
            dim: DIM,
            classes,
            unit,
            norms,
            scores,
            effective_scale: SCALE,
            class_vectors: (spec.variant.head.kind() != "SubCenterArcFace").then(|| centres.clone()),
        }
    }
}

/// Values that are about normal: twelve even ones added up.
fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0).collect()
}
