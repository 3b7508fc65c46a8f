//! Maps of the validation images: t-SNE and PCA in two and three dimensions.

use super::{Section, caution, first_runs, name_of, percent, range, range_of};
use crate::align::aligned;
use crate::error::Result;
use crate::plots::scatter::{self, Cloud};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::families::clustering::SILHOUETTE;
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::measured::{Maps, Measured, ValImages};
use std::borrow::Cow;

pub(super) fn tsne(outcome: &Evaluation) -> Result<Section> {
    let text = "Neighbours in the space of embeddings are neighbours here; distances between groups, their sizes and the axes mean nothing. The maps are drawn turned and mirrored, never stretched, \
        to lie as the first of their condition does (orthogonal Procrustes); tsne.csv has the coordinates as they were found. First seed of each variant; every \
        point is a validation image with the colour and shape of its true class.";
    let section = Section::new("tsne", "t-SNE of the validation images", "t-SNE", text);
    let axes = |_: &Measured| ["t-SNE 1".into(), "t-SNE 2".into(), String::new()];
    let mut maps = tsne_maps(outcome);
    for group in &outcome.groups {
        let mut of_group = maps.iter_mut().filter(|(run, ..)| group.variants.contains(&run.variant));
        if let Some((_, images, reference)) = of_group.next() {
            for (.., points) in of_group.filter(|(_, others, _)| others == images) {
                *points = aligned(reference, points);
            }
        }
    }
    let value = |variant: usize| outcome.summary(variant, SILHOUETTE.id()).map(|row| row.summary.mean);
    let one =
        |run: &Measured| Some(format!("{} of the embeddings: {:.3}.", SILHOUETTE.id().title(), value(run.variant)?));
    let all = |group: &Group, _| range_of(outcome, group, SILHOUETTE.id());
    draw(section, outcome, "t-SNE map", maps, axes, (&one, &all), false)
}

pub(super) fn pca(outcome: &Evaluation) -> Result<Section> {
    let text = "The unit embeddings of the validation images along their own first two and three principal components, with the share of their variance. Equal units on all axes \
        of a panel.";
    let section = Section::new("pca", "PCA of the validation images", "PCA", text);
    let axes = |run: &Measured| {
        let ratios = run.maps.as_ref().map(|maps| maps.pca_ratios.as_slice()).unwrap_or_default();
        [0, 1, 2].map(|axis| match ratios.get(axis) {
            Some(ratio) => format!("PC {} ({:.1} %)", axis + 1, 100.0 * ratio),
            None => format!("PC {} (none)", axis + 1),
        })
    };
    let held = |run: &Measured, count: usize| Some(run.maps.as_ref()?.pca_ratios.iter().take(count).sum::<f64>());
    let one = |run: &Measured| Some(format!("The first three components hold {}.", percent(held(run, 3)?)));
    let all = |group: &Group, count: usize| {
        let runs = first_runs(outcome, group);
        let held = runs.filter_map(|run| Some((outcome.name(run.variant), held(run, count)?)));
        let word = if count == 2 { "two" } else { "three" };
        let what = format!("The first {word} components hold");
        Some(format!("{what} {} of the variance; {}.", range(held, percent)?, caution(outcome, [group])))
    };
    draw(section, outcome, "PCA map", pca_maps(outcome), axes, (&one, &all), true)
}

/// What follows from the map of a run, and from all maps of a group in so many dimensions.
type Conclusions<'a> = (&'a dyn Fn(&Measured) -> Option<String>, &'a dyn Fn(&Group, usize) -> Option<String>);

/// A sheet of the variants of each group and a large picture of each variant; `solid` adds a sheet in three dimensions.
fn draw(
    mut section: Section,
    outcome: &Evaluation,
    what: &str,
    maps: Vec<Map<'_>>,
    axes: impl Fn(&Measured) -> [String; 3],
    (of_run, of_group): Conclusions<'_>,
    solid: bool,
) -> Result<Section> {
    let file = section.id;
    for group in &outcome.groups {
        let classes = group.classes(&outcome.selection);
        let here: Vec<&Map<'_>> = maps.iter().filter(|(run, ..)| group.variants.contains(&run.variant)).collect();
        let cloud = |(run, images, points): &Map<'_>| Cloud {
            title: outcome.name(run.variant).into(),
            points: points.clone(),
            labels: images.labels.clone(),
            axes: axes(run),
        };
        let clouds: Vec<Cloud> = here.iter().copied().map(cloud).collect();
        if clouds.is_empty() {
            continue;
        }
        let alt = format!("{what}s of the validation images, one panel for each variant");
        let name = name_of(group, &format!("{file}_all"), &alt);
        section.pictures.push(scatter::sheet(name, classes, &clouds, false)?.concluding(of_group(group, 2)));
        if solid {
            let name = name_of(group, &format!("{file}3d_all"), &format!("Three-dimensional {alt}"));
            section.pictures.push(scatter::sheet(name, classes, &clouds, true)?.concluding(of_group(group, 3)));
        }
        for ((run, ..), cloud) in here.iter().zip(&clouds) {
            let alt = format!("{what} of the validation images by {}", cloud.title);
            let name = (format!("{file}_{}.svg", cloud.title), alt);
            section.details.push(scatter::cloud(name, classes, cloud)?.concluding(of_run(run)));
        }
    }
    Ok(section)
}

/// A run, its validation images that have coordinates, and these (missing ones 0).
pub(crate) type Map<'a> = (&'a Measured, Cow<'a, ValImages>, Vec<[f64; 3]>);

/// t-SNE coordinates of every variant that has them.
pub(crate) fn tsne_maps(outcome: &Evaluation) -> Vec<Map<'_>> {
    mapped(outcome).filter_map(|(run, maps)| tsne_map(run, maps)).collect()
}

/// The images that have places; of very many those of a sample.
fn tsne_map<'a>(run: &'a Measured, maps: &'a Maps) -> Option<Map<'a>> {
    let places = maps.tsne.as_ref()?;
    let points: Vec<[f64; 3]> = places.iter().flatten().map(|&[x, y]| [x, y, 0.0]).collect();
    if points.len() == places.len() {
        return Some((run, Cow::Borrowed(&maps.images), points));
    }
    let mut images = ValImages::default();
    for image in (0..places.len()).filter(|&image| places[image].is_some()) {
        images.ids.push(maps.images.ids[image].clone());
        images.labels.push(maps.images.labels[image]);
    }
    Some((run, Cow::Owned(images), points))
}

/// PCA coordinates of every variant that has them.
pub(crate) fn pca_maps(outcome: &Evaluation) -> Vec<Map<'_>> {
    mapped(outcome).filter_map(|(run, maps)| Some((run, Cow::Borrowed(&maps.images), maps.pca.clone()?))).collect()
}

/// Runs that have maps, and so images.
pub(crate) fn mapped(outcome: &Evaluation) -> impl Iterator<Item = (&Measured, &Maps)> {
    outcome.measured.iter().filter_map(|run| Some((run, run.maps.as_ref()?)))
}
