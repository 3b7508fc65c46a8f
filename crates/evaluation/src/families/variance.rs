//! How many directions the embeddings use: those of the index, or the evaluated ones where there is none.

use super::{AnalysisConfig, Family, Findings, Headline, Result, Subject, rising, rows};
use faceoff_analysis::{geometry, pca};
use faceoff_runs::Engine;

rows! { METRICS in "Explained variance":
    EXPLAINED_VARIANCE "explained_variance_#" "Explained variance, #" Number Neither
        "Share of the total variance of the unit training embeddings along their first # principal components." "Pearson 1901";
    EFFECTIVE_RANK "effective_rank" "Effective rank" Count Neither
        "Exponential of the entropy of the singular values of the centred training embeddings, their sum taken as 1: about how many directions are in use."
        "Roy and Vetterli 2007";
    COMPONENTS_FOR_95_PERCENT "components_for_95_percent" "Components for 95 %" Count Neither
        "Smallest number of principal components that hold 95 % of the variance of the training embeddings." "count";
}

/// Explained variance for every number of components, and two measures of how many are in use.
pub const FAMILY: Family = Family {
    name: "explained variance",
    version: 1,
    metrics: METRICS,
    headline: |settings| {
        settings.headline_components.map(|count| (EXPLAINED_VARIANCE.with(count), Headline::Shown)).to_vec()
    },
    measure,
};

/// The numbers of components to measure, rising.
pub fn counts(settings: &AnalysisConfig) -> Vec<usize> {
    rising([&settings.pca_components[..], &settings.headline_components].concat())
}

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let unit = subject.index.unwrap_or(subject.queries).unit;
    let kept = counts(subject.settings);
    // More components than points or dimensions hold nothing more.
    let possible = unit.nrows().min(unit.ncols());
    let whole = pca::fit(unit, possible)?;
    let most = kept[kept.len() - 1].min(possible);
    found.shapes.variance_ratios = match subject.settings.engine {
        Engine::Fast => whole.explained_variance_ratio[..most].to_vec(),
        Engine::Linfa => pca::fit_linfa(unit, most)?.explained_variance_ratio,
    };
    for count in kept {
        let share = found.shapes.variance_ratios.iter().take(count).sum::<f64>();
        found.add(EXPLAINED_VARIANCE.with(count), share);
    }
    found.add(EFFECTIVE_RANK.id(), geometry::effective_rank(&whole.explained_variance)?);
    let needed = geometry::components_for_variance(&whole.explained_variance, 0.95)?;
    found.add(COMPONENTS_FOR_95_PERCENT.id(), needed as f64);
    Ok(())
}
