//! Maps of the validation images: t-SNE and PCA in two and three dimensions.

use super::{Section, under};
use crate::error::Result;
use crate::plots::scatter::Cloud;
use crate::plots::{Picture, scatter};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::measured::{Maps, Measured, ValImages};

pub(super) fn tsne(outcome: &Evaluation) -> Result<Section> {
    let (mut pictures, mut details) = (Vec::new(), Vec::new());
    for group in &outcome.groups {
        let clouds: Vec<_> = tsne_maps(outcome)
            .into_iter()
            .filter(|(run, ..)| group.variants.contains(&run.variant))
            .map(|(run, images, points)| {
                cloud(outcome, run.variant, images, points, ["t-SNE 1", "t-SNE 2"].map(String::from))
            })
            .collect();
        let (sheet, large) = scatter_pictures(outcome, group, "tsne", "t-SNE map", &clouds)?;
        pictures.extend(sheet);
        details.extend(large);
    }
    Ok(Section {
        id: "tsne",
        title: "t-SNE of the validation images",
        short: "t-SNE",
        text: "Neighbours in the space of embeddings are neighbours here; distances between groups, their sizes and the axes mean nothing. First \
               seed of each variant; every point is a validation image with the colour and shape of its true class."
            .into(),
        pictures,
        details,
    })
}

pub(super) fn pca(outcome: &Evaluation) -> Result<Section> {
    let axis = |run: &Measured, index: usize| {
        let ratios = run.maps.as_ref().map(|maps| maps.pca_ratios.as_slice()).unwrap_or_default();
        match ratios.get(index) {
            Some(ratio) => format!("PC {} ({:.1} %)", index + 1, 100.0 * ratio),
            None => format!("PC {} (none)", index + 1),
        }
    };
    let (mut pictures, mut details) = (Vec::new(), Vec::new());
    for group in &outcome.groups {
        let clouds: Vec<_> = pca_maps(outcome)
            .into_iter()
            .filter(|(run, ..)| group.variants.contains(&run.variant))
            .map(|(run, images, points)| {
                let mut cloud = cloud(outcome, run.variant, images, points, [axis(run, 0), axis(run, 1)]);
                cloud.axes[2] = axis(run, 2);
                cloud
            })
            .collect();
        let (sheet, large) = scatter_pictures(outcome, group, "pca", "PCA map", &clouds)?;
        pictures.extend(sheet);
        details.extend(large);
        if !clouds.is_empty() {
            let alt = format!(
                "Three-dimensional PCA maps of the validation images, one panel for each variant{}",
                under(group)
            );
            let file = format!("pca3d_all{}.svg", group.suffix());
            pictures.push(scatter::sheet(&file, &alt, group.classes(&outcome.selection), &clouds, true)?);
        }
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

fn cloud(
    outcome: &Evaluation,
    variant: usize,
    images: &ValImages,
    points: Vec<[f64; 3]>,
    axes: [String; 2],
) -> Cloud {
    let [x, y] = axes;
    Cloud {
        title: outcome.name(variant).into(),
        points,
        labels: images.labels.clone(),
        axes: [x, y, String::new()],
    }
}

/// A sheet of all variants and a large picture of each.
fn scatter_pictures(
    outcome: &Evaluation,
    group: &Group,
    prefix: &str,
    what: &str,
    clouds: &[Cloud],
) -> Result<(Option<Picture>, Vec<Picture>)> {
    if clouds.is_empty() {
        return Ok((None, Vec::new()));
    }
    let alt = format!("{what}s of the validation images, one panel for each variant{}", under(group));
    let classes = group.classes(&outcome.selection);
    let file = format!("{prefix}_all{}.svg", group.suffix());
    let sheet = scatter::sheet(&file, &alt, classes, clouds, false)?;
    let mut details = Vec::new();
    for cloud in clouds {
        let alt = format!("{what} of the validation images by {}", cloud.title);
        details.push(scatter::cloud(&format!("{prefix}_{}.svg", cloud.title), &alt, classes, cloud)?);
    }
    Ok((Some(sheet), details))
}

/// A run, its validation images and their coordinates (missing ones 0).
pub(crate) type Map<'a> = (&'a Measured, &'a ValImages, Vec<[f64; 3]>);

/// t-SNE coordinates of every variant that has them.
pub(crate) fn tsne_maps(outcome: &Evaluation) -> Vec<Map<'_>> {
    maps_of(outcome, |maps| Some(maps.tsne.as_ref()?.iter().map(|&[x, y]| [x, y, 0.0]).collect()))
}

/// PCA coordinates of every variant that has them.
pub(crate) fn pca_maps(outcome: &Evaluation) -> Vec<Map<'_>> {
    maps_of(outcome, |maps| maps.pca.clone())
}

fn maps_of(outcome: &Evaluation, points: fn(&Maps) -> Option<Vec<[f64; 3]>>) -> Vec<Map<'_>> {
    let mut all = Vec::new();
    for run in &outcome.measured {
        if let Some(maps) = &run.maps
            && let Some(points) = points(maps)
        {
            all.push((run, &maps.images, points));
        }
    }
    all
}
