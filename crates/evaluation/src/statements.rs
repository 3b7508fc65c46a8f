//! The article's five statements, judged by rules that were written down before the runs.
//!
//! A comparison is the paired difference over seeds between two variants (see [`faceoff_analysis::statistics`]). It *holds* or is
//! *contradicted* only by a significant t-test at 5 %, so that with one seed nothing is ever decided. The article does not
//! tell its scale s, so statements 1 to 4 are judged apart for each scale of the margin heads, together with the heads that
//! have no scale to set; a statement is *supported* (*contradicted*) if it is so at every scale, else *undecided*. Within
//! one scale it is
//!
//! - *contradicted* if one comparison at least is contradicted, its p value corrected by Holm over all comparisons of the
//!   statement;
//! - *supported* if all its comparisons hold;
//! - *undecided* otherwise, also where a variant or a measure is missing.

use std::collections::BTreeMap;

use faceoff_analysis::statistics::{
    ALPHA, ASSUMED_SD, Interval, PairedDifference, holm, p_above, p_equivalent, paired_difference, seeds_needed,
};
use faceoff_analysis::{Error, Result};

/// What "not worse" allows in an accuracy: 2 percentage points.
pub const ACCURACY_MARGIN: f64 = 0.02;
/// What "look the same" allows between two explained-variance curves: 5 percentage points of the variance.
pub const VARIANCE_MARGIN: f64 = 0.05;
/// The numbers of components at which curves are compared, as far as they reach.
pub const COMPONENTS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// The scale that the article's advice is compared with.
pub const COMMON_SCALE: f64 = 64.0;
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
        "Differences in the explained share of the total variance between every two variants with 1, 2, 4, .. 128 components. \
        Two curves look the same where they lie within 5 percentage points: a difference holds if two one-sided paired \
        t-tests at 5 % (TOST) place it within the margin, and is contradicted if it lies outside by a t-test at 5 % after \
        Holm's correction." },
    Statement { number: 4, text: "ArcMarginProduct is good in both.", rule:
        "Differences of ArcMarginProduct minus every other variant, hence also minus the best, in DNN accuracy and in KNN \
        accuracy (k = 5). Good means not worse than any by more than 2 percentage points: a difference holds if a one-sided \
        paired t-test at 5 % places it above -2 points (non-inferiority), and is contradicted if it lies below -2 points by \
        a one-sided t-test at 5 % after Holm's correction." },
    Statement { number: 5, text: "s = sqrt(2) ln(C - 1) is a good first scale.", rule:
        "Differences of each variant with s = sqrt(2) ln(C - 1) minus its twin with s = 64, the same head, in DNN accuracy and \
        in KNN accuracy (k = 5). Good means not worse by more than 2 percentage points: a difference holds if a one-sided \
        paired t-test at 5 % places it above -2 points (non-inferiority), and is contradicted if it lies below -2 points by \
        a one-sided t-test at 5 % after Holm's correction." },
];

/// The measures of one run, a variant with a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetrics {
    /// Name of the variant.
    pub variant: String,
    /// Kind of the head, such as "CosFace".
    pub head: String,
    /// The fixed scale s of the head; `None` for heads without one to set (Classification, ArcMarginProduct, AdaCos).
    pub scale: Option<f64>,
    /// Seed of the run.
    pub seed: u64,
    /// Accuracy of the head's scores on the validation images, a fraction; `None` where classes are unseen.
    pub dnn_accuracy: Option<f64>,
    /// KNN accuracy on the validation images with k = 5, a fraction.
    pub knn_accuracy: f64,
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
    /// Over all scales.
    pub verdict: Verdict,
    /// One or two sentences that say why.
    pub why: String,
    /// The verdict at each scale.
    pub parts: Vec<Part>,
    /// Seeds in all that would settle an undecided statement with a power of 80 %, if the differences and their scatter
    /// stay as observed (with one seed the scatter is taken as 1 percentage point); `None` if it is settled, or where no
    /// number of seeds would do.
    pub seeds_needed: Option<u64>,
}

/// A statement at one scale of the margin heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The scale; `None` where no variant has one.
    pub scale: Option<f64>,
    /// The verdict at this scale.
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
    pub measure: String,
    /// The variant that is subtracted from.
    pub a: String,
    /// The variant that is subtracted.
    pub b: String,
    /// a - b over the seeds that both have: effect size, 95 % interval, Cohen's d.
    pub paired: PairedDifference,
    /// How far the mean difference lies within what the rule asks for; below 0 if it lies outside.
    pub distance: f64,
    /// p value by which the comparison holds if it is below 5 % (Holm's correction is in it where the rule says so); `None`
    /// with one seed.
    pub p_holds: Option<f64>,
    /// p value by which it is contradicted if it is below 5 %, after Holm's correction; `None` with one seed.
    pub p_contradicts: Option<f64>,
    /// `Supported` if the comparison holds.
    pub verdict: Verdict,
    /// Seeds that would settle this comparison alone, without Holm's correction; `None` if no number of seeds would do.
    pub seeds_needed: Option<u64>,
}

/// What a comparison claims of the difference a - b.
#[derive(Clone, Copy)]
enum Claim {
    /// It is above 0.
    Better,
    /// It is above -margin.
    NotWorse(f64),
    /// It is within (-margin, margin).
    Same(f64),
}

impl Claim {
    /// How far the difference lies within the claim; below 0 if it lies outside.
    fn distance(self, difference: f64) -> f64 {
        match self {
            Claim::Better => difference,
            Claim::NotWorse(margin) => difference + margin,
            Claim::Same(margin) => margin - difference.abs(),
        }
    }

    /// (p of holding, p of being contradicted), before Holm's correction. Both are two-sided for [`Claim::Better`], and the
    /// one that the sign of the difference rules out is 1.
    fn p_values(self, paired: &PairedDifference) -> Option<(f64, f64)> {
        let sample = &paired.difference;
        Some(match self {
            Claim::Better if sample.mean > 0.0 => (paired.p?, 1.0),
            Claim::Better => (1.0, paired.p?),
            Claim::NotWorse(margin) => {
                let above = p_above(sample, -margin)?;
                (above, 1.0 - above)
            }
            Claim::Same(margin) => {
                let outside = p_above(sample, margin)?.min(1.0 - p_above(sample, -margin)?);
                (p_equivalent(sample, margin)?, (2.0 * outside).min(1.0))
            }
        })
    }
}

/// Judges the five statements, in their order. `classes` is the number C of classes of the data set.
///
/// # Errors
/// No runs; a value that is not finite; two runs of one variant and seed; a variant with two heads or scales; C below 3,
/// where the article's scale is not above 0.
pub fn judge(runs: &[RunMetrics], classes: usize) -> Result<Vec<Judgement>> {
    let variants = Variants::new(runs, classes)?;
    let at_each_scale = |claim: Claim, compare: &dyn Fn(&mut Comparisons, &[&Variant]) -> Result<()>| {
        let part = |&scale: &Option<f64>| -> Result<Part> {
            let mut comparisons = Comparisons::new(scale, claim);
            compare(&mut comparisons, &variants.at(scale))?;
            Ok(comparisons.decide())
        };
        variants.scales.iter().map(part).collect::<Result<Vec<Part>>>()
    };
    let parts = [
        at_each_scale(Claim::Better, &|all, variants| all.add_head(variants, "Classification", &dnn(), false))?,
        at_each_scale(Claim::Better, &|all, variants| {
            all.add_head(variants, "CosFace", &dnn(), true)?;
            all.add_head(variants, "CosFace", &knn(), false)
        })?,
        at_each_scale(Claim::Same(VARIANCE_MARGIN), &Comparisons::add_curves)?,
        at_each_scale(Claim::NotWorse(ACCURACY_MARGIN), &|all, variants| {
            all.add_head(variants, "ArcMarginProduct", &dnn(), false)?;
            all.add_head(variants, "ArcMarginProduct", &knn(), false)
        })?,
        vec![small_scale_is_good(&variants, classes)?],
    ];
    Ok(RULES.iter().zip(parts).map(|(&statement, parts)| conclude(statement, parts)).collect())
}

/// The runs of one variant.
struct Variant<'a> {
    name: &'a str,
    head: &'a str,
    scale: Option<f64>,
    by_seed: BTreeMap<u64, &'a RunMetrics>,
}

struct Variants<'a> {
    all: Vec<Variant<'a>>,
    /// The scales that occur, rising; `[None]` if none does.
    scales: Vec<Option<f64>>,
}

impl<'a> Variants<'a> {
    fn new(runs: &'a [RunMetrics], classes: usize) -> Result<Self> {
        if runs.is_empty() {
            return Err(Error::Empty("runs"));
        }
        if classes < 3 {
            let rule = "sqrt(2) ln(C - 1) is above 0 from 3 classes on";
            let remedy = "use a data set with three classes or more";
            return Err(Error::out_of_range("the number of classes", classes as f64, rule, remedy));
        }
        let mut all: Vec<Variant<'a>> = Vec::new();
        for (row, run) in runs.iter().enumerate() {
            let numbers = run.explained_variance.iter().copied().chain(run.dnn_accuracy).chain(run.scale);
            if let Some(value) = numbers.chain([run.knn_accuracy]).find(|v| !v.is_finite()) {
                return Err(Error::NotFinite("the measures of runs", row, 0, value));
            }
            let place = all.iter().position(|variant| variant.name == run.variant).unwrap_or(all.len());
            if place == all.len() {
                let by_seed = BTreeMap::new();
                all.push(Variant { name: &run.variant, head: &run.head, scale: run.scale, by_seed });
            }
            let variant = &mut all[place];
            let remedy = "give each variant one name, one head and each of its runs its own seed";
            let ambiguous = |rule: String| Error::undefined("a judgement", rule, remedy);
            if variant.head != run.head || variant.scale != run.scale {
                return Err(ambiguous(format!("variant {} has two heads or scales", run.variant)));
            }
            if variant.by_seed.insert(run.seed, run).is_some() {
                return Err(ambiguous(format!("variant {} has two runs with seed {}", run.variant, run.seed)));
            }
        }
        let mut found: Vec<f64> = all.iter().filter_map(|variant| variant.scale).collect();
        found.sort_unstable_by(f64::total_cmp);
        found.dedup_by(|next, kept| same_scale(*next, *kept));
        let scales = if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() };
        Ok(Self { all, scales })
    }

    /// The variants of this scale and those without one.
    fn at(&self, scale: Option<f64>) -> Vec<&Variant<'a>> {
        let is_scale = |own: f64| scale.is_some_and(|scale| same_scale(own, scale));
        self.all.iter().filter(|variant| variant.scale.is_none_or(is_scale)).collect()
    }
}

fn same_scale(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() <= SCALE_TOLERANCE
}

/// A value of a run; `None` where it lacks it.
type Measure<'m> = (String, &'m dyn Fn(&RunMetrics) -> Option<f64>);

fn dnn() -> Measure<'static> {
    ("DNN accuracy".into(), &|run| run.dnn_accuracy)
}

fn knn() -> Measure<'static> {
    ("KNN accuracy".into(), &|run| Some(run.knn_accuracy))
}

/// Comparisons of one part, before Holm's correction.
struct Comparisons {
    scale: Option<f64>,
    claim: Claim,
    evidence: Vec<Evidence>,
    missing: Option<String>,
}

impl Comparisons {
    fn new(scale: Option<f64>, claim: Claim) -> Self {
        Self { scale, claim, evidence: Vec::new(), missing: None }
    }

    fn lack(&mut self, what: String) {
        self.missing.get_or_insert(what);
    }

    fn compare(&mut self, a: &Variant, b: &Variant, measure: &Measure) -> Result<()> {
        let (measure, value) = measure;
        let pairs = a.by_seed.iter().filter_map(|(seed, run)| Some((value(run)?, value(b.by_seed.get(seed)?)?)));
        let (left, right): (Vec<f64>, Vec<f64>) = pairs.unzip();
        if left.is_empty() {
            self.lack(format!("{} and {} share no seed with a {measure}", a.name, b.name));
            return Ok(());
        }
        let paired = paired_difference(&left, &right)?;
        let (p_holds, p_contradicts) = self.claim.p_values(&paired).unzip();
        let sd = paired.difference.sd.unwrap_or(ASSUMED_SD);
        let distance = self.claim.distance(paired.difference.mean);
        self.evidence.push(Evidence {
            measure: measure.clone(),
            a: a.name.into(),
            b: b.name.into(),
            paired,
            p_holds,
            p_contradicts,
            distance,
            verdict: Verdict::Undecided,
            seeds_needed: seeds_needed(distance, sd)?,
        });
        Ok(())
    }

    /// Compares every variant of `head` with every other; `reverse` subtracts the head's.
    fn add_head(&mut self, variants: &[&Variant], head: &str, measure: &Measure, reverse: bool) -> Result<()> {
        let (subjects, others): (Vec<_>, Vec<_>) = variants.iter().copied().partition(|variant| variant.head == head);
        if subjects.is_empty() {
            self.lack(format!("no variant has the head {head}"));
        }
        if others.is_empty() {
            self.lack(format!("no variant stands beside {head}"));
        }
        for subject in &subjects {
            for other in &others {
                let (a, b) = if reverse { (other, subject) } else { (subject, other) };
                self.compare(a, b, measure)?;
            }
        }
        Ok(())
    }

    /// Compares the explained-variance curves of every two variants, as far as all reach.
    fn add_curves(&mut self, variants: &[&Variant]) -> Result<()> {
        if variants.len() < 2 {
            self.lack("two variants or more are needed".into());
        }
        let runs = variants.iter().flat_map(|variant| variant.by_seed.values());
        let reach = runs.map(|run| run.explained_variance.len()).min().unwrap_or(0);
        if reach == 0 {
            self.lack("a run lacks its explained-variance curve".into());
        }
        for components in COMPONENTS.into_iter().filter(|&components| components <= reach) {
            let value = |run: &RunMetrics| Some(run.explained_variance[components - 1]);
            let measure: Measure = (format!("variance explained by {components}"), &value);
            for (place, a) in variants.iter().enumerate() {
                variants[place + 1..].iter().try_for_each(|b| self.compare(a, b, &measure))?;
            }
        }
        Ok(())
    }

    fn decide(mut self) -> Part {
        // One two-sided test decides both ways: the family corrects the smaller of its two p values. Claims by intersection of
        // tests at their own level need no correction to hold (Berger 1982).
        let two_sided = matches!(self.claim, Claim::Better);
        let in_family = |e: &Evidence| match two_sided {
            true => Some(e.p_holds?.min(e.p_contradicts?)),
            false => e.p_contradicts,
        };
        // A comparison of one seed counts as one of the family, with a p value that decides nothing.
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
        Part { scale: self.scale, verdict, evidence: self.evidence, missing: self.missing }
    }
}

fn small_scale_is_good(variants: &Variants, classes: usize) -> Result<Part> {
    let advised = 2.0_f64.sqrt() * ((classes - 1) as f64).ln();
    let mut comparisons = Comparisons::new(Some(advised), Claim::NotWorse(ACCURACY_MARGIN));
    let of_scale =
        |scale: f64| variants.all.iter().filter(move |variant| variant.scale.is_some_and(|own| same_scale(own, scale)));
    for small in of_scale(advised) {
        let twins: Vec<&Variant> = of_scale(COMMON_SCALE).filter(|twin| twin.head == small.head).collect();
        if twins.is_empty() {
            comparisons.lack(format!("{} has no twin with s = {COMMON_SCALE}", small.name));
        }
        for twin in twins {
            comparisons.compare(small, twin, &dnn())?;
            comparisons.compare(small, twin, &knn())?;
        }
    }
    if comparisons.evidence.is_empty() {
        comparisons.lack(format!("no head has a variant with s = {advised:.3} and one with s = {COMMON_SCALE}"));
    }
    Ok(comparisons.decide())
}

fn conclude(statement: Statement, parts: Vec<Part>) -> Judgement {
    let all = |verdict| parts.iter().all(|part| part.verdict == verdict);
    let settled = [Verdict::Supported, Verdict::Contradicted].into_iter().find(|&verdict| all(verdict));
    let verdict = settled.unwrap_or(Verdict::Undecided);
    let seeds_needed = (verdict == Verdict::Undecided).then(|| seeds_to_settle(&parts)).flatten();
    let mut why: Vec<String> = parts.iter().map(describe).collect();
    if verdict == Verdict::Undecided {
        let seeds = parts.iter().flat_map(|part| &part.evidence).map(|e| e.paired.difference.n).max();
        if seeds == Some(1) {
            why.push("One seed shows no scatter, so nothing can be significant.".into());
        }
        match seeds_needed {
            Some(seeds) => why.push(format!("About {seeds} seeds would settle it.")),
            None if parts.iter().all(|part| part.verdict != Verdict::Undecided) => {
                why.push("The verdict depends on the scale.".into());
            }
            None => {}
        }
    }
    Judgement { statement, verdict, why: why.join(" "), parts, seeds_needed }
}

/// The undecided parts' greatest number: a part is settled by the first comparison that contradicts it, or else by the last
/// that holds.
fn seeds_to_settle(parts: &[Part]) -> Option<u64> {
    let undecided = parts.iter().filter(|part| part.verdict == Verdict::Undecided);
    let needed: Option<Vec<u64>> = undecided
        .map(|part| {
            // More than there are: those did not suffice.
            let seeds = |e: &Evidence| e.seeds_needed.map(|needed| needed.max(e.paired.difference.n as u64 + 1));
            match part.evidence.iter().filter(|e| e.distance < 0.0).filter_map(seeds).min() {
                Some(first) => Some(first),
                None if part.missing.is_some() => None,
                None => {
                    let open = part.evidence.iter().filter(|e| e.verdict == Verdict::Undecided);
                    open.map(seeds).collect::<Option<Vec<u64>>>()?.into_iter().max()
                }
            }
        })
        .collect();
    needed?.into_iter().max()
}

fn describe(part: &Part) -> String {
    let at = match part.scale {
        Some(scale) if scale.fract() == 0.0 => format!("At s = {scale:.0}: "),
        Some(scale) => format!("At s = {scale:.3}: "),
        None => String::new(),
    };
    let count = |verdict| part.evidence.iter().filter(|e| e.verdict == verdict).count();
    let weakest = part.evidence.iter().min_by(|a, b| {
        let rank = |e: &Evidence| e.verdict != Verdict::Contradicted;
        rank(a).cmp(&rank(b)).then(a.distance.total_cmp(&b.distance))
    });
    let text = match weakest {
        Some(Evidence { measure, a, b, paired, .. }) => {
            let (hold, all, contradicted) =
                (count(Verdict::Supported), part.evidence.len(), count(Verdict::Contradicted));
            let points = in_points(paired);
            format!(
                "{at}{hold} of {all} comparisons hold, {contradicted} are contradicted; least favourable is {measure} of {a} minus {b}: {points}."
            )
        }
        None => format!("{at}nothing to compare."),
    };
    text + &part.missing.as_ref().map_or(String::new(), |missing| format!(" Missing: {missing}."))
}

fn in_points(paired: &PairedDifference) -> String {
    let mean = 100.0 * paired.difference.mean;
    match paired.difference.interval {
        Some(Interval { low, high }) => {
            format!("{mean:+.1} points (95 % interval {:+.1} to {:+.1})", 100.0 * low, 100.0 * high)
        }
        None => format!("{mean:+.1} points (one seed)"),
    }
}
