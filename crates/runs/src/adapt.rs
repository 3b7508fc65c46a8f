//! What an experiment has to change to work on few images: its numbers were chosen for thousands.

use crate::{Experiment, HeadVariant, Result, Sampler};

/// How many images there are, as far as an experiment depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Images that are trained on.
    pub train_images: usize,
    /// Classes that training tells apart.
    pub classes: usize,
    /// Training images of the smallest of them.
    pub smallest_class: usize,
    /// Images that the validation images are compared with.
    pub compared: usize,
    /// Those of the smallest class.
    pub smallest_compared: usize,
    /// Those of the largest class.
    pub largest_compared: usize,
    /// Validation images.
    pub val_images: usize,
}

impl Sizes {
    /// The smaller of each.
    pub fn min(self, other: Self) -> Self {
        Self {
            train_images: self.train_images.min(other.train_images),
            classes: self.classes.min(other.classes),
            smallest_class: self.smallest_class.min(other.smallest_class),
            compared: self.compared.min(other.compared),
            smallest_compared: self.smallest_compared.min(other.smallest_compared),
            largest_compared: self.largest_compared.min(other.largest_compared),
            val_images: self.val_images.min(other.val_images),
        }
    }
}

impl Experiment {
    /// The experiment as it fits images of `sizes` and embeddings of `dim` numbers, and what was changed, a sentence each.
    ///
    /// - A batch is no larger than the training images; of a sampler, no more classes than there are and no more images than the
    ///   smallest class has. Heads for which no sampler fits are left out.
    /// - Neighbours that vote in the headline: no more than the smallest class has among the images compared with; in the curve, than the
    ///   largest has.
    /// - Principal components: no more than images compared with, or dimensions. Perplexity: a third of the validation images.
    ///
    /// # Errors
    /// Those of [`Experiment::validate`], for an experiment that is still none.
    pub fn adapted(mut self, sizes: &Sizes, dim: usize) -> Result<(Self, Vec<String>)> {
        let mut said = Vec::new();
        self.adapt_batch(sizes, &mut said);
        let analysis = &mut self.analysis;

        let (wanted, most) = (analysis.headline_neighbors, sizes.smallest_compared.max(1));
        if wanted > most {
            analysis.headline_neighbors = most;
            said.push(format!(
                "The headline's KNN accuracy asks {most} neighbours instead of {wanted}: so many images to compare with has the smallest class."
            ));
        }
        let most = sizes.largest_compared.max(analysis.headline_neighbors);
        keep(&mut analysis.knn_neighbors, most, analysis.headline_neighbors, |widest| {
            said.push(format!(
                "The curve of KNN accuracy ends at {most} neighbours instead of {widest}: so many images to compare with has the largest class."
            ));
        });
        let most = sizes.compared.min(dim).max(1);
        let wanted = analysis.headline_components;
        if wanted.iter().any(|&count| count > most) {
            let fewer = wanted.map(|count| count.min(most));
            analysis.headline_components = if fewer[0] == fewer[1] { [most.div_ceil(2), most] } else { fewer };
            let reason = if dim < sizes.compared {
                format!("embeddings of {dim} numbers have no more")
            } else {
                format!("{} images to compare with have no more", sizes.compared)
            };
            said.push(format!(
                "The headline's explained variances are of {:?} principal components instead of {wanted:?}: {reason}.",
                analysis.headline_components
            ));
        }
        keep(&mut analysis.pca_components, most, most, |_| {});
        let most = (sizes.val_images.saturating_sub(1) as f64 / 3.0).max(1.0);
        if analysis.tsne_perplexity > most {
            said.push(format!(
                "t-SNE takes perplexity {most:.1} instead of {}: {} validation images allow no more.",
                analysis.tsne_perplexity, sizes.val_images
            ));
            analysis.tsne_perplexity = most;
        }
        self.validate()?;
        Ok((self, said))
    }

    fn adapt_batch(&mut self, sizes: &Sizes, said: &mut Vec<String>) {
        let (training, heads) = (&mut self.training, &mut self.heads);
        let wanted = training.batch_size;
        let train_images = sizes.train_images;
        if wanted > train_images && train_images >= 2 {
            training.batch_size = 1 << train_images.ilog2();
            let batch = training.batch_size;
            said.push(format!(
                "A batch has {batch} images instead of {wanted}: there are {train_images} training images."
            ));
        }
        let fits = |sampler: &Sampler| {
            sampler.classes <= sizes.classes
                && sampler.images <= sizes.smallest_class
                && sampler.classes * sampler.images == training.batch_size
        };
        let sampler_of = |variant: &HeadVariant| variant.sampler;
        let Some(unfit) = heads.iter().filter_map(sampler_of).chain(training.sampler).find(|sampler| !fits(sampler))
        else {
            return;
        };
        let Sizes { classes, smallest_class, .. } = *sizes;
        let why = format!("there are {classes} classes, the smallest of {smallest_class} training images");
        if let Some(fitting) = fitting(unfit, training.batch_size, sizes) {
            training.batch_size = fitting.classes * fitting.images;
            training.sampler = training.sampler.map(|_| fitting);
            heads.iter_mut().for_each(|variant| variant.sampler = variant.sampler.map(|_| fitting));
            said.push(format!(
                "The sampler of pairs is {fitting} instead of {unfit}, and every head's batch has {} images: {why}.",
                training.batch_size
            ));
        } else if training.sampler.is_none() && heads.iter().any(|variant| variant.sampler.is_none()) {
            let without: Vec<String> =
                heads.extract_if(.., |variant| variant.sampler.is_some()).map(|variant| variant.name).collect();
            said.push(format!(
                "{} left out, for want of pairs of images of one class: {why}.",
                match &without[..] {
                    [only] => format!("{only} is"),
                    several => format!("{} are", several.join(", ")),
                }
            ));
        }
    }
}

/// The sampler of the largest batch up to `most` that the classes allow, with at most as many images a class as `wanted` has.
fn fitting(wanted: Sampler, most: usize, sizes: &Sizes) -> Option<Sampler> {
    (4..=most).rev().find_map(|batch| {
        let fits = |images: &usize| batch % images == 0 && (2..=sizes.classes).contains(&(batch / images));
        let images = (2..=wanted.images.min(sizes.smallest_class)).rev().find(fits)?;
        Some(Sampler { classes: batch / images, images })
    })
}

/// Drops numbers above `most`, and puts `instead` where none is left. Tells `said` the largest where something was dropped.
fn keep(numbers: &mut Vec<usize>, most: usize, instead: usize, said: impl FnOnce(usize)) {
    let largest = numbers.iter().copied().max().unwrap_or(0);
    if largest > most {
        numbers.retain(|&number| number <= most);
        if numbers.is_empty() {
            numbers.push(instead);
        }
        said(largest);
    }
}
