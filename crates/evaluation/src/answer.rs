//! The answer in words: which variant is ahead, what is decided and what is not, and what to run next.
//!
//! By the accuracy that heads are chosen by: KNN accuracy, which speaks of the embeddings, where it is compared, else the first accuracy
//! compared. Of every two variants the paired tests of [`crate::comparisons`] decide; where nothing can be tested, nothing is called
//! better, and [`ASSUMED_SD`] says what seeds alone can make.

use crate::choice::Choice;
use crate::comparisons::Pair;
use crate::effects::Effect;
use crate::families::neighbors;
use crate::groups::Group;
use crate::health::{Finding, Verdict};
use crate::join;
use crate::registry::{MetricId, Unit};
use crate::selection::Origin;
use crate::{Evaluation, points, tables::MetricSummary};
use faceoff_analysis::statistics::{ALPHA, ASSUMED_SD, MIN_SEEDS};
use faceoff_runs::{Manifest, thousands};
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

/// What stands before a command: the page must be the same for the same runs, however the program was started. Who shows the
/// sentences elsewhere puts the program's own name in its place.
pub const PROGRAM: &str = "cargo xtask";

/// What can be said of a variant beside the one with the highest mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has the highest mean.
    First,
    /// No test tells it from the first.
    Together,
    /// Its mean is lower, but over the seeds that both have it is ahead of the first, at the level of all tests.
    Ahead,
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
    /// How far its mean is behind the first, over the seeds that both have; negative where it is ahead on these.
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
    /// Whether any of its variants can be tested against the first.
    pub tested: bool,
    /// The answer, a sentence or two each: the verdict first, what to run next last.
    pub sentences: Vec<String>,
    /// What to run next, as it stands in the last sentence; `None` where nothing more of the experiment helps.
    pub command: Option<String>,
}

impl Answer {
    /// Whether a variant is among those that no test shows behind the best, of several that were tested.
    pub fn is_among_best(&self, variant: usize) -> bool {
        let best = |standing: &&Standing| matches!(standing.place, Place::First | Place::Together | Place::Ahead);
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

/// Where the variants of a group stand by a metric that heads are compared by, the highest mean first; empty for another metric.
pub fn standings(evaluation: &Evaluation, group: &Group, metric: MetricId) -> Vec<Standing> {
    let rows =
        if evaluation.compared().any(|other| other == metric) { ranked(evaluation, group, metric) } else { Vec::new() };
    rows.iter().map(|row| standing(evaluation, rows[0], row)).collect()
}

/// The highest mean first; the first of equals stays the first.
fn ranked<'a>(evaluation: &'a Evaluation, group: &Group, metric: MetricId) -> Vec<&'a MetricSummary> {
    let mean = |&variant: &usize| evaluation.summary(variant, metric);
    let mut rows: Vec<&MetricSummary> = group.variants.iter().filter_map(mean).collect();
    rows.sort_by(|a, b| b.summary.mean.total_cmp(&a.summary.mean));
    rows
}

fn standing(evaluation: &Evaluation, first: &MetricSummary, row: &MetricSummary) -> Standing {
    let pair = evaluation.pair(row.metric, first.variant, row.variant);
    let ahead_of = |pair: &Pair| {
        let difference = pair.test.paired.difference.mean;
        if pair.a == first.variant { difference } else { -difference }
    };
    let behind = pair.map_or(first.summary.mean - row.summary.mean, ahead_of);
    // The test is two-sided, and over other seeds than the means.
    let place = match pair.and_then(|pair| pair.p_holm) {
        _ if row.variant == first.variant => Place::First,
        Some(p) if p < ALPHA && behind > 0.0 => Place::Behind,
        Some(p) if p < ALPHA && behind < 0.0 => Place::Ahead,
        Some(_) => Place::Together,
        None => Place::Untested,
    };
    Standing { variant: row.variant, mean: row.summary.mean, behind, place }
}

fn answer(evaluation: &Evaluation, group: &Group, metric: MetricId) -> Option<Answer> {
    let rows = ranked(evaluation, group, metric);
    let [first, _, ..] = rows[..] else { return None };
    let standings: Vec<Standing> = rows.iter().map(|row| standing(evaluation, first, row)).collect();
    let tested = standings.iter().any(|standing| !matches!(standing.place, Place::First | Place::Untested));
    let decided = standings[1..].iter().all(|standing| standing.place == Place::Behind);
    let seeds = rows.iter().map(|row| row.summary.n).min().unwrap_or(0);
    let is_even = rows.iter().all(|row| row.summary.n == seeds);
    let (condition, sentences) = (group.condition.clone(), Vec::new());
    let mut answer = Answer { condition, metric, standings, decided, tested, sentences, command: None };
    let words = Words { evaluation, group, answer: &answer, seeds, is_even };
    let (next, command) = words.next().unzip();
    let sentences = [
        Some(words.verdict()),
        words.of_means(),
        words.chance(),
        words.by_others(),
        words.effect(),
        words.health(),
        next,
    ];
    (answer.sentences, answer.command) = (sentences.into_iter().flatten().collect(), command.flatten());
    Some(answer)
}

/// What trains these heads on these images again, or on with other `seeds` than the experiment's and so many epochs: `benchmark` with
/// all that runs may have been made with beside their experiment. `DIR`, `NPY` and `FILE` stand for the folder of images of one's own, for
/// embeddings and for tables of labels.
pub fn command(manifest: &Manifest, seeds: Option<&str>, epochs: usize) -> String {
    // Where images cannot be had, `benchmark` goes on under this name, which no experiment has.
    let name = manifest.experiment.strip_suffix("-synthetic").unwrap_or(&manifest.experiment);
    command_of(name, manifest, seeds, epochs)
}

fn command_of(name: &str, manifest: &Manifest, seeds: Option<&str>, epochs: usize) -> String {
    let data = &manifest.spec.data;
    let seeds = seeds.map_or(String::new(), |seeds| format!(" --seeds {seeds}"));
    let size = if data.is_embeddings() { String::new() } else { format!(" --image-size {}", data.image_size_px) };
    // Older runs do not say how their images were named.
    let options: Vec<&str> = match &manifest.data.options[..] {
        _ if data.own.is_none() => Vec::new(),
        [] if data.is_embeddings() => vec!["--embeddings", "--labels"],
        [] => vec!["--data"],
        options => options.iter().map(String::as_str).collect(),
    };
    let with_value = |option: &str| match option {
        "--data" => format!(" {option} DIR"),
        "--embeddings" | "--val-embeddings" => format!(" {option} NPY"),
        "--labels" | "--val-labels" => format!(" {option} FILE"),
        _ => format!(" {option}"),
    };
    let options: String = options.into_iter().map(with_value).collect();
    format!("{PROGRAM} benchmark {name}{seeds} --epochs {epochs}{size}{options}")
}

/// What the sentences are made of.
struct Words<'a> {
    evaluation: &'a Evaluation,
    group: &'a Group,
    answer: &'a Answer,
    /// Seeds of the variant with the fewest.
    seeds: usize,
    /// Whether all have as many.
    is_even: bool,
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
        let beside = |standing: &&Standing| matches!(standing.place, Place::Together | Place::Ahead);
        let together: Vec<&Standing> = self.answer.standings.iter().filter(beside).collect();
        let holm = "at 5 % after Holm\u{2019}s correction";
        if !self.answer.tested {
            let few = match self.seeds {
                1 if self.is_even => "with one seed".to_string(),
                seeds if seeds < MIN_SEEDS && self.is_even => format!("with {seeds} seeds"),
                1 => "with one seed of some heads".to_string(),
                seeds if seeds < MIN_SEEDS => format!("with {seeds} seeds of some heads"),
                _ => {
                    return format!(
                        "Not decided: no other head shares {MIN_SEEDS} seeds or more with {first}, which has the highest {title}, so no \
                         difference from it can be tested."
                    );
                }
            };
            return format!(
                "Not decided: {few} no difference between heads can be tested; tests begin at {MIN_SEEDS} seeds."
            );
        }
        if self.answer.decided {
            let others = if count == 2 { "the other".into() } else { format!("all {} others", count - 1) };
            return format!("Decided: by {title}, {first} is ahead of {others} over {} seeds ({holm}).", self.seeds);
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
                "Decided in part: by {title}, the best group is {first} with {}; no test over {} seeds shows these behind {first} ({holm}).{left}",
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
        let images = images.map_or(String::new(), |images| format!(" of the {} validation images", thousands(images)));
        let interval = self.evaluation.interval(first.variant, *metric).map(|(low, high)| {
            let over_seeds = |row: &MetricSummary| row.summary.interval.is_some();
            let over = if self.evaluation.summary(first.variant, *metric).is_some_and(over_seeds) {
                "seeds"
            } else {
                "images"
            };
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
        let one_each = self.seeds == 1 && self.is_even;
        let trainings = if one_each { "In this one training of each head" } else { "Over the seeds that there are" };
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
        if *decided {
            return None;
        }
        let first = standings[0].variant;
        let of_first = |choice: &&Choice| choice.metric == *metric && choice.variant == first;
        let Choice { probability_best, expected_regret, seeds, .. } =
            self.evaluation.comparisons.choices.iter().find(of_first)?;
        let drawn = match seeds {
            1 => "With other images of these classes (other seeds are not asked)",
            _ => "With other seeds and images",
        };
        Some(format!(
            "{drawn}, {} is the best in {:.0} % of the draws, and choosing it stays {:.2} points behind the best on the average.",
            self.name(first),
            100.0 * probability_best,
            100.0 * expected_regret
        ))
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

    /// What this condition changes against the first one.
    fn effect(&self) -> Option<String> {
        let effects = self.evaluation.comparisons.effects.iter();
        let of_group = |effect: &&Effect| effect.condition == self.answer.condition;
        let mut effects: Vec<&Effect> = effects.filter(of_group).collect();
        // The mean over heads says it for all of them.
        if effects.iter().any(|effect| effect.is_mean()) {
            effects.retain(|effect| effect.is_mean());
        }
        let said = |effect: &&Effect| {
            let interval = effect
                .test
                .interval()
                .map(|interval| format!(", 95 % interval {} to {}", points(interval.low), points(interval.high)));
            let verdict = match effect.differs() {
                Some(true) => "differs at 5 % after Holm\u{2019}s correction",
                Some(false) => "no difference is shown after Holm\u{2019}s correction",
                None => "too few seeds for a test",
            };
            let mean = points(effect.test.paired.difference.mean);
            format!("{}: {mean} points ({verdict}{})", effect.metric.title(), interval.unwrap_or_default())
        };
        let first = effects.first()?;
        let heads =
            if first.is_mean() { format!("on the mean of {} heads, ", first.pairs.len()) } else { String::new() };
        let each = join(effects.iter().map(said));
        Some(format!("Against {}, {heads}with the same seeds and images: {each}.", first.reference))
    }

    /// Verdicts of variants of this group.
    fn ill(&self) -> impl Iterator<Item = &Finding> {
        let names: Vec<&str> = self.group.variants.iter().map(|&variant| self.name(variant)).collect();
        self.evaluation.health.iter().filter(move |finding| names.contains(&finding.variant.as_str()))
    }

    /// Which heads are to be read with care.
    fn health(&self) -> Option<String> {
        let verdicts = self.group.variants.iter().map(|&variant| (variant, self.evaluation.health_of(variant)));
        let ill: Vec<(usize, String)> = verdicts.filter(|(_, verdicts)| !verdicts.is_empty()).collect();
        if ill.is_empty() {
            return None;
        }
        if ill.len() > MOST_NAMED {
            let count = |verdict: Verdict| self.ill().filter(|finding| finding.verdict == verdict).count();
            let found = Verdict::ALL.into_iter().filter(|&verdict| count(verdict) > 0);
            let each = join(found.map(|verdict| format!("{verdict}: {}", count(verdict))));
            let all = self.group.variants.len();
            return Some(format!(
                "To be read with care: {} of {all} heads, with a verdict each or more ({each}).",
                ill.len()
            ));
        }
        let each = ill.iter().map(|(variant, verdicts)| format!("{} ({verdicts})", self.name(*variant)));
        Some(format!("To be read with care: {}.", join(each)))
    }

    /// The seeds of all runs, as `--seeds` takes them.
    fn seeds_made(&self) -> String {
        let seeds: BTreeSet<u64> = self.evaluation.measured.iter().map(|run| run.seed).collect();
        seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
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
        let first = standings[0].variant;
        // The nearest that may yet be the better one.
        let open = standings[1..].iter().find(|standing| standing.place != Place::Behind).unwrap_or(&standings[1]);
        let tested = self.evaluation.pair(self.answer.metric, first, open.variant);
        let has = self.seeds as u64;
        let wanted = || {
            let needed = tested?.seeds_needed.filter(|&needed| needed <= MOST_ADVISED)?;
            Some(needed.max(has + 1))
        };
        let more = match open.place {
            _ if self.answer.decided => None,
            Place::Untested => Some(ADVISED_SEEDS.max(has)),
            _ => wanted(),
        };
        let mut why = Vec::new();
        if longer {
            why.push(if growing.is_empty() {
                format!("{epochs} {} the beginning of a training", if epochs == 1 { "epoch is" } else { "epochs are" })
            } else {
                let named = growing.len() <= MOST_NAMED;
                let names = || join(growing.iter().map(ToString::to_string));
                let who = if named { names() } else { format!("{} heads", growing.len()) };
                format!("{who} still learnt fast at the end")
            });
        }
        if !self.answer.decided {
            let (a, b) = (self.name(first), self.name(open.variant));
            why.push(match tested.map(|pair| pair.seeds_needed) {
                None => format!("{a} and {b} share no seed"),
                Some(_) if open.behind < 0.0 => format!("{b} is ahead of {a} over the seeds that both have"),
                Some(Some(seeds)) => format!("telling {a} from {b} at this distance takes about {seeds} seeds"),
                Some(None) => format!("{a} and {b} are too close for any number of seeds that is worth it"),
            });
        }
        let because = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        if !longer && more.is_none() {
            let whether = if self.answer.decided {
                "whether it holds on other images"
            } else {
                "which is cheaper, or other images"
            };
            return Some((format!("Next: nothing more of this experiment{because}; ask {whether}."), None));
        }
        let seeds = more.map_or_else(|| self.seeds_made(), |seeds| format!("0-{}", seeds - 1));
        let Manifest { experiment, spec, .. } = &**manifest;
        let command = match longer {
            false => command(manifest, Some(&seeds), epochs),
            // Beside the runs that there are. Of one's own images the experiment stands with these, where `--out` would not look.
            true => {
                let longer = match &spec.data.own {
                    None => command(manifest, Some(&seeds), 4 * epochs),
                    Some(_) => command_of(
                        &format!("reports/{experiment}/{experiment}.toml"),
                        manifest,
                        Some(&seeds),
                        4 * epochs,
                    ),
                };
                format!("{longer} --out reports/longer")
            }
        };
        Some((format!("Next: {command}{because}."), Some(command)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::{Findings, Measured};
    use crate::selection::{Selection, Variant};
    use crate::{Registry, groups};
    use faceoff_runs::{
        Compute, DataRecord, EMBEDDINGS, Experiment, Machine, OwnData, OwnSplit, RunSpec, SCHEMA, Speed,
    };
    use std::path::Path;

    fn quick() -> Experiment {
        Experiment::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments")), "quick").unwrap()
    }

    fn manifest(experiment: &str) -> Manifest {
        let mut spec = RunSpec::of(&quick(), &Compute::unknown()).swap_remove(0);
        spec.training.epochs = 7;
        spec.data.image_size_px = 96;
        Manifest {
            schema: SCHEMA,
            experiment: experiment.into(),
            spec_hash: spec.hash(),
            spec,
            data: DataRecord {
                name: "imagewoof".into(),
                title: "Imagewoof".into(),
                synthetic: false,
                notes: Vec::new(),
                fingerprint: "f1".into(),
                archive_md5: None,
                options: Vec::new(),
                classes: Vec::new(),
                train_images: 20,
                val_images: 20,
            },
            version: "0.1.0".into(),
            commit: "0123abcd".into(),
            machine: Machine { cpu: "CPU".into(), processors: 2, memory_mib: 8192, system: "Linux".into(), threads: 2 },
            speed: Speed { images_per_second: 100.0, data_wait_share: 0.0 },
            seconds: Default::default(),
            finished: None,
            files: Default::default(),
            blake3: String::new(),
        }
    }

    /// The answer to variants with these KNN accuracies by seed.
    fn answer_to(variants: &[(&str, &[(u64, f64)])]) -> Answer {
        let settings = quick().analysis;
        let metric = neighbors::headline(&settings);
        let mut measured = Vec::new();
        for (variant, (name, values)) in variants.iter().enumerate() {
            for &(seed, value) in *values {
                let mut found = Findings::default();
                found.add(metric, value);
                measured.push(Measured {
                    run: format!("{name}-seed{seed}"),
                    variant,
                    seed,
                    found,
                    maps: None,
                    look: None,
                });
            }
        }
        let variant =
            |(name, _): &(&str, _)| Variant { name: (*name).into(), head: (*name).into(), ..Variant::default() };
        let selection = Selection {
            origin: Origin::Runs(Box::new(manifest("quick"))),
            variants: variants.iter().map(variant).collect(),
            runs: Vec::new(),
            failed: Vec::new(),
            notes: Vec::new(),
        };
        let groups = groups::groups(&selection, &measured, metric);
        Evaluation::new(selection, measured, groups, &Registry::standard(), &settings).unwrap().answers.swap_remove(0)
    }

    fn places(answer: &Answer) -> Vec<(usize, Place)> {
        answer.standings.iter().map(|standing| (standing.variant, standing.place)).collect()
    }

    const STEADY: &[(u64, f64)] = &[(0, 0.8), (1, 0.801), (2, 0.799), (3, 0.8), (4, 0.8005)];

    #[test]
    fn what_to_run_next_is_about_the_nearest_that_is_not_behind() {
        let near = [(0, 0.78), (1, 0.7805), (2, 0.7801), (3, 0.7795), (4, 0.7802)];
        let wild = [(0, 0.90), (1, 0.60), (2, 0.85), (3, 0.70), (4, 0.80)];
        let answer = answer_to(&[("A", STEADY), ("B", &near), ("C", &wild)]);
        assert_eq!(places(&answer), [(0, Place::First), (1, Place::Behind), (2, Place::Together)]);
        let next = answer.sentences.last().unwrap();
        assert!(next.contains("telling A from C") && !next.contains('B'), "{next}");
        assert!(answer.sentences[0].contains("the best group is A with C"), "{:?}", answer.sentences);
    }

    #[test]
    fn heads_without_seeds_in_common_are_said_to_share_none() {
        let apart = [(10, 0.7), (11, 0.71), (12, 0.69), (13, 0.7), (14, 0.705)];
        let answer = answer_to(&[("A", STEADY), ("B", &apart)]);
        assert_eq!(places(&answer), [(0, Place::First), (1, Place::Untested)]);
        assert!(answer.sentences[0].contains("no other head shares 3 seeds or more with A"), "{:?}", answer.sentences);
        let next = answer.sentences.last().unwrap();
        assert!(next.contains("A and B share no seed") && !next.contains("too close"), "{next}");
        assert_eq!(
            answer.command.as_deref(),
            Some("cargo xtask benchmark quick --seeds 0-4 --epochs 7 --image-size 96")
        );
        assert!(next.contains(answer.command.as_ref().unwrap()));
        assert!(answer.sentences[1].contains("95 % interval over seeds"), "{:?}", answer.sentences);
    }

    #[test]
    fn a_variant_that_beats_the_first_over_common_seeds_is_not_behind_it() {
        // The highest mean, by two seeds that the other lacks.
        let lucky = [STEADY, &[(10, 0.99), (11, 0.99)]].concat();
        let better = [(0, 0.85), (1, 0.852), (2, 0.848), (3, 0.851), (4, 0.8502)];
        for variants in [[("A", &lucky[..]), ("B", &better[..])], [("B", &better[..]), ("A", &lucky[..])]] {
            let answer = answer_to(&variants);
            let name = |standing: &Standing| variants[standing.variant].0;
            let [first, second] = &answer.standings[..] else { panic!("two variants") };
            assert_eq!((name(first), name(second), second.place), ("A", "B", Place::Ahead));
            assert!((0..2).all(|variant| answer.is_among_best(variant)));
            assert!(second.behind < -0.04 && answer.tested && !answer.decided, "{answer:?}");
            let next = answer.sentences.last().unwrap();
            assert!(next.contains("B is ahead of A over the seeds that both have"), "{next}");
        }
        // The interval is the first's own, however few seeds another has.
        let answer = answer_to(&[("A", STEADY), ("B", &[(0, 0.7)])]);
        assert!(answer.sentences[0].contains("with one seed of some heads no difference"), "{:?}", answer.sentences);
        assert!(answer.sentences[1].starts_with("Over the seeds that there are, by"), "{:?}", answer.sentences);
        assert!(answer.sentences[1].contains("95 % interval over seeds"), "{:?}", answer.sentences);
    }

    #[test]
    fn the_command_names_what_can_be_run() {
        assert_eq!(command(&manifest("quick"), None, 2), "cargo xtask benchmark quick --epochs 2 --image-size 96");
        let fallback = command(&manifest("quick-synthetic"), Some("0,2"), 9);
        assert_eq!(fallback, "cargo xtask benchmark quick --seeds 0,2 --epochs 9 --image-size 96");
        let mut own = manifest("cats-quick");
        own.spec.data.own = Some(OwnData { name: "cats".into(), split: OwnSplit { validation_share: 0.2, seed: 0 } });
        assert_eq!(command(&own, None, 1), "cargo xtask benchmark cats-quick --epochs 1 --image-size 96 --data DIR");
        own.data.options = ["--labels", "--skip-unreadable"].map(String::from).into();
        let table = "cargo xtask benchmark cats-quick --epochs 1 --image-size 96 --labels FILE --skip-unreadable";
        assert_eq!(command(&own, None, 1), table);
        own.spec.data.dataset = EMBEDDINGS.into();
        own.data.options = ["--embeddings", "--labels", "--val-embeddings", "--val-labels"].map(String::from).into();
        let files = "--embeddings NPY --labels FILE --val-embeddings NPY --val-labels FILE";
        assert_eq!(command(&own, None, 1), format!("cargo xtask benchmark cats-quick --epochs 1 {files}"));
        own.data.options.clear();
        let older = "cargo xtask benchmark cats-quick --epochs 1 --embeddings NPY --labels FILE";
        assert_eq!(command(&own, None, 1), older);
    }
}
