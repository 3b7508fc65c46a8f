//! A trained run by its folder or its name, with all that `embed`, `search` and `export` need of it.

use crate::Program;
use crate::machine::ComputeArgs;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use faceoff_data::eval_views;
use faceoff_export::{About, Scores};
use faceoff_heads::Head;
use faceoff_kernels::{Arithmetic, Encoder, ImageBatch};
use faceoff_pipeline::extend_by_unit;
use faceoff_runs::{Contents, Manifest, RunFolder, TensorFile, did_you_mean, list_runs};
use faceoff_training::{EncoderPlan, Model, state_of};
use std::path::{Path, PathBuf};

/// Which run.
#[derive(Args)]
pub(crate) struct RunArg {
    /// The run: its folder, such as reports/quick/runs/ArcFace-seed0; or experiment and run, quick/ArcFace-seed0, for one in reports/.
    #[arg(value_name = "RUN")]
    run: PathBuf,
}

/// A whole run with its weights.
pub(crate) struct Trained {
    pub(crate) folder: RunFolder,
    pub(crate) manifest: Manifest,
    /// The encoder's.
    pub(crate) weights: TensorFile,
    /// Their BLAKE3.
    pub(crate) checksum: String,
}

impl RunArg {
    /// Finds the run, and checks that it is whole and its weights are those that were trained.
    ///
    /// # Errors
    /// No such run; one that is not whole, was exported, or is damaged.
    pub(crate) fn open(&self, program: &Program) -> Result<Trained> {
        let path = self.find(program)?;
        let folder = RunFolder::at(&path);
        let at = path.display();
        if !folder.is_whole() {
            match folder.verify()? {
                Contents::Failed(failure) => {
                    bail!("{at} has no weights: its training stopped for good ({})", failure.message)
                }
                _ => bail!("{at} is not trained to its end; run the same benchmark again, which goes on where it was"),
            }
        }
        let manifest = folder.manifest()?;
        if folder.is_exported(&manifest) {
            bail!("{at} was exported without weights; take the folder in which the run was trained");
        }
        let weights = folder.encoder_weights(&manifest)?;
        let record = manifest.files.iter().find(|(name, _)| folder.encoder_path().ends_with(name));
        let checksum = record.map(|(_, record)| record.blake3.clone()).context("the manifest lists no weights")?;
        Ok(Trained { folder, manifest, weights, checksum })
    }

    fn find(&self, program: &Program) -> Result<PathBuf> {
        let given = &self.run;
        if RunFolder::at(given).is_begun() {
            return Ok(given.clone());
        }
        let names = |folder: &Path| -> Result<Vec<String>> {
            let name = |run: RunFolder| run.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(list_runs(folder)?.into_iter().map(name).collect())
        };
        if given.is_dir() {
            let (known, at) = (names(given)?, given.display());
            match known.first() {
                Some(first) => bail!(
                    "{at} is a report folder; name one of its runs, such as {at}/runs/{first}: {}",
                    known.join(", ")
                ),
                None => bail!(
                    "{at} is no run: it holds neither manifest.json nor spec.json; pass the folder of a run, as in reports/quick/runs/"
                ),
            }
        }
        let parts: Vec<_> = given.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let [experiment, run] = &parts[..] else {
            bail!(
                "there is no run {}; pass its folder, or EXPERIMENT/RUN such as quick/ArcFace-seed0",
                given.display()
            );
        };
        let report = program.path("reports").join(experiment);
        let path = report.join("runs").join(run);
        if RunFolder::at(&path).is_begun() {
            return Ok(path);
        }
        let known = names(&report)?;
        if known.is_empty() {
            let remedy = program.command(&format!("benchmark {experiment}"));
            bail!("there is no run {}: {} holds none; train some with: {remedy}", given.display(), report.display());
        }
        let near = did_you_mean(run, known.iter().map(String::as_str));
        bail!("there is no run {run} in {}, which holds: {}{near}", report.display(), known.join(", "));
    }
}

impl Trained {
    /// `<variant>-seed<k>`.
    pub(crate) fn name(&self) -> String {
        self.manifest.spec.folder_name()
    }

    /// Pixels of the shorter side to which an image is brought before its centre is cut out.
    pub(crate) fn shorter_side_px(&self) -> u32 {
        let data = &self.manifest.spec.data;
        data.augmentation.eval_shorter_side_px(data.image_size_px)
    }

    /// Names of the classes that the head scores; `None` where the manifest names others, which were held out from training.
    pub(crate) fn classes(&self) -> Option<&[String]> {
        let Manifest { data, spec, .. } = &self.manifest;
        spec.data.held_out_classes.is_empty().then_some(&data.classes)
    }

    /// How the head scores classes, where that is a product with one vector a class.
    ///
    /// # Errors
    /// A head that cannot be read.
    pub(crate) fn scores(&self) -> Result<Option<Scores>> {
        let Some(classes) = self.classes() else { return Ok(None) };
        let model = Model::of_run(&self.folder, &self.manifest.spec, classes.len(), &Arithmetic::on_cpu(None)?)?;
        scores(model.head.as_ref(), model.encoder.dim())
    }
}

/// The encoder of a run, ready to embed images.
pub(crate) struct Embedder<'a> {
    trained: &'a Trained,
    encoder: Box<dyn Encoder>,
    arithmetic: Arithmetic,
}

impl<'a> Embedder<'a> {
    /// # Errors
    /// A run that takes no images; a device or kernels that are not there.
    pub(crate) fn new(program: &Program, trained: &'a Trained, compute: &ComputeArgs) -> Result<Self> {
        if trained.manifest.spec.data.is_embeddings() {
            bail!(
                "{} takes no images: it was trained on embeddings of another model, which would have to be made first",
                trained.folder.path().display()
            );
        }
        let arithmetic = compute.arithmetic(program)?;
        let state = state_of(&trained.weights)?;
        let encoder = EncoderPlan::of(&trained.manifest.spec.training)?.build(&state, &arithmetic)?;
        Ok(Self { trained, encoder, arithmetic })
    }

    /// What stands in the file of embeddings.
    pub(crate) fn about(&self) -> About {
        let Trained { manifest, checksum, .. } = self.trained;
        About {
            schema: About::SCHEMA,
            experiment: manifest.experiment.clone(),
            run: self.trained.name(),
            weights_blake3: checksum.clone(),
            image_size_px: manifest.spec.data.image_size_px,
            shorter_side_px: self.trained.shorter_side_px(),
            dim: self.encoder.dim(),
            arithmetic: self.arithmetic.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// What the encoder sees of image files, as it saw the validation images; or what is wrong with them.
    pub(crate) fn views<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<std::result::Result<Vec<u8>, String>> {
        let data = &self.trained.manifest.spec.data;
        eval_views(paths, data.image_size_px, &data.augmentation)
    }

    /// The embeddings of views that stand one behind the other, of unit length, and their lengths before.
    ///
    /// # Errors
    /// Embeddings that are not finite.
    pub(crate) fn embed(&self, pixels: Vec<u8>, paths: &[String]) -> Result<(Vec<f32>, Vec<f32>)> {
        let batch = ImageBatch::new(pixels, paths.len(), self.trained.manifest.spec.data.image_size_px)?;
        let features = self.encoder.forward(&batch.into())?.to_vec2::<f32>()?;
        let (mut unit, mut norms) = (Vec::new(), Vec::new());
        for (path, vector) in paths.iter().zip(features) {
            let Some(norm) = extend_by_unit(&mut unit, &vector) else {
                bail!("the embedding of {path} is not finite; the weights of {} are of no use", self.trained.name());
            };
            norms.push(norm);
        }
        Ok((unit, norms))
    }
}

/// Scores are products with features as they are, or with their directions: told apart by features and their doubles, and checked.
fn scores(head: &dyn Head, dim: usize) -> Result<Option<Scores>> {
    const PROBES: usize = 4;
    let Some(vectors) = head.class_vectors()? else { return Ok(None) };
    let probe = (0..PROBES * dim).map(|at| (at as f32 * 0.7 + (at / dim) as f32).sin());
    let probe = Tensor::from_iter(probe, &Device::Cpu)?.reshape((PROBES, dim))?;
    let of = |features: &Tensor| Ok::<_, anyhow::Error>(head.scores(features)?);
    let (Some(once), Some(twice), Some(bias)) =
        (of(&probe)?, of(&(&probe * 2.0)?)?, of(&probe.narrow(0, 0, 1)?.zeros_like()?)?)
    else {
        return Ok(None);
    };
    let apart = |a: &Tensor, b: &Tensor| -> Result<f32> {
        Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F32)?.to_scalar()?)
    };
    let size = once.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?.max(1.0);
    let of_unit = apart(&once, &twice)? <= 1e-4 * size;
    let length = probe.sqr()?.sum_keepdim(1)?.sqrt()?;
    let multiplied = if of_unit { probe.broadcast_div(&length)? } else { probe };
    let expected = multiplied.matmul(&vectors.t()?)?.broadcast_add(&bias)?;
    if apart(&once, &expected)? > 1e-4 * size {
        return Ok(None);
    }
    let [vectors, bias] = [vectors, bias].map(|tensor| tensor.flatten_all().and_then(|tensor| tensor.to_vec1()));
    Ok(Some(Scores { vectors: vectors?, bias: bias?, of_unit }))
}
