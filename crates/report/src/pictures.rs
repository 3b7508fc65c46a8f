//! From measurements to the pictures of a report.

use crate::error::Result;
use crate::metrics::{COMPONENTS, KNN, Measured, ValImages, knn_metric};
use crate::plots::accuracy::{Bar, BarRow};
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::matrix::{Matrix, Sides};
use crate::plots::scatter::Cloud;
use crate::plots::{Axes, Picture, accuracy, curves, matrix, percent_tick, plain_tick, scatter};
use crate::runs::Selection;
use crate::tables::MetricSummary;
use ndarray::Array2;

/// A part of the page: a heading, what to see in it, its pictures.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The title in the list of contents.
    pub(crate) short: &'static str,
    pub(crate) text: String,
    /// Shown at once.
    pub(crate) pictures: Vec<Picture>,
    /// Shown on demand: one a variant.
    pub(crate) details: Vec<Picture>,
}

/// All that pictures are made of.
pub(crate) struct Outcome<'a> {
    pub(crate) selection: &'a Selection,
    pub(crate) measured: &'a [Measured],
    pub(crate) summaries: &'a [MetricSummary],
    /// Validation images of each variant.
    pub(crate) val_images: &'a [ValImages],
    pub(crate) classes: &'a [String],
    /// Neighbourhood sizes measured.
    pub(crate) neighbors: &'a [usize],
    /// Numbers of components kept.
    pub(crate) components: &'a [usize],
}

impl<'a> Outcome<'a> {
    fn variants(&self) -> std::ops::Range<usize> {
        0..self.selection.variants.len()
    }

    fn name(&self, variant: usize) -> &'a str {
        &self.selection.variants[variant].name
    }

    pub(crate) fn summary(&self, variant: usize, metric: &str) -> Option<&'a MetricSummary> {
        self.summaries.iter().find(|row| row.variant == variant && row.metric == metric)
    }

    fn runs(&self, variant: usize) -> impl Iterator<Item = &'a Measured> {
        self.measured.iter().filter(move |run| run.variant == variant)
    }

    /// The confusion matrix of a variant, all seeds together.
    pub(crate) fn confusion(&self, variant: usize) -> Option<Array2<u64>> {
        self.runs(variant).filter_map(|run| run.confusion.clone()).reduce(|sum, counts| sum + counts)
    }
}

/// Every section of the page that has something to show.
pub(crate) fn sections(outcome: &Outcome<'_>) -> Result<Vec<Section>> {
    let all = [
        accuracies(outcome)?,
        variance(outcome)?,
        training(outcome)?,
        tsne(outcome)?,
        pca(outcome)?,
        confusion(outcome)?,
    ];
    Ok(all.into_iter().filter(|section| !section.pictures.is_empty()).collect())
}

fn accuracies(outcome: &Outcome<'_>) -> Result<Section> {
    let bar = |variant: usize, metric: &str| {
        let row = outcome.summary(variant, metric)?;
        let interval = match row.summary.interval {
            Some(interval) => (interval.low.max(0.0), interval.high.min(1.0)),
            None => wilson(row.summary.mean, outcome.val_images[variant].labels.len()),
        };
        Some(Bar { mean: row.summary.mean, interval: Some(interval), seeds: row.values.clone() })
    };
    let knn = knn_metric(KNN);
    let rows: Vec<_> = outcome
        .variants()
        .map(|variant| BarRow {
            name: outcome.name(variant).into(),
            bars: vec![bar(variant, "dnn_accuracy"), bar(variant, &knn)],
        })
        .collect();
    let seeds = |one: bool| {
        outcome.variants().any(|variant| (outcome.selection.of_variant(variant).count() == 1) == one)
    };
    let caption = match (seeds(true), seeds(false)) {
        (true, false) => "Lines: 95 % binomial intervals of the images (Wilson). One seed says nothing of the spread between seeds.",
        (false, true) => "Lines: 95 % intervals of the mean over seeds (Student\u{2019}s t). Dots: the seeds.",
        _ => "Lines: 95 % intervals: over seeds (Student\u{2019}s t) where there are several (dots), else binomial of the images (Wilson).",
    };
    let mut pictures = vec![accuracy::bars(
        "accuracy.svg",
        "Bar chart: DNN and KNN accuracy of every variant, with 95 % intervals",
        caption,
        &["DNN accuracy", "KNN accuracy, k = 5"],
        &rows,
    )?];

    if outcome.neighbors.len() > 1 {
        let curves: Vec<_> = outcome
            .variants()
            .map(|variant| Curve {
                name: outcome.name(variant).into(),
                style: variant,
                points: outcome
                    .neighbors
                    .iter()
                    .filter_map(|&k| Some((k as f64, outcome.summary(variant, &knn_metric(k))?.summary.mean)))
                    .collect(),
            })
            .collect();
        let frame = Frame {
            axes: Axes {
                x: "neighbours k",
                y: "KNN accuracy",
                x_ticks: 10,
                y_ticks: 8,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range: 0.0..outcome.neighbors.iter().copied().max().unwrap_or(1) as f64,
            y_range: padded(&curves, 0.0, 1.0),
            marks: true,
            reference: None,
        };
        let alt = "Line chart: KNN accuracy of every variant over the number of neighbours";
        pictures.push(curves::chart("knn_over_k.svg", alt, &frame, &curves)?);
    }
    Ok(Section {
        id: "accuracy",
        title: "Accuracy",
        short: "Accuracy",
        text: "DNN accuracy is the classifier\u{2019}s own; KNN accuracy is that of the nearest training images in the space of embeddings, \
               which is what a head is for where classes change. The training images are the index, with their true labels; the validation \
               images are the queries."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

/// 95 % interval of a share of `n` (Wilson 1927).
fn wilson(share: f64, n: usize) -> (f64, f64) {
    let (n, z) = (n as f64, 1.959_963_984_540_054);
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (middle - half, middle + half)
}

fn variance(outcome: &Outcome<'_>) -> Result<Section> {
    let mut pictures = Vec::new();
    for count in outcome.components.iter().copied().filter(|count| COMPONENTS.contains(count) || *count > 1) {
        let mut curves = Vec::new();
        for variant in outcome.variants() {
            // Mean over seeds at each component; a run with fewer components has explained all it can.
            let runs: Vec<_> = outcome.runs(variant).filter(|run| !run.variance_ratios.is_empty()).collect();
            let longest = runs.iter().map(|run| run.variance_ratios.len()).max().unwrap_or(0).min(count);
            let mut sum = 0.0;
            let points: Vec<_> = (0..longest)
                .map(|index| {
                    let ratio = |run: &&Measured| run.variance_ratios.get(index).copied().unwrap_or(0.0);
                    sum += runs.iter().map(ratio).sum::<f64>() / runs.len() as f64;
                    ((index + 1) as f64, sum)
                })
                .collect();
            if !points.is_empty() {
                curves.push(Curve { name: outcome.name(variant).into(), style: variant, points });
            }
        }
        if curves.is_empty() {
            continue;
        }
        let frame = Frame {
            axes: Axes {
                x: "principal components",
                y: "explained variance, cumulative",
                x_ticks: 9,
                y_ticks: 11,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range: 0.0..count as f64,
            y_range: 0.0..1.0,
            marks: count <= 20,
            reference: None,
        };
        let alt = format!("Line chart: share of the variance that the first components hold, up to {count}, for every variant");
        pictures.push(curves::chart(&format!("explained_variance_{count}.svg"), &alt, &frame, &curves)?);
    }
    Ok(Section {
        id: "variance",
        title: "Explained variance",
        short: "Variance",
        text: "Principal components of the unit training embeddings; shares are of the total variance of all dimensions, so a curve need not end \
               at 100 %. A curve that is at 100 % after as many components as there are classes less one says that the embeddings have collapsed \
               to one direction a class. Means over seeds."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

fn training(outcome: &Outcome<'_>) -> Result<Section> {
    let epochs = outcome.selection.runs.iter().flat_map(|run| &run.history).map(|record| record.epoch).max().unwrap_or(0);
    let mut pictures = Vec::new();
    if epochs > 0 {
        let x_range = if epochs == 1 { 0.5..1.5 } else { 1.0..epochs as f64 };
        let mut panels = Vec::new();
        let mut accuracies = Vec::new();
        for variant in outcome.variants() {
            let runs: Vec<_> = outcome.selection.of_variant(variant).collect();
            let losses: Vec<_> = runs
                .iter()
                .map(|run| Curve {
                    name: run.name.clone(),
                    style: variant % 10,
                    points: run.history.iter().map(|record| (record.epoch as f64, record.train_loss)).collect(),
                })
                .collect();
            let highest = losses.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(0.0, f64::max);
            panels.push(Panel {
                title: outcome.name(variant).into(),
                frame: Frame {
                    axes: Axes {
                        x: "epoch",
                        y: "loss (own scale)",
                        x_ticks: epochs.min(6),
                        y_ticks: 5,
                        format_x: integer_tick,
                        format_y: plain_tick,
                    },
                    x_range: x_range.clone(),
                    y_range: 0.0..if highest > 0.0 { highest * 1.08 } else { 1.0 },
                    marks: epochs == 1,
                    reference: None,
                },
                curves: losses,
            });
            let mean = |epoch: usize| {
                let at: Vec<_> = runs
                    .iter()
                    .filter_map(|run| run.history.iter().find(|record| record.epoch == epoch))
                    .map(|record| record.train_accuracy)
                    .collect();
                (!at.is_empty()).then(|| (epoch as f64, at.iter().sum::<f64>() / at.len() as f64))
            };
            accuracies.push(Curve {
                name: outcome.name(variant).into(),
                style: variant,
                points: (1..=epochs).filter_map(mean).collect(),
            });
        }
        let frame = Frame {
            axes: Axes {
                x: "epoch",
                y: "accuracy in training",
                x_ticks: epochs.min(11),
                y_ticks: 8,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range,
            y_range: padded(&accuracies, 0.0, 1.0),
            marks: epochs <= 20,
            reference: None,
        };
        let alt = "Line chart: accuracy on the augmented training images over the epochs, for every variant";
        pictures.push(curves::chart("train_accuracy.svg", alt, &frame, &accuracies)?);
        let alt = "Small multiples: training loss over the epochs, one panel with its own axis for each variant";
        pictures.push(curves::panels("train_loss.svg", alt, &panels)?);
    }
    Ok(Section {
        id: "training",
        title: "Training",
        short: "Training",
        text: "Accuracy on the augmented training images while training went on, labels withheld (means over seeds), and the loss of every run. \
               Losses are never to be compared across heads: each head has another scale and another lowest value; therefore every panel has an \
               axis of its own."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

fn tsne(outcome: &Outcome<'_>) -> Result<Section> {
    let clouds = tsne_maps(outcome)
        .into_iter()
        .map(|(run, _, points)| cloud(outcome, run.variant, points, ["t-SNE 1", "t-SNE 2"].map(String::from)))
        .collect::<Vec<_>>();
    let (sheet, details) = scatter_pictures(outcome, "tsne", "t-SNE map", &clouds)?;
    Ok(Section {
        id: "tsne",
        title: "t-SNE of the validation images",
        short: "t-SNE",
        text: "Neighbours in the space of embeddings are neighbours here; distances between groups, their sizes and the axes mean nothing. First \
               seed of each variant; every point is a validation image with the colour and shape of its true class."
            .into(),
        pictures: sheet.into_iter().collect(),
        details,
    })
}

fn pca(outcome: &Outcome<'_>) -> Result<Section> {
    let maps = pca_maps(outcome);
    let axis = |run: &Measured, index: usize| {
        let ratios = run.maps.as_ref().map(|maps| maps.pca_ratios.as_slice()).unwrap_or_default();
        match ratios.get(index) {
            Some(ratio) => format!("PC {} ({:.1} %)", index + 1, 100.0 * ratio),
            None => format!("PC {} (none)", index + 1),
        }
    };
    let clouds: Vec<_> = maps
        .into_iter()
        .map(|(run, _, points)| {
            let mut cloud = cloud(outcome, run.variant, points, [axis(run, 0), axis(run, 1)]);
            cloud.axes[2] = axis(run, 2);
            cloud
        })
        .collect();
    let (sheet, details) = scatter_pictures(outcome, "pca", "PCA map", &clouds)?;
    let mut pictures: Vec<_> = sheet.into_iter().collect();
    if !clouds.is_empty() {
        let alt = "Three-dimensional PCA maps of the validation images, one panel for each variant";
        pictures.push(scatter::sheet("pca3d_all.svg", alt, outcome.classes, &clouds, true)?);
    }
    Ok(Section {
        id: "pca",
        title: "PCA of the validation images",
        short: "PCA",
        text: "The unit embeddings of the validation images along their own first two and three principal components, with the share of their \
               variance. Equal units on all axes of a panel."
            .into(),
        pictures,
        details,
    })
}

fn cloud(outcome: &Outcome<'_>, variant: usize, points: Vec<[f64; 3]>, axes: [String; 2]) -> Cloud {
    let [x, y] = axes;
    Cloud {
        title: outcome.name(variant).into(),
        points,
        labels: outcome.val_images[variant].labels.clone(),
        axes: [x, y, String::new()],
    }
}

/// A sheet of all variants and a large picture of each.
fn scatter_pictures(
    outcome: &Outcome<'_>,
    prefix: &str,
    what: &str,
    clouds: &[Cloud],
) -> Result<(Option<Picture>, Vec<Picture>)> {
    if clouds.is_empty() {
        return Ok((None, Vec::new()));
    }
    let alt = format!("{what}s of the validation images, one panel for each variant");
    let sheet = scatter::sheet(&format!("{prefix}_all.svg"), &alt, outcome.classes, clouds, false)?;
    let mut details = Vec::new();
    for cloud in clouds {
        let alt = format!("{what} of the validation images by {}", cloud.title);
        details.push(scatter::cloud(&format!("{prefix}_{}.svg", cloud.title), &alt, outcome.classes, cloud)?);
    }
    Ok((Some(sheet), details))
}

/// A run, its validation images and their coordinates (missing ones 0).
pub(crate) type Map<'a> = (&'a Measured, &'a ValImages, Vec<[f64; 3]>);

/// t-SNE coordinates of every variant that has them.
pub(crate) fn tsne_maps<'a>(outcome: &Outcome<'a>) -> Vec<Map<'a>> {
    let map = |run: &'a Measured| {
        let points = run.maps.as_ref()?.tsne.as_ref()?;
        let points = points.rows().into_iter().map(|row| [row[0], row[1], 0.0]).collect();
        Some((run, &outcome.val_images[run.variant], points))
    };
    outcome.measured.iter().filter_map(map).collect()
}

/// PCA coordinates of every variant that has them.
pub(crate) fn pca_maps<'a>(outcome: &Outcome<'a>) -> Vec<Map<'a>> {
    let map = |run: &'a Measured| {
        let points = run.maps.as_ref()?.pca.as_ref()?;
        let at = |row: ndarray::ArrayView1<'_, f32>, index| row.get(index).map_or(0.0, |&value| f64::from(value));
        let points = points.rows().into_iter().map(|row| [at(row, 0), at(row, 1), at(row, 2)]).collect();
        Some((run, &outcome.val_images[run.variant], points))
    };
    outcome.measured.iter().filter_map(map).collect()
}

fn confusion(outcome: &Outcome<'_>) -> Result<Section> {
    let sides = Sides { names: outcome.classes, rows: "true class", columns: "predicted class" };
    let (mut shares, mut details) = (Vec::new(), Vec::new());
    for variant in outcome.variants() {
        let Some(counts) = outcome.confusion(variant) else { continue };
        let totals: Vec<u64> = counts.rows().into_iter().map(|row| row.sum()).collect();
        let share = |((truth, _), &count): ((usize, usize), &u64)| count as f64 / totals[truth].max(1) as f64;
        let shades: Vec<f64> = counts.indexed_iter().map(share).collect();
        let name = outcome.name(variant);
        let of = |texts| Matrix { title: name.into(), shades: shades.clone(), texts };
        let blank_zero = |text: String| if text == "0" { String::new() } else { text };
        shares.push(of(shades.iter().map(|share| blank_zero(format!("{:.0}", 100.0 * share))).collect()));
        let alt = format!("Confusion matrix of {name}: number of validation images by true and predicted class");
        let file = format!("confusion_{name}.svg");
        let texts = counts.iter().map(|count| blank_zero(count.to_string())).collect();
        details.push(matrix::matrix(&file, &alt, &sides, 38.0, &of(texts))?);
    }
    let mut pictures = Vec::new();
    if !shares.is_empty() {
        let alt = "Confusion matrices of all variants: percent of each true class by predicted class";
        pictures.push(matrix::sheet("confusion_all.svg", alt, &sides, 26.0, &shares)?);
    }
    Ok(Section {
        id: "confusion",
        title: "Confusion",
        short: "Confusion",
        text: "By the head\u{2019}s highest score on the validation images, labels withheld; all seeds together. The sheet shows percent of each true class \
               (rows add up to 100), the large pictures show numbers of images. Empty cells are 0."
            .into(),
        pictures,
        details,
    })
}

/// The range of the curves' values with a little room, within hard limits.
fn padded(curves: &[Curve], lowest: f64, highest: f64) -> std::ops::Range<f64> {
    let values = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if !low.is_finite() {
        return lowest..highest;
    }
    let pad = (0.08 * (high - low)).max(0.01);
    (low - pad).max(lowest)..(high + pad).min(highest)
}

/// Whole numbers only.
fn integer_tick(value: &f64) -> String {
    if (value - value.round()).abs() < 1e-9 { format!("{}", value.round()) } else { String::new() }
}
