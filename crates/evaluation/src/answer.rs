//! The answer in words: which variant is ahead, what is decided and what is not, and what to run next.
//!
//! By the accuracy that heads are chosen by: KNN accuracy, which speaks of the embeddings, where it is compared, else the first accuracy
//! compared. Of every two variants the paired tests of [`crate::comparisons`] decide; where nothing can be tested, nothing is called
//! better, and [`ASSUMED_SD`] says what seeds alone can make.

use crate::choice::Choice;
use crate::comparisons::Pair;
use crate::families::neighbors;
use crate::groups::Group;
use crate::health::{Finding, Verdict};
use crate::registry::{MetricId, Unit};
use crate::selection::Origin;
use crate::{Evaluation, tables::MetricSummary};
use faceoff_analysis::statistics::{ALPHA, ASSUMED_SD, MIN_SEEDS};
use std::collections::BTreeSet;

/// So far apart must two variants be, each with one seed, to be more than seeds alone can make: 95 % of differences that scatter by
/// [`ASSUMED_SD`] are smaller.
const SEED_ALONE: f64 = 2.0 * ASSUMED_SD;
/// The number of seeds that is advised where there are too few for a test.
const ADVISED_SEEDS: u64 = 5;
/// More seeds than this are not advised.
const MOST_ADVISED: u64 = 30;
/// More heads than this are counted, not named.
const MOST_NAMED: usize = 5;
/// Below this many epochs a longer training is advised.
const FEW_EPOCHS: usize = 4;

/// What can be said of a variant beside the one with the highest mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has the highest mean.
    First,
    /// No test tells it from the first.
    Together,
    /// It is behind the first, at the level of all tests.
    Behind,
    /// There are too few seeds for a test.
    Untested,
}

/// Where a variant stands by the accuracy of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Index of the variant.
    pub variant: usize,
    /// Mean over its seeds.
    pub mean: f64,
    /// How far its mean is behind the first, over the seeds that both have.
    pub behind: f64,
    /// What the test says.
    pub place: Place,
}

/// The answer under one condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The condition; empty without.
    pub condition: String,
    /// What heads are chosen by.
    pub metric: MetricId,
    /// The highest mean first.
    pub standings: Vec<Standing>,
    /// Whether a test tells the first from all others.
    pub decided: bool,
    /// Whether any two of its variants can be tested.
    pub tested: bool,
    /// The answer, a sentence or two each: the verdict first, what to run next last.
    pub sentences: Vec<String>,
    /// What to run next, as it stands in the last sentence; `None` where nothing more of the experiment helps.
    pub command: Option<String>,
}

impl Answer {
    /// Whether a variant is among those that no test tells from the best, of several that were tested.
    pub fn is_among_best(&self, variant: usize) -> bool {
        let best = |standing: &&Standing| matches!(standing.place, Place::First | Place::Together);
        self.tested && self.standings.iter().filter(best).any(|standing| standing.variant == variant)
    }
}

/// The metric that variants are ordered by.
pub fn chosen_metric(evaluation: &Evaluation) -> Option<MetricId> {
    let knn = neighbors::headline(&evaluation.settings);
    evaluation.compared().find(|&metric| metric == knn).or_else(|| evaluation.compared().next())
}

/// One for each group with two variants or more.
pub(crate) fn answers(evaluation: &Evaluation) -> Vec<Answer> {
    let Some(metric) = chosen_metric(evaluation) else { return Vec::new() };
    evaluation.groups.iter().filter_map(|group| answer(evaluation, group, metric)).collect()
}

fn answer(evaluation: &Evaluation, group: &Group, metric: MetricId) -> Option<Answer> {
    let mean = |&variant: &usize| evaluation.summary(variant, metric);
    let mut rows: Vec<&MetricSummary> = group.variants.iter().filter_map(mean).collect();
    // The first of equals stays the first.
    rows.sort_by(|a, b| b.summary.mean.total_cmp(&a.summary.mean));
    let [first, _, ..] = rows[..] else { return None };
    let pair_of = |variant: usize| pair(evaluation, metric, first.variant, variant);
    let standing = |row: &&MetricSummary| {
        let pair = pair_of(row.variant);
        let place = match pair.map(|pair| pair.p_holm) {
            _ if row.variant == first.variant => Place::First,
            Some(Some(p)) if p < ALPHA => Place::Behind,
            Some(Some(_)) => Place::Together,
            _ => Place::Untested,
        };
        let behind = pair.map_or(first.summary.mean - row.summary.mean, |pair| pair.test.paired.difference.mean.abs());
        Standing { variant: row.variant, mean: row.summary.mean, behind, place }
    };
    let standings: Vec<Standing> = rows.iter().map(standing).collect();
    let tested = standings.iter().any(|standing| matches!(standing.place, Place::Together | Place::Behind));
    let decided = standings[1..].iter().all(|standing| standing.place == Place::Behind);
    let seeds = rows.iter().map(|row| row.summary.n).min().unwrap_or(0);
    let (condition, sentences) = (group.condition.clone(), Vec::new());
    let mut answer = Answer { condition, metric, standings, decided, tested, sentences, command: None };
    let words = Words { evaluation, group, answer: &answer, seeds };
    let (next, command) = words.next().unzip();
    let sentences = [Some(words.verdict()), words.of_means(), words.chance(), words.by_others(), words.health(), next];
    (answer.sentences, answer.command) = (sentences.into_iter().flatten().collect(), command.flatten());
    Some(answer)
}

fn pair(evaluation: &Evaluation, metric: MetricId, a: usize, b: usize) -> Option<&Pair> {
    let is_pair = |pair: &&Pair| pair.metric == metric && [(a, b), (b, a)].contains(&(pair.a, pair.b));
    evaluation.comparisons.pairs.iter().find(is_pair)
}

/// What the sentences are made of.
struct Words<'a> {
    evaluation: &'a Evaluation,
    group: &'a Group,
    answer: &'a Answer,
    /// Seeds of the variant with the fewest.
    seeds: usize,
}

impl Words<'_> {
    fn name(&self, variant: usize) -> &str {
        self.evaluation.name(variant)
    }

    /// A value with its unit.
    fn value(&self, metric: MetricId, value: f64) -> String {
        let unit = if metric.metric().unit == Unit::Percent { " %" } else { "" };
        format!("{}{unit}", metric.format(value))
    }

    fn in_place(&self, place: Place) -> Vec<&Standing> {
        self.answer.standings.iter().filter(|standing| standing.place == place).collect()
    }

    /// `A`, `A and B`, `A, B and C`.
    fn names(&self, standings: &[&Standing]) -> String {
        join(standings.iter().map(|standing| self.name(standing.variant).to_string()))
    }

    /// `A by 1.2, B by 2 points`; of many, the nearest and the farthest.
    fn behind(&self, standings: &[&Standing]) -> String {
        if let [nearest, .., farthest] = standings
            && standings.len() > MOST_NAMED
        {
            let [from, to] = [nearest, farthest].map(|standing| 100.0 * standing.behind);
            let [first, last] = [nearest, farthest].map(|standing| self.name(standing.variant));
            return format!("{} heads by {from:.1} ({first}) to {to:.1} points ({last})", standings.len());
        }
        let each = |standing: &&Standing| format!("{} by {:.1}", self.name(standing.variant), 100.0 * standing.behind);
        format!("{} points", join(standings.iter().map(each)))
    }

    /// Whether there is an answer.
    fn verdict(&self) -> String {
        let title = self.answer.metric.title();
        let first = self.name(self.answer.standings[0].variant);
        let count = self.answer.standings.len();
        let together = self.in_place(Place::Together);
        let holm = "at 5 % after Holm\u{2019}s correction";
        if !self.answer.tested {
            let few = match self.seeds {
                1 => "with one seed".to_string(),
                seeds => format!("with {seeds} seeds"),
            };
            return format!(
                "Not decided: {few} no difference between heads can be tested; tests begin at {MIN_SEEDS} seeds."
            );
        }
        if self.answer.decided {
            return format!(
                "Decided: by {title}, {first} is ahead of all {} others over {} seeds ({holm}).",
                count - 1,
                self.seeds
            );
        }
        let untested = self.in_place(Place::Untested);
        let left = if untested.is_empty() {
            String::new()
        } else {
            format!(" Too few seeds for a test: {}.", self.names(&untested))
        };
        match together.len() {
            0 => format!("Not decided: {first} has the highest {title} over {} seeds.{left}", self.seeds),
            others if others + 1 == count => format!(
                "Not decided: over {} seeds no head is shown to be behind {first}, which has the highest {title} ({holm}).",
                self.seeds
            ),
            _ => format!(
                "Decided in part: by {title}, the best group is {first} with {}; no test over {} seeds tells these from {first} ({holm}).{left}",
                self.names(&together),
                self.seeds
            ),
        }
    }

    /// The means, the chance level, and how far the others are behind.
    fn of_means(&self) -> Option<String> {
        let Answer { metric, standings, tested, .. } = self.answer;
        let first = &standings[0];
        let images = self.evaluation.runs(first.variant).find_map(|run| Some(run.found.right(*metric)?.len()));
        let images = images.map_or(String::new(), |images| format!(" of the {images} validation images"));
        let interval = self.evaluation.interval(first.variant, *metric).map(|(low, high)| {
            let over = if self.seeds == 1 { "images" } else { "seeds" };
            format!("95 % interval over {over} {} to {}; ", metric.format(low), metric.format(high))
        });
        let classes = self.group.classes(&self.evaluation.selection).len().max(1);
        let mean = format!(
            "{} has {}{images} ({}guessing gives {})",
            self.name(first.variant),
            self.value(*metric, first.mean),
            interval.unwrap_or_default(),
            self.value(*metric, 1.0 / classes as f64)
        );
        if *tested {
            let behind = self.in_place(Place::Behind);
            let rest = if behind.is_empty() { String::new() } else { format!(" Behind it: {}.", self.behind(&behind)) };
            return Some(format!("{mean}.{rest}"));
        }
        let (near, far): (Vec<&Standing>, Vec<&Standing>) =
            standings[1..].iter().partition(|standing| standing.behind <= SEED_ALONE);
        let trainings = if self.seeds == 1 { "In this one training of each head" } else { "Over these seeds" };
        let points = format!("{:.0} points, which the seed alone can make", 100.0 * SEED_ALONE);
        let near = match near.len() {
            0 => format!("; no other lies within {points}"),
            _ => format!("; within {points}: {}", self.names(&near)),
        };
        let far = if far.is_empty() { String::new() } else { format!("; further behind: {}", self.behind(&far)) };
        Some(format!("{trainings}, by {}, {mean}{near}{far}.", metric.title()))
    }

    /// How likely the first is the best, and what a wrong choice costs.
    fn chance(&self) -> Option<String> {
        let Answer { metric, standings, decided, .. } = self.answer;
        let first = standings[0].variant;
        let of_first = |choice: &&Choice| choice.metric == *metric && choice.variant == first;
        let Choice { probability_best, expected_regret, seeds, .. } =
            self.evaluation.comparisons.choices.iter().find(of_first)?;
        let drawn = match seeds {
            1 => "With other images of these classes (other seeds are not asked)",
            _ => "With other seeds and images",
        };
        let text = format!(
            "{drawn}, {} is the best in {:.0} % of the draws, and choosing it stays {:.2} points behind the best on the average.",
            self.name(first),
            100.0 * probability_best,
            100.0 * expected_regret
        );
        (!decided).then_some(text)
    }

    /// What the other accuracies say.
    fn by_others(&self) -> Option<String> {
        let first = self.answer.standings[0].variant;
        let others = self.evaluation.compared().filter(|&metric| metric != self.answer.metric);
        let highest = |metric: MetricId| {
            let rows = self.group.variants.iter().filter_map(|&variant| self.evaluation.summary(variant, metric));
            let best = rows.rev().max_by(|a, b| a.summary.mean.total_cmp(&b.summary.mean))?;
            let too = if best.variant == first { ", too" } else { "" };
            let mean = self.value(metric, best.summary.mean);
            Some(format!("By {}, {} has the highest mean{too}: {mean}.", metric.title(), self.name(best.variant)))
        };
        let sentences: Vec<String> = others.filter_map(highest).collect();
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }

    /// Verdicts of variants of this group.
    fn ill(&self) -> impl Iterator<Item = &Finding> {
        let names: Vec<&str> = self.group.variants.iter().map(|&variant| self.name(variant)).collect();
        self.evaluation.health.iter().filter(move |finding| names.contains(&finding.variant.as_str()))
    }

    /// Which heads are to be read with care.
    fn health(&self) -> Option<String> {
        let mut names: Vec<&str> = self.ill().map(|finding| finding.variant.as_str()).collect();
        names.dedup();
        if names.is_empty() {
            return None;
        }
        if names.len() > MOST_NAMED {
            let count = |verdict: Verdict| self.ill().filter(|finding| finding.verdict == verdict).count();
            let found = Verdict::ALL.into_iter().filter(|&verdict| count(verdict) > 0);
            let each = join(found.map(|verdict| format!("{verdict}: {}", count(verdict))));
            let all = self.group.variants.len();
            return Some(format!(
                "To be read with care: {} of {all} heads, with a verdict each or more ({each}).",
                names.len()
            ));
        }
        let of = |name: &&str| {
            let verdicts = self.ill().filter(|finding| finding.variant == **name).map(Finding::short);
            format!("{name} ({})", verdicts.collect::<Vec<_>>().join(", "))
        };
        Some(format!("To be read with care: {}.", join(names.iter().map(of))))
    }

    /// What to run next, in words and as a command.
    fn next(&self) -> Option<(String, Option<String>)> {
        let Origin::Runs(manifest) = &self.evaluation.selection.origin else { return None };
        let epochs = manifest.spec.training.epochs;
        let growing: BTreeSet<&str> = self
            .ill()
            .filter(|finding| finding.verdict == Verdict::Undertrained)
            .map(|finding| finding.variant.as_str())
            .collect();
        let longer = epochs < FEW_EPOCHS || !growing.is_empty();
        let standings = &self.answer.standings;
        let (first, second) = (standings[0].variant, standings[1].variant);
        let needed = pair(self.evaluation, self.answer.metric, first, second).and_then(|pair| pair.seeds_needed);
        let more = if self.answer.decided {
            None
        } else {
            let wanted =
                needed.filter(|&wanted| wanted <= MOST_ADVISED).map(|wanted| wanted.max(self.seeds as u64 + 1));
            if self.answer.tested { wanted } else { Some(ADVISED_SEEDS) }
        };
        let mut options = String::new();
        let mut why = Vec::new();
        if longer {
            options += &format!(" --epochs {}", (4 * epochs).max(FEW_EPOCHS));
            why.push(if growing.is_empty() {
                format!("{epochs} {} the beginning of a training", if epochs == 1 { "epoch is" } else { "epochs are" })
            } else {
                let named = growing.len() <= MOST_NAMED;
                let names = || join(growing.iter().map(ToString::to_string));
                let who = if named { names() } else { format!("{} heads", growing.len()) };
                format!("{who} still learnt fast at the end")
            });
        }
        if let Some(seeds) = more {
            options += &format!(" --seeds 0-{}", seeds - 1);
        }
        if !self.answer.decided {
            let (a, b) = (self.name(first), self.name(second));
            why.push(match needed {
                Some(seeds) => format!("telling {a} from {b} at this distance takes about {seeds} seeds"),
                None => format!("{a} and {b} are too close for any number of seeds that is worth it"),
            });
        }
        let because = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        if options.is_empty() {
            let whether = if self.answer.decided {
                "whether it holds on other images"
            } else {
                "which is cheaper, or other images"
            };
            return Some((format!("Next: nothing more of this experiment{because}; ask {whether}."), None));
        }
        if longer {
            options += " --out reports/longer";
        }
        let command = format!("benchmark {}{options}", manifest.experiment);
        Some((format!("Next: {command}{because}."), Some(command)))
    }
}

/// `A`, `A and B`, `A, B and C`.
fn join(items: impl IntoIterator<Item = String>) -> String {
    match &Vec::from_iter(items)[..] {
        [] => String::new(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}
