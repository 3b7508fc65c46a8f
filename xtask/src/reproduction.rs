//! What README.md, docs/article.md and docs/recipe.md say of the committed runs in reports/ and of the settings that were searched: blocks between
//! two comments, filled in from an evaluation of those runs.

use anyhow::{Context, Result, bail};
use faceoff::Program;
use faceoff_analysis::statistics::{Interval, Summary, paired_difference, pooled_summaries, summary};
use faceoff_evaluation::comparisons::Judged;
use faceoff_evaluation::effects::Effect;
use faceoff_evaluation::selection::Variant;
use faceoff_evaluation::statements::{Evidence, Judgement, Setting};
use faceoff_evaluation::{Evaluation, MetricId, Registry, evaluate, points as in_points};
use faceoff_report::accuracy_picture;
use faceoff_runs::Trial;
use serde::Deserialize;
use std::collections::BTreeSet;

/// What `scripts/peer_training.py train` wrote of the counterparts of the runs of `parity`.
const PEER: &str = "reports/parity/pytorch.json";
/// The accuracies of its variants.
pub(crate) const PICTURE: &str = "docs/article/accuracy.svg";
/// The pages with blocks.
pub(crate) const PAGES: [&str; 3] = ["README.md", "docs/article.md", "docs/recipe.md"];
/// So many of a statement's comparisons are named, those that decide it first.
const COMPARISONS: usize = 6;

/// A page with its blocks filled in.
pub(crate) struct Reproduction {
    /// Of `reproduction`, the runs that all blocks without another name are of.
    evaluation: Evaluation,
    unseen_breeds: Evaluation,
    label_noise: Evaluation,
    parity: Evaluation,
    peer: Vec<PeerRun>,
    tuned: Evaluation,
    recipe: Evaluation,
}

#[derive(Deserialize)]
struct PeerRuns {
    results: Vec<PeerRun>,
}

/// A run in PyTorch.
#[derive(Deserialize)]
struct PeerRun {
    head: String,
    seed: u64,
    dnn_accuracy: f64,
    knn_accuracy: f64,
}

impl Reproduction {
    /// Of the runs of the workspace.
    pub(crate) fn read(program: &Program) -> Result<Self> {
        let evaluation = |name: &str| {
            let folder = program.path("reports").join(name);
            evaluate(&folder, &program.experiment(name)?, &Registry::standard(), &|_| {})
                .with_context(|| format!("{} must hold the finished runs of the experiment", folder.display()))
        };
        let peer = program.path(PEER);
        let text = std::fs::read_to_string(&peer).with_context(|| format!("cannot read {}", peer.display()))?;
        let PeerRuns { results } = serde_json::from_str(&text).with_context(|| peer.display().to_string())?;
        Ok(Self {
            evaluation: evaluation("reproduction")?,
            unseen_breeds: evaluation("unseen-breeds")?,
            label_noise: evaluation("label-noise")?,
            parity: evaluation("parity")?,
            peer: results,
            tuned: evaluation("reproduction-tuned")?,
            recipe: evaluation("recipe")?,
        })
    }

    /// The text of a page, each block written anew.
    pub(crate) fn fill(&self, text: &str) -> Result<String> {
        const BEGIN: &str = "<!-- reproduction: ";
        const END: &str = "<!-- end of reproduction -->";
        let mut parts = text.split(BEGIN);
        let mut filled = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let block = part.split_once(" -->").zip(part.split_once(END));
            let Some(((name, _), (_, rest))) = block else {
                bail!("a block that begins with `{BEGIN}NAME -->` must end with `{END}`");
            };
            filled += &format!("{BEGIN}{name} -->\n{}\n{END}{rest}", self.block(name)?.trim_end());
        }
        Ok(filled)
    }

    /// SVG of [`PICTURE`].
    pub(crate) fn picture(&self) -> Result<String> {
        accuracy_picture(&self.evaluation)?.context("the runs have no accuracy")
    }

    fn block(&self, name: &str) -> Result<String> {
        Ok(match name {
            "answer" => self.answer(),
            "heads" => heads(&self.evaluation, &["dnn_accuracy", "knn_accuracy_k5", "explained_variance_16"])?,
            "unseen breeds" => {
                heads(&self.unseen_breeds, &["knn_accuracy_k5", "map_at_r", "open_set_auroc_nearest_neighbor"])?
            }
            "label noise" => self.label_noise()?,
            "parity" => self.parity()?,
            "recipe" => self.recipe()?,
            "tuned" => self.trials(),
            "tuned runs" => self.tuned()?,
            "runs" => self.runs(),
            "labels given" => self.labels_given()?,
            "scales" => self.scales(),
            "statements" => self.statements(),
            _ => match name.strip_prefix("statement ").and_then(|number| number.parse().ok()) {
                Some(number) => self.statement(number)?,
                None => bail!("there is no block `{name}`"),
            },
        })
    }

    /// The answer in words.
    fn answer(&self) -> String {
        let sentences = self.evaluation.answers.iter().flat_map(|answer| &answer.sentences);
        sentences.map(|sentence| format!("{sentence}\n")).collect()
    }

    /// What was run.
    fn runs(&self) -> String {
        let Evaluation { selection, measured, .. } = &self.evaluation;
        let seeds: BTreeSet<u64> = measured.iter().map(|run| run.seed).collect();
        let computed: BTreeSet<String> =
            selection.runs.iter().map(|run| run.manifest.spec.compute.to_string()).collect();
        let hours: f64 =
            selection.runs.iter().map(|run| run.manifest.seconds.get("train").copied().unwrap_or(0.0)).sum::<f64>()
                / 3600.0;
        let training = &selection.runs[0].manifest.spec.training;
        format!(
            "{} runs: {} variants, {} seeds ({}), {} epochs, {} px; {hours:.1} hours of training in all by the clock, computed by {}.\n",
            measured.len(),
            selection.variants.len(),
            seeds.len(),
            join(&seeds),
            training.epochs,
            selection.runs[0].manifest.spec.data.image_size_px,
            join(&computed),
        )
    }

    /// The heads of `parity` beside PyTorch's. The differences of three seeds say little of their own scatter, so it is pooled over the
    /// heads (a two-way layout, heads by seeds).
    fn parity(&self) -> Result<String> {
        let evaluation = &self.parity;
        let accuracies = accuracies()?;
        let titles: String = accuracies
            .iter()
            .map(|(title, _)| {
                format!(" {title}, Faceoff, % | {title}, PyTorch, % | difference, points | by its own scatter |")
            })
            .collect();
        let mut rows: Vec<String> =
            evaluation.shown().map(|variant| format!("| {} |", evaluation.name(variant))).collect();
        let mut all = "| all |".to_string();
        for (title, metric) in accuracies {
            let mut differences = Vec::new();
            for (row, variant) in rows.iter_mut().zip(evaluation.shown()) {
                let peer_of = |seed: u64| {
                    let is_peer = |peer: &&PeerRun| peer.head == evaluation.name(variant) && peer.seed == seed;
                    let peer = self.peer.iter().find(is_peer).context("a run of `parity` has no counterpart")?;
                    Ok(if title == "DNN" { peer.dnn_accuracy } else { peer.knn_accuracy })
                };
                let own = values(evaluation, variant, metric)?;
                let peers = evaluation.runs(variant).map(|run| peer_of(run.seed)).collect::<Result<Vec<_>>>()?;
                *row += &format!(" {} | {} |", percent(&summary(&own)?), percent(&summary(&peers)?));
                differences.push(own.iter().zip(&peers).map(|(own, peer)| own - peer).collect::<Vec<_>>());
            }
            for ((row, differences), pooled) in rows.iter_mut().zip(&differences).zip(pooled_summaries(&differences)?) {
                *row += &format!(" {} | {} |", percent(&pooled), percent(&summary(differences)?));
            }
            all += &format!(" | | {} | |", percent(&summary(&differences.concat())?));
        }
        let rule = "---|".repeat(4 * accuracies.len());
        Ok(format!("| head |{titles}\n|---|{rule}\n{}\n{all}\n", rows.join("\n")))
    }

    /// What wrong labels cost each head: the accuracies under each share of them, and what is lost against none.
    fn label_noise(&self) -> Result<String> {
        let evaluation = &self.label_noise;
        let variants = &evaluation.selection.variants;
        let shares: BTreeSet<u32> = variants.iter().map(|variant| variant.noise_percent).collect();
        let clean = *shares.first().context("`label-noise` has no runs")?;
        let wrong = || shares.iter().filter(|&&share| share != clean);
        let mut text = "| head | measure |".to_string();
        shares.iter().for_each(|share| text += &format!(" {share} % wrong, % |"));
        wrong().for_each(|share| text += &format!(" {share} % wrong, change in points |"));
        text += &format!("\n|---|---|{}\n", "---|".repeat(2 * shares.len() - 1));
        for (title, metric) in accuracies()? {
            for head in variants.iter().filter(|variant| variant.noise_percent == clean).map(|variant| &variant.base) {
                let under = |share: u32| {
                    let of_share = |variant: &Variant| variant.base == *head && variant.noise_percent == share;
                    let variant = variants.iter().position(of_share).context("a head lacks a share of wrong labels")?;
                    values(evaluation, variant, metric)
                };
                text += &format!("| {head} | {title} |");
                for &share in &shares {
                    text += &format!(" {} |", percent(&summary(&under(share)?)?));
                }
                for &share in wrong() {
                    text += &format!(" {} |", percent(&paired_difference(&under(share)?, &under(clean)?)?.difference));
                }
                text += "\n";
            }
        }
        Ok(text)
    }

    /// What each part of the recipe changes: of the plain one the accuracies, of the others the change too.
    fn recipe(&self) -> Result<String> {
        let evaluation = &self.recipe;
        let effects = &evaluation.comparisons.effects;
        let accuracies = accuracies()?;
        let mut text = "| recipe | head |".to_string();
        for (title, _) in accuracies {
            text += &format!(" {title}, % | change in points | p, Holm |");
        }
        text += &format!("\n|---|---|{}\n", "---|".repeat(3 * accuracies.len()));
        let base = |variant: usize| &evaluation.selection.variants[variant].base;
        let mean = |variant: usize, metric| anyhow::Ok(percent(&summary(&values(evaluation, variant, metric)?)?));
        let plain = evaluation.groups.first().context("`recipe` has no runs")?;
        for &variant in &plain.variants {
            text += &format!("| {} | {} |", plain.condition, base(variant));
            for (_, metric) in accuracies {
                text += &format!(" {} | | |", mean(variant, metric)?);
            }
            text += "\n";
        }
        for first in effects.iter().filter(|effect| effect.metric == accuracies[0].1) {
            let head = match first.pairs[..] {
                [(variant, _)] => base(variant).clone(),
                _ => "mean of both".into(),
            };
            text += &format!("| {} | {head} |", first.condition);
            for (_, metric) in accuracies {
                let same = |effect: &&Effect| {
                    effect.metric == metric && effect.condition == first.condition && effect.pairs == first.pairs
                };
                let effect = effects.iter().find(same).context("a part of the recipe lacks an accuracy")?;
                let of_head = match effect.pairs[..] {
                    [(variant, _)] => mean(variant, metric)?,
                    _ => String::new(),
                };
                let interval = effect.test.interval().map_or(String::new(), |Interval { low, high }| {
                    format!(" ({} to {})", in_points(low), in_points(high))
                });
                let p = effect.p_holm.map_or("-".into(), |p| format!("{p:.3}"));
                let change = in_points(effect.test.paired.difference.mean);
                text += &format!(" {of_head} | {change}{interval} | {p} |");
            }
            text += "\n";
        }
        Ok(text)
    }

    /// What the search chose for each head, beside its own setting, which was the first trial.
    fn trials(&self) -> String {
        let mut text =
            "| head | peak learning rate | scale | margin | KNN, % | its own setting, % |\n|---|---|---|---|---|---|\n"
                .to_string();
        let or_dash = |value: Option<f64>| value.map_or("-".into(), |value| value.to_string());
        let percent =
            |trial: &Trial| trial.knn_accuracy.map_or("diverged".into(), |share| format!("{:.1}", 100.0 * share));
        let trials = &self.tuned.trials;
        for trial in trials.iter().filter(|trial| trial.chosen) {
            let own = trials.iter().find(|other| other.head == trial.head).unwrap_or(trial);
            let Trial { head, peak_learning_rate, scale, margin, .. } = trial;
            let (scale, margin) = (or_dash(*scale), or_dash(*margin));
            text += &format!(
                "| {head} | {peak_learning_rate} | {scale} | {margin} | {} | {} |\n",
                percent(trial),
                percent(own)
            );
        }
        text
    }

    /// The heads as tuned beside the same as they are by default.
    fn tuned(&self) -> Result<String> {
        let evaluation = &self.tuned;
        let accuracies = accuracies()?;
        let titles: String = accuracies
            .iter()
            .map(|(title, _)| format!(" {title}, default, % | {title}, tuned, % | difference, points |"))
            .collect();
        let mut text = format!("| head |{titles}\n|---|{}\n", "---|".repeat(3 * accuracies.len()));
        let head_of = |variant: usize| evaluation.name(variant).rsplit_once('-').map(|(head, _)| head);
        let mut heads: Vec<&str> = Vec::new();
        for head in evaluation.shown().filter_map(head_of) {
            if !heads.contains(&head) {
                heads.push(head);
            }
        }
        for head in heads {
            let settings = ["default", "tuned"]
                .map(|setting| evaluation.shown().find(|&other| evaluation.name(other) == format!("{head}-{setting}")));
            text += &format!("| {head} |");
            for (_, metric) in accuracies {
                for variant in settings {
                    text +=
                        &variant.map_or(" - |".into(), |variant| format!(" {} |", value(evaluation, variant, metric)));
                }
                let [Some(default), Some(tuned)] = settings else {
                    text += " - |";
                    continue;
                };
                let pair = evaluation.pair(metric, tuned, default);
                let pair = pair.context("a tuned head is not compared with its default")?;
                let mean = pair.test.paired.difference.mean * if pair.a == tuned { 1.0 } else { -1.0 };
                text += &format!(" {} |", points(mean, pair.test.interval()));
            }
            text += "\n";
        }
        Ok(text)
    }

    /// The two readings of DNN accuracy.
    fn labels_given(&self) -> Result<String> {
        let [withheld, given] = [metric("dnn_accuracy")?, metric("dnn_accuracy_labels_given")?];
        let mut text = "| variant | DNN accuracy, labels withheld, % | labels given, % |\n|---|---|---|\n".to_string();
        for variant in self.evaluation.shown() {
            let cells = [withheld, given].map(|metric| value(&self.evaluation, variant, metric));
            text += &format!("| {} | {} | {} |\n", self.evaluation.name(variant), cells[0], cells[1]);
        }
        Ok(text)
    }

    /// What the advised scale changes, variant by variant.
    fn scales(&self) -> String {
        let mut text =
            "| advised scale minus default | measure | points | 95 % interval |\n|---|---|---|---|\n".to_string();
        for judged in self.judged().filter(|judged| judged.statement.number == 5) {
            for evidence in judged.parts.iter().flat_map(|part| &part.evidence) {
                let (name, points, interval) = cells(evidence);
                text += &format!("| {name} | {} | {points} | {interval} |\n", evidence.measure);
            }
        }
        text
    }

    fn judged(&self) -> impl Iterator<Item = &Judgement> {
        self.evaluation.comparisons.judgements.iter().flat_map(|Judged { judgements, .. }| judgements)
    }

    /// The five verdicts.
    fn statements(&self) -> String {
        let mut text = "| | the article says | verdict |\n|---|---|---|\n".to_string();
        for Judgement { statement, verdict, .. } in self.judged() {
            text += &format!("| {} | {} | **{verdict}** |\n", statement.number, statement.text);
        }
        text
    }

    /// A verdict with what it stands on.
    fn statement(&self, number: usize) -> Result<String> {
        let judgement = self.judged().find(|judged| judged.statement.number == number);
        let judgement = judgement.with_context(|| format!("there is no verdict on statement {number}"))?;
        let Judgement { verdict, why, parts, .. } = judgement;
        let mut text = format!("**Verdict: {verdict}.** {why}\n");
        for part in parts {
            let setting = part.setting.map_or("all".into(), |setting: Setting| setting.to_string());
            text += &format!("\n*{setting}: {}.*", part.verdict);
            if let Some(missing) = &part.missing {
                text += &format!(" {missing}");
            }
            text += "\n\n";
            if part.evidence.is_empty() {
                continue;
            }
            let mut nearest: Vec<&Evidence> = part.evidence.iter().collect();
            nearest.sort_by(|a, b| a.distance.total_cmp(&b.distance));
            text += "| difference | measure | points | 95 % interval | verdict |\n|---|---|---|---|---|\n";
            for evidence in nearest.iter().take(COMPARISONS) {
                let (name, points, interval) = cells(evidence);
                text += &format!("| {name} | {} | {points} | {interval} | {} |\n", evidence.measure, evidence.verdict);
            }
            if nearest.len() > COMPARISONS {
                text += &format!("\nand {} more, further on the side of the statement.\n", nearest.len() - COMPARISONS);
            }
        }
        Ok(text)
    }
}

/// The variants by the accuracy of the answer, the best first; those of each condition by themselves.
fn heads(evaluation: &Evaluation, columns: &[&str]) -> Result<String> {
    let columns = columns.iter().map(|name| metric(name)).collect::<Result<Vec<_>>>()?;
    let titles: String =
        columns.iter().map(|metric| format!(" {}{} |", metric.title(), metric.unit_suffix())).collect();
    let mut text =
        format!("| variant | seeds |{titles} what ails it |\n|---|---|{}---|\n", "---|".repeat(columns.len()));
    for standing in evaluation.answers.iter().flat_map(|answer| &answer.standings) {
        let variant = standing.variant;
        let seeds = evaluation.runs(variant).count();
        let cells: String =
            columns.iter().map(|&metric| format!(" {} |", value(evaluation, variant, metric))).collect();
        text += &format!("| {} | {seeds} |{cells} {} |\n", evaluation.name(variant), evaluation.health_of(variant));
    }
    Ok(text)
}

fn metric(name: &str) -> Result<MetricId> {
    Ok(Registry::standard().parse(name)?)
}

/// A mean, with half the width of its interval over seeds where there is one.
fn value(evaluation: &Evaluation, variant: usize, metric: MetricId) -> String {
    let Some(row) = evaluation.summary(variant, metric) else { return "-".into() };
    let half = row.summary.interval.map(|interval| interval.half_width());
    let half = half.map_or(String::new(), |half| format!(" +- {}", metric.format(half)));
    format!("{}{half}", metric.format(row.summary.mean))
}

/// The two accuracies, by their short names.
fn accuracies() -> Result<[(&'static str, MetricId); 2]> {
    Ok([("DNN", metric("dnn_accuracy")?), ("KNN", metric("knn_accuracy_k5")?)])
}

/// A metric of a variant's runs, by seed.
fn values(evaluation: &Evaluation, variant: usize, metric: MetricId) -> Result<Vec<f64>> {
    let lacks = || format!("a run of {} lacks an accuracy", evaluation.name(variant));
    evaluation.runs(variant).map(|run| run.found.value(metric).with_context(lacks)).collect()
}

/// A mean in percent, +- half its interval.
fn percent(Summary { mean, interval, .. }: &Summary) -> String {
    points(*mean, *interval)
}

/// A mean in points, +- half its interval.
fn points(mean: f64, interval: Option<Interval>) -> String {
    let half = interval.map_or(f64::NAN, |interval| interval.half_width());
    format!("{:.1} +- {:.1}", 100.0 * mean, 100.0 * half)
}

/// The two variants, the mean difference and its interval in points.
fn cells(evidence: &Evidence) -> (String, String, String) {
    let points = |value: f64| format!("{:.1}", 100.0 * value);
    let interval =
        evidence.test.interval().map(|interval| format!("{} to {}", points(interval.low), points(interval.high)));
    let name = format!("{} minus {}", evidence.a, evidence.b);
    (name, points(evidence.test.paired.difference.mean), interval.unwrap_or_else(|| "-".into()))
}

fn join<T: ToString>(of: &BTreeSet<T>) -> String {
    of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
