//! Do clusters found without labels agree with the classes?

use super::{Family, Findings, Result, Subject, rows};
use faceoff_analysis::clustering;
use faceoff_runs::thousands;
use std::collections::BTreeSet;

rows! { METRICS in "Clustering":
    KMEANS_NMI "kmeans_nmi" "k-means NMI" Number Higher
        "Normalised mutual information (0 to 1) between the classes of the validation images and as many clusters by k-means." "Strehl and Ghosh 2002";
    KMEANS_AMI "kmeans_ami" "k-means AMI" Number Higher
        "Mutual information between classes and clusters above what chance gives: 1 for equal partitions, about 0 for chance." "Vinh et al. 2010";
    SILHOUETTE "silhouette" "Silhouette" Number Higher
        "How much nearer (cosine distance) a validation image lies to its own class than to the next, from -1 to 1, averaged." "Rousseeuw 1987";
}

/// Images times clusters of k-means at most: each of its starts holds a number for each, and takes time for each in every iteration.
const MOST_DISTANCES: usize = 1 << 26;

/// As many clusters as the validation images have classes.
pub const FAMILY: Family =
    Family { name: "clustering", version: 1, metrics: METRICS, headline: |_| Vec::new(), measure };

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let val = subject.queries;
    let classes = val.labels.iter().collect::<BTreeSet<_>>().len();
    let images = val.labels.len();
    if images.saturating_mul(classes) > MOST_DISTANCES {
        found.notes.push(format!(
            "no k-means: {} clusters of {} images would take it too long; it is run where the product of both is at most {}.",
            thousands(classes),
            thousands(images),
            thousands(MOST_DISTANCES)
        ));
    } else {
        let clusters = clustering::kmeans(val.unit, classes, subject.settings.kmeans_seed)?.assignments;
        found.add(KMEANS_NMI.id(), clustering::normalized_mutual_information(val.labels, &clusters)?);
        found.add(KMEANS_AMI.id(), clustering::adjusted_mutual_information(val.labels, &clusters)?);
    }
    let silhouette = clustering::silhouette(val.unit, val.labels)?;
    found.add(SILHOUETTE.id(), silhouette.iter().sum::<f64>() / silhouette.len() as f64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::settings_of_quick;
    use super::*;
    use crate::measured::{Points, measure_family};
    use ndarray::Array2;

    #[test]
    fn too_many_clusters_of_too_many_images_are_left_out_and_said_and_the_silhouette_stays() {
        let images = 11_600;
        let labels: Vec<u32> = (0..images as u32).map(|image| image / 2).collect();
        let angle = |image: usize| 0.0005 * image as f32;
        let unit = Array2::from_shape_fn(
            (images, 2),
            |(image, axis)| {
                if axis == 0 { angle(image).cos() } else { angle(image).sin() }
            },
        );
        let settings = settings_of_quick();
        let subject = Subject {
            index: None,
            queries: Points { unit: unit.view(), labels: &labels },
            classifier: None,
            held_out: None,
            classes: images / 2,
            seed: 0,
            settings: &settings,
        };
        let found = measure_family(&subject, &FAMILY);
        let metrics: Vec<_> = found.values.iter().map(|(metric, _)| *metric).collect();
        assert_eq!(metrics, [SILHOUETTE.id()], "{:?}", found.notes);
        let said = "no k-means: 5,800 clusters of 11,600 images would take it too long";
        assert!(found.notes[0].starts_with(said), "{:?}", found.notes);
    }
}
