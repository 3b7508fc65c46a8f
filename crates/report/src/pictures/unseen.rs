//! Retrieval and verification on classes that were held out from training.

use super::{Section, bar, bases, distinct, range_of};
use crate::error::Result;
use crate::plots::accuracy::{self, BarRow};
use faceoff_evaluation::families::{open_set, retrieval, verification};
use faceoff_evaluation::{Direction, Evaluation};

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "The evaluated classes were held out from training; each condition holds out other classes. There is no classifier of them, so retrieval and verification speak: \
        every validation image against all others of the held-out classes. AUROC, FPR and OSCR say whether these images are told from validation images of the classes trained on, \
        by the cosine with the nearest training image or by the head\u{2019}s highest score; the table of all numbers also has class means, and a threshold with its errors. Lines are 95 % intervals over seeds where there are at least two (Student\u{2019}s t).";
    let mut section = Section::new("unseen", "Classes never seen in training", "Unseen classes", text);
    let variants = &outcome.selection.variants;
    let unseen = outcome.shown().filter(|&variant| variants[variant].unseen);
    let conditions = distinct(unseen.map(|variant| variants[variant].condition.as_str()));
    if conditions.is_empty() {
        return Ok(section);
    }
    for metric in [
        retrieval::LOO_PRECISION_AT_1.id(),
        retrieval::LOO_MAP_AT_R.id(),
        verification::TAR_AT_FAR.with(2),
        verification::EQUAL_ERROR_RATE.id(),
        open_set::AUROC_NEIGHBOR.id(),
        open_set::FPR_NEIGHBOR.id(),
        open_set::OSCR_NEIGHBOR.id(),
        open_set::OSCR_SCORE.id(),
    ] {
        let bar = |base: &str, condition: &str| {
            let fits = |&v: &usize| variants[v].base == base && variants[v].condition == condition;
            bar(outcome, outcome.shown().find(fits)?, metric)
        };
        let row = |base: &str| BarRow {
            name: base.into(),
            bars: conditions.iter().map(|condition| bar(base, condition)).collect(),
        };
        let rows: Vec<_> = bases(outcome).into_iter().map(row).collect();
        if rows.iter().all(|row| row.bars.iter().all(Option::is_none)) {
            continue;
        }
        let title = metric.title();
        let lower = match metric.metric().direction {
            Direction::Lower => " Lower is better.",
            Direction::Higher | Direction::Neither => "",
        };
        let alt = format!("Bar chart: {title} of every head on classes never seen in training");
        let name = (format!("unseen_{metric}.svg"), alt);
        let measure = format!("{title} on held-out classes");
        let caption = format!("Held out: see the conditions in Method.{lower}");
        let unseen =
            outcome.groups.iter().filter(|group| group.variants.iter().any(|&variant| variants[variant].unseen));
        let said: Vec<String> = unseen.filter_map(|group| range_of(outcome, group, metric)).collect();
        let said = (!said.is_empty()).then(|| said.join(" "));
        section.pictures.push(accuracy::bars(name, &measure, &caption, &conditions, &rows)?.concluding(said));
    }
    Ok(section)
}
