//! What README.md and docs/article.md say of the committed runs in reports/reproduction: blocks between two comments, filled in from
//! an evaluation of those runs.

use anyhow::{Context, Result, bail};
use faceoff::Program;
use faceoff_evaluation::comparisons::Judged;
use faceoff_evaluation::statements::{Evidence, Judgement, Setting};
use faceoff_evaluation::{Evaluation, MetricId, Registry, evaluate};
use faceoff_report::accuracy_picture;
use std::collections::BTreeSet;

/// The experiment, and the folder of its finished runs in their small form.
const EXPERIMENT: &str = "reproduction";
const FOLDER: &str = "reports/reproduction";
/// The accuracies of its variants.
pub(crate) const PICTURE: &str = "docs/article/accuracy.svg";
/// The pages with blocks.
pub(crate) const PAGES: [&str; 2] = ["README.md", "docs/article.md"];
/// So many of a statement's comparisons are named, those that decide it first.
const COMPARISONS: usize = 6;

/// A page with its blocks filled in.
pub(crate) struct Reproduction(Evaluation);

impl Reproduction {
    /// Of the runs of the workspace.
    pub(crate) fn read(program: &Program) -> Result<Self> {
        let experiment = program.experiment(EXPERIMENT)?;
        let folder = program.path(FOLDER);
        evaluate(&folder, &experiment, &Registry::standard(), &|_| {})
            .map(Self)
            .with_context(|| format!("{} must hold the finished runs of the experiment", folder.display()))
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
        accuracy_picture(&self.0)?.context("the runs have no accuracy")
    }

    fn block(&self, name: &str) -> Result<String> {
        Ok(match name {
            "answer" => self.answer(),
            "heads" => self.heads()?,
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
        let sentences = self.0.answers.iter().flat_map(|answer| &answer.sentences);
        sentences.map(|sentence| format!("{sentence}\n")).collect()
    }

    /// What was run.
    fn runs(&self) -> String {
        let Evaluation { selection, measured, .. } = &self.0;
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

    /// The variants by the accuracy of the answer, the best first.
    fn heads(&self) -> Result<String> {
        let evaluation = &self.0;
        let columns =
            [self.metric("dnn_accuracy")?, self.metric("knn_accuracy_k5")?, self.metric("explained_variance_16")?];
        let titles: String =
            columns.iter().map(|metric| format!(" {}{} |", metric.title(), metric.unit_suffix())).collect();
        let mut text =
            format!("| variant | seeds |{titles} what ails it |\n|---|---|{}---|\n", "---|".repeat(columns.len()));
        for standing in evaluation.answers.iter().flat_map(|answer| &answer.standings) {
            let variant = standing.variant;
            let seeds = evaluation.runs(variant).count();
            let cells: String = columns.iter().map(|&metric| format!(" {} |", self.value(variant, metric))).collect();
            text += &format!("| {} | {seeds} |{cells} {} |\n", evaluation.name(variant), evaluation.health_of(variant));
        }
        Ok(text)
    }

    fn metric(&self, name: &str) -> Result<MetricId> {
        Ok(Registry::standard().parse(name)?)
    }

    /// A mean, with half the width of its interval over seeds where there is one.
    fn value(&self, variant: usize, metric: MetricId) -> String {
        let Some(row) = self.0.summary(variant, metric) else { return "-".into() };
        let half = row.summary.interval.map(|interval| (interval.high - interval.low) / 2.0);
        let half = half.map_or(String::new(), |half| format!(" +- {}", metric.format(half)));
        format!("{}{half}", metric.format(row.summary.mean))
    }

    /// The two readings of DNN accuracy.
    fn labels_given(&self) -> Result<String> {
        let [withheld, given] = [self.metric("dnn_accuracy")?, self.metric("dnn_accuracy_labels_given")?];
        let mut text = "| variant | DNN accuracy, labels withheld, % | labels given, % |\n|---|---|---|\n".to_string();
        for variant in self.0.shown() {
            let cells = [withheld, given].map(|metric| self.value(variant, metric));
            text += &format!("| {} | {} | {} |\n", self.0.name(variant), cells[0], cells[1]);
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
        self.0.comparisons.judgements.iter().flat_map(|Judged { judgements, .. }| judgements)
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
