//! The article's five statements, judged by rules that were written down before the runs.
//!
//! A comparison is the paired difference over seeds between two variants, tested for other seeds and, in accuracies, for other
//! images too ([`PairedTest`]). It *holds* or is *contradicted* only by a significant test at 5 %, so that with fewer than
//! three seeds nothing is ever decided. The article does not tell its scale s, so statements 1 to 4 are judged apart for each
//! [`Setting`] of the margin heads' scale, together with the heads that have no scale to set. Within one setting a statement is
//!
//! - *contradicted* if one comparison at least is contradicted, its p value corrected by Holm over all comparisons of the
//!   statement;
//! - *supported* if all its comparisons hold;
//! - *undecided* otherwise, also where a variant or a measure is missing.
//!
//! Over the settings it is *supported* or *contradicted* if it is so at each, *mixed* if it is supported at one and contradicted
//! at another, which no number of seeds would change, else *undecided*.
//!
//! The five statements are not corrected for being five: each is a question of its own with an error of 5 % of its own, and no
//! conclusion rests on any one of them coming out.

use crate::families::mean;
use crate::points;
use crate::power;
use faceoff_analysis::statistics::{
    ALPHA, ImageScatter, PairedTest, holm, image_scatter, p_above, paired_difference, summary,
};
use faceoff_analysis::{Error, Result};
use std::collections::BTreeSet;

/// The numbers of components at which explained-variance curves are compared, as far as all reach.
pub const COMPONENTS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// The scale of the heads in Catalyst.
pub const DEFAULT_SCALE: f64 = 64.0;
/// Scales within this share of each other are the same.
const SCALE_TOLERANCE: f64 = 0.01;

/// What the article says, and how it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// 1 to 5.
    pub number: usize,
    /// The statement.
    pub text: &'static str,
    /// The rule, for a report's section on method.
    pub rule: &'static str,
}

/// The five statements with their rules.
#[rustfmt::skip]
pub const RULES: [Statement; 5] = [
    Statement { number: 1, text: "Classification is best by DNN accuracy.", rule:
        "Differences in DNN accuracy of Classification minus every other variant. A difference holds if it is above 0 in a \
        two-sided paired t-test at 5 % after Holm's correction, and is contradicted if it is below 0 in the same test." },
    Statement { number: 2, text: "CosFace has the worst DNN accuracy and the best KNN accuracy.", rule:
        "Differences in DNN accuracy of every other variant minus CosFace, and in KNN accuracy (k = 5) of CosFace minus every \
        other variant. A difference holds if it is above 0 in a two-sided paired t-test at 5 % after Holm's correction over \
        both measures, and is contradicted if it is below 0 in the same test." },
    Statement { number: 3, text: "The explained-variance curves of all methods look the same.", rule:
        "For every two variants the area between their curves: the mean absolute difference of the explained share of the total \
        variance with 1, 2, 4, .. 128 components. Two curves look the same where it is below 5 percentage points: a pair holds if a \
        one-sided t-test at 5 % places the area below that, and is contradicted if a one-sided t-test at 5 % after Holm's \
        correction over the pairs places it above. Noise makes an area larger, so the second test takes the sign of each difference \
        from the other seeds, which makes it smaller." },
    Statement { number: 4, text: "ArcMarginProduct is good in both.", rule:
        "Differences of ArcMarginProduct minus every other variant, hence also minus the best, in DNN accuracy and in KNN \
        accuracy (k = 5). The article gives no number; good is read as not worse than any by more than 2 percentage points: a \
        difference holds if a one-sided paired t-test at 5 % places it above -2 points (non-inferiority), and is contradicted if it \
        lies below -2 points by a one-sided t-test at 5 % after Holm's correction." },
    Statement { number: 5, text: "s = sqrt(2) ln(C - 1) is a good first scale.", rule:
        "Differences of each variant with s = sqrt(2) ln(C - 1) minus its twin with s = 64, the same head with the same other \
        parameters, in DNN accuracy and in KNN accuracy (k = 5). Good means not worse by more than 2 percentage points: a difference \
        holds if a one-sided paired t-test at 5 % places it above -2 points (non-inferiority), and is contradicted if it lies below \
        -2 points by a one-sided t-test at 5 % after Holm's correction." },
];

impl Statement {
    /// What its rule allows, then the other margins at which the verdict is given too; empty for a rule without margin.
    pub fn margins(&self) -> &'static [f64] {
        match self.number {
            3 => &[0.05, 0.03, 0.10],
            4 | 5 => &[0.02, 0.01, 0.03],
            _ => &[],
        }
    }
}

/// Where a head's scale comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Catalyst's s = 64.
    Default,
    /// The article's s = sqrt(2) ln(C - 1).
    Advice,
    /// Any other.
    Tuned,
}

impl Setting {
    /// The setting of a scale for C classes, C at least 3.
    pub fn of(scale: f64, classes: usize) -> Self {
        let same = |other: f64| (scale / other - 1.0).abs() <= SCALE_TOLERANCE;
        match (same(DEFAULT_SCALE), same(2.0_f64.sqrt() * ((classes - 1) as f64).ln())) {
            (true, _) => Self::Default,
            (_, true) => Self::Advice,
            _ => Self::Tuned,
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default scale",
            Self::Advice => "advised scale",
            Self::Tuned => "tuned scale",
        })
    }
}

/// An accuracy on the validation images.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// A fraction.
    pub value: f64,
    /// Which of the images are right, the same images in every run; `None` where that is not known.
    pub right: Option<Vec<bool>>,
}

/// The measures of one run, a variant with a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetrics {
    /// Name of the variant.
    pub variant: String,
    /// Kind of the head, such as "CosFace".
    pub head: String,
    /// The head's parameters but the scale, as text: twins agree in it.
    pub others: String,
    /// Where the head's fixed scale comes from; `None` for heads without one to set (Classification, ArcMarginProduct, AdaCos).
    pub setting: Option<Setting>,
    /// Seed of the run.
    pub seed: u64,
    /// Accuracy of the head's scores; `None` where classes are unseen.
    pub dnn_accuracy: Option<Accuracy>,
    /// KNN accuracy with k = 5.
    pub knn_accuracy: Accuracy,
    /// Element k - 1: share of the total variance that the first k principal components explain together.
    pub explained_variance: Vec<f64>,
}

/// What the runs say of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All comparisons hold.
    Supported,
    /// A comparison shows the opposite.
    Contradicted,
    /// Supported at one setting of the scale, contradicted at another.
    Mixed,
    /// The runs cannot tell.
    Undecided,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// A statement with its verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The statement and its rule.
    pub statement: Statement,
    /// Over all settings.
    pub verdict: Verdict,
    /// Some sentences that say why.
    pub why: String,
    /// The verdict at each setting.
    pub parts: Vec<Part>,
    /// The verdict with other margins than the rule's.
    pub at_margins: Vec<(f64, Verdict)>,
    /// Seeds in all with which simulations of an undecided statement's rule settle it in 80 % of their repeats
    /// ([`power`]); `None` if it is settled, or where no number up to [`power::MOST_SEEDS`] does.
    pub seeds_needed: Option<u64>,
}

/// A statement at one setting of the margin heads' scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The setting; `None` where no variant has a scale.
    pub setting: Option<Setting>,
    /// The verdict at this setting.
    pub verdict: Verdict,
    /// The comparisons.
    pub evidence: Vec<Evidence>,
    /// What is missing for a verdict, if anything.
    pub missing: Option<String>,
}

/// One comparison between two variants.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What is compared, such as "DNN accuracy".
    pub measure: &'static str,
    /// The variant that is subtracted from.
    pub a: String,
    /// The variant that is subtracted.
    pub b: String,
    /// a - b, or the area between the two, over the seeds that both have.
    pub test: PairedTest,
    /// How far the mean lies within what the rule asks for; below 0 if it lies outside.
    pub distance: f64,
    /// p value by which the comparison holds if it is below 5 % (Holm's correction is in it where the rule says so); `None`
    /// with fewer than three seeds.
    pub p_holds: Option<f64>,
    /// p value by which it is contradicted if it is below 5 %, after Holm's correction; `None` with fewer than three seeds.
    pub p_contradicts: Option<f64>,
    /// `Supported` if the comparison holds.
    pub verdict: Verdict,
}

/// Judges the five statements, in their order. `classes` is the number C of classes of the data set.
///
/// # Errors
/// No runs; a value that is not finite; two runs of one variant and seed; a variant with two heads or settings; runs with
/// different numbers of images; C below 3, where the article's scale is not above 0.
pub fn judge(runs: &[RunMetrics], classes: usize) -> Result<Vec<Judgement>> {
    if classes < 3 {
        let rule = "sqrt(2) ln(C - 1) is above 0 from 3 classes on";
        let remedy = "use a data set with three classes or more";
        return Err(Error::out_of_range("the number of classes", classes as f64, rule, remedy));
    }
    let group = Group::new(runs)?;
    let values = Values::of(runs, &group);
    let mut judgements = without_forecast(&group, &values)?;
    for judgement in judgements.iter_mut().filter(|judgement| judgement.verdict == Verdict::Undecided) {
        judgement.seeds_needed = power::seeds_needed(&judgement.statement, &group, &values)?;
        let sentence = power::sentence(judgement.seeds_needed, &group, &judgement.parts);
        judgement.why.extend(sentence.map(|sentence| format!(" {sentence}")));
    }
    Ok(judgements)
}

/// As [`judge`] for 3 classes or more, without saying how many seeds an undecided statement needs.
///
/// # Errors
/// As there.
pub fn judge_without_forecast(runs: &[RunMetrics]) -> Result<Vec<Judgement>> {
    let group = Group::new(runs)?;
    without_forecast(&group, &Values::of(runs, &group))
}

fn without_forecast(group: &Group, values: &Values) -> Result<Vec<Judgement>> {
    RULES.iter().map(|statement| conclude(*statement, group, values)).collect()
}

/// A variant of the runs.
struct Variant {
    name: String,
    head: String,
    others: String,
    setting: Option<Setting>,
}

/// The two accuracies.
#[derive(Clone, Copy)]
enum Measure {
    Dnn,
    Knn,
}

impl Measure {
    fn name(self) -> &'static str {
        ["DNN accuracy", "KNN accuracy"][self as usize]
    }

    fn of(self, run: &RunMetrics) -> Option<&Accuracy> {
        match self {
            Self::Dnn => run.dnn_accuracy.as_ref(),
            Self::Knn => Some(&run.knn_accuracy),
        }
    }
}

/// What stays when runs are simulated: the variants, and how the choice of images scatters their differences.
pub(crate) struct Group {
    variants: Vec<Variant>,
    /// Rising.
    seeds: Vec<u64>,
    settings: Vec<Option<Setting>>,
    /// By measure, variant and other variant.
    images: [Vec<Vec<Option<ImageScatter>>>; 2],
}

/// The measured values, by variant and seed; `None` where a run or measure is missing.
#[derive(Clone)]
pub(crate) struct Values {
    /// By measure.
    pub(crate) accuracies: [Vec<Vec<Option<f64>>>; 2],
    /// At [`COMPONENTS`], as far as all reach.
    pub(crate) curves: Vec<Vec<Option<Vec<f64>>>>,
}

impl Group {
    fn new(runs: &[RunMetrics]) -> Result<Self> {
        if runs.is_empty() {
            return Err(Error::Empty("runs"));
        }
        let mut variants: Vec<Variant> = Vec::new();
        let mut seen = BTreeSet::new();
        for (row, run) in runs.iter().enumerate() {
            let accuracies = run.dnn_accuracy.iter().chain([&run.knn_accuracy]).map(|accuracy| accuracy.value);
            if let Some(value) = run.explained_variance.iter().copied().chain(accuracies).find(|v| !v.is_finite()) {
                return Err(Error::NotFinite("the measures of runs", row, 0, value));
            }
            let RunMetrics { variant: name, head, others, setting, .. } = run;
            let remedy = "give each variant one name, one head and each of its runs its own seed";
            let ambiguous = |rule: String| Error::undefined("a judgement", rule, remedy);
            match variants.iter().find(|variant| variant.name == *name) {
                None => {
                    let (name, head, others) = (name.clone(), head.clone(), others.clone());
                    variants.push(Variant { name, head, others, setting: *setting });
                }
                Some(known) if (&known.head, &known.others, known.setting) != (head, others, *setting) => {
                    return Err(ambiguous(format!("variant {name} has two heads or settings")));
                }
                Some(_) => {}
            }
            if !seen.insert((name, run.seed)) {
                return Err(ambiguous(format!("variant {name} has two runs with seed {}", run.seed)));
            }
        }
        let seeds: Vec<u64> = BTreeSet::from_iter(runs.iter().map(|run| run.seed)).into_iter().collect();
        let found: BTreeSet<Setting> = variants.iter().filter_map(|variant| variant.setting).collect();
        let settings = if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() };
        let mut group = Self { variants, seeds, settings, images: [Vec::new(), Vec::new()] };
        for measure in [Measure::Dnn, Measure::Knn] {
            group.images[measure as usize] = group.image_scatters(runs, measure)?;
        }
        Ok(group)
    }

    fn image_scatters(&self, runs: &[RunMetrics], measure: Measure) -> Result<Vec<Vec<Option<ImageScatter>>>> {
        let right = |variant: usize, seed: u64| {
            let name = &self.variants[variant].name;
            let run = runs.iter().find(|run| run.variant == *name && run.seed == seed)?;
            measure.of(run)?.right.as_deref()
        };
        let all = 0..self.variants.len();
        let mut scatters = vec![vec![None; all.len()]; all.len()];
        for a in all.clone() {
            for b in a + 1..all.end {
                let pairs = self.seeds.iter().filter_map(|&seed| Some((right(a, seed)?, right(b, seed)?)));
                let pairs: Vec<_> = pairs.collect();
                if !pairs.is_empty() {
                    let scatter = Some(image_scatter(&pairs)?);
                    (scatters[a][b], scatters[b][a]) = (scatter, scatter);
                }
            }
        }
        Ok(scatters)
    }

    /// The variants of this setting and those without a scale.
    fn at(&self, setting: Option<Setting>) -> Vec<usize> {
        let belongs = |&variant: &usize| [None, setting].contains(&self.variants[variant].setting);
        (0..self.variants.len()).filter(belongs).collect()
    }

    /// Number of seeds of the runs.
    pub(crate) fn seeds(&self) -> usize {
        self.seeds.len()
    }
}

impl Values {
    fn of(runs: &[RunMetrics], group: &Group) -> Self {
        let reach = runs.iter().map(|run| run.explained_variance.len()).min().unwrap_or(0);
        let curve = |run: &RunMetrics| -> Option<Vec<f64>> {
            let at = COMPONENTS.iter().filter(|&&components| components <= reach);
            (reach > 0).then(|| at.map(|components| run.explained_variance[components - 1]).collect())
        };
        fn table<T>(runs: &[RunMetrics], group: &Group, of: &dyn Fn(&RunMetrics) -> Option<T>) -> Vec<Vec<Option<T>>> {
            let value = |variant: &Variant, seed: u64| {
                runs.iter().find(|run| run.variant == variant.name && run.seed == seed).and_then(of)
            };
            let row = |variant| group.seeds.iter().map(|&seed| value(variant, seed)).collect();
            group.variants.iter().map(row).collect()
        }
        let accuracies = [Measure::Dnn, Measure::Knn];
        let accuracies =
            accuracies.map(|measure| table(runs, group, &|run| measure.of(run).map(|accuracy| accuracy.value)));
        Self { accuracies, curves: table(runs, group, &curve) }
    }
}

/// What a comparison claims of a difference.
#[derive(Clone, Copy)]
enum Claim {
    /// It is above 0.
    Better,
    /// It is above -margin.
    NotWorse(f64),
    /// The area is below the margin.
    Same(f64),
}

/// Comparisons of one part, before Holm's correction.
struct Comparisons<'a> {
    group: &'a Group,
    values: &'a Values,
    claim: Claim,
    evidence: Vec<Evidence>,
    missing: Option<String>,
}

/// The verdict on a statement at each setting, with this margin (0 for a rule without).
pub(crate) fn decide(number: usize, margin: f64, group: &Group, values: &Values) -> Result<Vec<Part>> {
    let part = |&setting: &Option<Setting>| {
        let claim = match number {
            1 | 2 => Claim::Better,
            3 => Claim::Same(margin),
            _ => Claim::NotWorse(margin),
        };
        let mut all = Comparisons { group, values, claim, evidence: Vec::new(), missing: None };
        let variants = group.at(setting);
        match number {
            1 => all.add_head(&variants, "Classification", Measure::Dnn, false)?,
            2 => {
                all.add_head(&variants, "CosFace", Measure::Dnn, true)?;
                all.add_head(&variants, "CosFace", Measure::Knn, false)?;
            }
            3 => all.add_curves(&variants)?,
            4 => {
                all.add_head(&variants, "ArcMarginProduct", Measure::Dnn, false)?;
                all.add_head(&variants, "ArcMarginProduct", Measure::Knn, false)?;
            }
            _ => all.add_twins()?,
        }
        Ok(all.decide(setting))
    };
    match number {
        5 => Ok(vec![part(&Some(Setting::Advice))?]),
        _ => group.settings.iter().map(part).collect(),
    }
}

/// The verdict over all settings.
pub(crate) fn overall(parts: &[Part]) -> Verdict {
    let all = |verdict| parts.iter().all(|part| part.verdict == verdict);
    let any = |verdict| parts.iter().any(|part| part.verdict == verdict);
    match () {
        () if all(Verdict::Supported) => Verdict::Supported,
        () if all(Verdict::Contradicted) => Verdict::Contradicted,
        () if any(Verdict::Supported) && any(Verdict::Contradicted) => Verdict::Mixed,
        () => Verdict::Undecided,
    }
}

impl Comparisons<'_> {
    fn lack(&mut self, what: String) {
        self.missing.get_or_insert(what);
    }

    fn name(&self, variant: usize) -> &str {
        &self.group.variants[variant].name
    }

    fn compare(&mut self, a: usize, b: usize, measure: Measure) -> Result<()> {
        let values = &self.values.accuracies[measure as usize];
        let (left, right): (Vec<f64>, Vec<f64>) =
            values[a].iter().zip(&values[b]).filter_map(|(a, b)| Some(((*a)?, (*b)?))).unzip();
        if left.is_empty() {
            let (a, b, measure) = (self.name(a), self.name(b), measure.name());
            self.lack(format!("{a} and {b} share no seed with a {measure}"));
            return Ok(());
        }
        let images = self.group.images[measure as usize][a][b];
        let test = PairedTest { paired: paired_difference(&left, &right)?, images };
        let mean = test.paired.difference.mean;
        let (distance, p_holds, p_contradicts) = match self.claim {
            Claim::NotWorse(margin) => (mean + margin, test.p_above(-margin), test.p_below(-margin)),
            // Two-sided.
            _ => (mean, test.p_above(0.0).map(|p| (2.0 * p).min(1.0)), test.p_below(0.0).map(|p| (2.0 * p).min(1.0))),
        };
        self.push(measure.name(), (a, b), test, distance, (p_holds, p_contradicts));
        Ok(())
    }

    fn push(
        &mut self,
        measure: &'static str,
        (a, b): (usize, usize),
        test: PairedTest,
        distance: f64,
        (p_holds, p_contradicts): (Option<f64>, Option<f64>),
    ) {
        let (a, b) = (self.name(a).to_owned(), self.name(b).to_owned());
        let verdict = Verdict::Undecided;
        self.evidence.push(Evidence { measure, a, b, test, distance, p_holds, p_contradicts, verdict });
    }

    /// Compares every variant of `head` with every other; `reverse` subtracts the head's.
    fn add_head(&mut self, variants: &[usize], head: &str, measure: Measure, reverse: bool) -> Result<()> {
        let (subjects, others): (Vec<usize>, Vec<usize>) =
            variants.iter().copied().partition(|&variant| self.group.variants[variant].head == head);
        if subjects.is_empty() {
            self.lack(format!("no variant has the head {head}"));
        }
        if others.is_empty() {
            self.lack(format!("no variant stands beside {head}"));
        }
        for &subject in &subjects {
            for &other in &others {
                let (a, b) = if reverse { (other, subject) } else { (subject, other) };
                self.compare(a, b, measure)?;
            }
        }
        Ok(())
    }

    /// The areas between the explained-variance curves of every two variants.
    fn add_curves(&mut self, variants: &[usize]) -> Result<()> {
        if variants.len() < 2 {
            self.lack("two variants or more are needed".into());
        }
        let Claim::Same(margin) = self.claim else { unreachable!("curves look the same or not") };
        for (place, &a) in variants.iter().enumerate() {
            for &b in &variants[place + 1..] {
                let curves = self.values.curves[a].iter().zip(&self.values.curves[b]);
                let differences = curves.filter_map(|(a, b)| {
                    Some(a.as_ref()?.iter().zip(b.as_ref()?).map(|(a, b)| a - b).collect::<Vec<f64>>())
                });
                let differences: Vec<Vec<f64>> = differences.collect();
                if differences.is_empty() {
                    let (a, b) = (self.name(a), self.name(b));
                    self.lack(format!("{a} and {b} share no seed with an explained-variance curve"));
                    continue;
                }
                let areas: Vec<f64> = differences.iter().map(|seed| mean(seed.iter().map(|d| d.abs()))).collect();
                let zeros = vec![0.0; areas.len()];
                let test = PairedTest { paired: paired_difference(&areas, &zeros)?, images: None };
                let least = signed_areas(&differences);
                let p_contradicts = test.p_above(margin).and(p_above(&summary(&least)?, margin));
                let distance = margin - test.paired.difference.mean;
                self.push("area between curves", (a, b), test, distance, (test.p_below(margin), p_contradicts));
            }
        }
        Ok(())
    }

    /// Compares each variant with the advised scale and its twin with the default one.
    fn add_twins(&mut self) -> Result<()> {
        let of_setting = |setting| {
            let variants = self.group.variants.iter().enumerate();
            variants.filter(move |(_, variant)| variant.setting == Some(setting))
        };
        let (advised, default): (Vec<_>, Vec<_>) =
            (of_setting(Setting::Advice).collect(), of_setting(Setting::Default).collect());
        for &(small, variant) in &advised {
            let is_twin =
                |(_, twin): &&(usize, &Variant)| (&twin.head, &twin.others) == (&variant.head, &variant.others);
            let twins: Vec<_> = default.iter().filter(is_twin).collect();
            if twins.is_empty() {
                self.lack(format!("{} has no twin with s = {DEFAULT_SCALE}", variant.name));
            }
            for (twin, _) in twins {
                self.compare(small, *twin, Measure::Dnn)?;
                self.compare(small, *twin, Measure::Knn)?;
            }
        }
        if self.evidence.is_empty() {
            self.lack(format!("no head has a variant with s = sqrt(2) ln(C - 1) and one with s = {DEFAULT_SCALE}"));
        }
        Ok(())
    }

    fn decide(mut self, setting: Option<Setting>) -> Part {
        // One two-sided test decides both ways: the family corrects the smaller of its two p values. Claims by intersection of
        // tests at their own level need no correction to hold (Berger 1982).
        let two_sided = matches!(self.claim, Claim::Better);
        let in_family = |e: &Evidence| match two_sided {
            true => Some(e.p_holds?.min(e.p_contradicts?)),
            false => e.p_contradicts,
        };
        // A comparison without a p value counts as one of the family that decides nothing.
        let corrected = holm(&self.evidence.iter().map(|e| in_family(e).unwrap_or(1.0)).collect::<Vec<_>>());
        for (evidence, corrected) in self.evidence.iter_mut().zip(corrected) {
            let holds_side = two_sided && evidence.p_holds < evidence.p_contradicts;
            if two_sided {
                evidence.p_holds = evidence.p_holds.map(|_| if holds_side { corrected } else { 1.0 });
            }
            evidence.p_contradicts = evidence.p_contradicts.map(|_| if holds_side { 1.0 } else { corrected });
            let significant = |p: Option<f64>| p.is_some_and(|p| p < ALPHA);
            evidence.verdict = if significant(evidence.p_contradicts) {
                Verdict::Contradicted
            } else if significant(evidence.p_holds) {
                Verdict::Supported
            } else {
                Verdict::Undecided
            };
        }
        let any = |verdict| self.evidence.iter().any(|e| e.verdict == verdict);
        let verdict = if any(Verdict::Contradicted) {
            Verdict::Contradicted
        } else if any(Verdict::Undecided) || self.missing.is_some() || self.evidence.is_empty() {
            Verdict::Undecided
        } else {
            Verdict::Supported
        };
        Part { setting, verdict, evidence: self.evidence, missing: self.missing }
    }
}

/// Each seed's area between two curves, with the sign of a component's difference taken from the other seeds: where that
/// sign is chance the parts cancel, so that on average it is at most the true area. By seed and component.
fn signed_areas(differences: &[Vec<f64>]) -> Vec<f64> {
    let total = |component: usize| differences.iter().map(|seed| seed[component]).sum::<f64>();
    let area = |seed: &Vec<f64>| {
        mean(seed.iter().enumerate().map(|(component, &own)| {
            let others = total(component) - own;
            if others < 0.0 { -own } else { own }
        }))
    };
    differences.iter().map(area).collect()
}

fn conclude(statement: Statement, group: &Group, values: &Values) -> Result<Judgement> {
    let margins = statement.margins();
    let at = |margin: f64| decide(statement.number, margin, group, values);
    let parts = at(margins.first().copied().unwrap_or(0.0))?;
    let verdict = overall(&parts);
    let others = margins.iter().skip(1).map(|&margin| Ok((margin, overall(&at(margin)?))));
    let at_margins = others.collect::<Result<Vec<_>>>()?;
    let mut why: Vec<String> = parts.iter().map(describe).collect();
    if verdict == Verdict::Mixed {
        why.push("The verdict depends on the scale.".into());
    }
    if verdict == Verdict::Undecided {
        let most = parts.iter().flat_map(|part| &part.evidence).map(|e| e.test.paired.difference.n).max();
        match most {
            Some(1) => why.push("One seed shows no scatter, so nothing can be significant.".into()),
            Some(2) => why.push("Two seeds decide nothing by this rule.".into()),
            _ => {}
        }
    }
    if !at_margins.is_empty() {
        let each = at_margins.iter().map(|(margin, verdict)| format!("{verdict} at {:.0}", 100.0 * margin));
        let own = 100.0 * margins[0];
        why.push(format!("With other margins than {own:.0} points: {}.", each.collect::<Vec<_>>().join(", ")));
    }
    Ok(Judgement { statement, verdict, why: why.join(" "), parts, at_margins, seeds_needed: None })
}

fn describe(part: &Part) -> String {
    let at = part.setting.map_or(String::new(), |setting| format!("At the {setting}: "));
    let count = |verdict| part.evidence.iter().filter(|e| e.verdict == verdict).count();
    let weakest = part.evidence.iter().min_by(|a, b| {
        let rank = |e: &Evidence| e.verdict != Verdict::Contradicted;
        rank(a).cmp(&rank(b)).then(a.distance.total_cmp(&b.distance))
    });
    let text = match weakest {
        Some(Evidence { measure, a, b, test, .. }) => {
            let (hold, all, contradicted) =
                (count(Verdict::Supported), part.evidence.len(), count(Verdict::Contradicted));
            let points = in_points(test);
            format!(
                "{at}{hold} of {all} comparisons hold, {contradicted} are contradicted; least favourable is {measure} of {a} minus {b}: {points}."
            )
        }
        None => format!("{at}nothing to compare."),
    };
    text + &part.missing.as_ref().map_or(String::new(), |missing| format!(" Missing: {missing}."))
}

fn in_points(test: &PairedTest) -> String {
    let mean = points(test.paired.difference.mean);
    match test.interval() {
        Some(interval) => {
            format!("{mean} points (95 % interval {} to {})", points(interval.low), points(interval.high))
        }
        None => format!("{mean} points (one seed)"),
    }
}
