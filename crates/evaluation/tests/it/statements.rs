//! The article's statements, judged on made-up runs.

use faceoff_analysis::Error;
use faceoff_evaluation::statements::{Accuracy, Judgement, RULES, RunMetrics, Setting, Verdict, judge};

/// What a variant's runs scatter around.
#[derive(Clone)]
struct Mean {
    variant: &'static str,
    head: &'static str,
    scale: Option<f64>,
    dnn: f64,
    knn: f64,
    /// Share of the variance of the first of 128 components; the rest falls off alike.
    first: f64,
}

const fn mean(variant: &'static str, head: &'static str, scale: Option<f64>, dnn: f64, knn: f64, first: f64) -> Mean {
    Mean { variant, head, scale, dnn, knn, first }
}

/// Everything as the article says it.
fn as_stated() -> Vec<Mean> {
    vec![
        mean("classification", "Classification", None, 0.80, 0.70, 0.30),
        mean("product", "ArcMarginProduct", None, 0.79, 0.73, 0.31),
        mean("adacos", "AdaCos", None, 0.75, 0.70, 0.30),
        mean("arcface-s64", "ArcFace", Some(64.0), 0.74, 0.71, 0.30),
        mean("arcface-s3", "ArcFace", Some(3.107), 0.76, 0.71, 0.29),
        mean("cosface-s64", "CosFace", Some(64.0), 0.70, 0.74, 0.30),
        mean("cosface-s3", "CosFace", Some(3.107), 0.71, 0.74, 0.30),
    ]
}

fn runs(means: &[Mean], seeds: u64) -> Vec<RunMetrics> {
    let mut runs = Vec::new();
    for (place, mean) in means.iter().enumerate() {
        for seed in 0..seeds {
            // A scatter of some 0.2 points of its own, and of 2 points that all variants of a seed share.
            let own = 0.002 * f64::sin((7 * place as u64 + 3 * seed + 1) as f64);
            let shared = 0.02 * f64::cos(seed as f64);
            runs.push(RunMetrics {
                variant: mean.variant.into(),
                head: mean.head.into(),
                others: String::new(),
                setting: mean.scale.map(|scale| Setting::of(scale, 10)),
                seed,
                dnn_accuracy: Some(Accuracy { value: mean.dnn + own + shared, right: None }),
                knn_accuracy: Accuracy { value: mean.knn - own + shared, right: None },
                explained_variance: (1..=128).map(|k| 1.0 - (1.0 - mean.first - own) * 0.95_f64.powi(k - 1)).collect(),
            });
        }
    }
    runs
}

fn judged(means: &[Mean], seeds: u64) -> Vec<Judgement> {
    judge(&runs(means, seeds), 10).unwrap()
}

fn verdicts(judgements: &[Judgement]) -> Vec<Verdict> {
    judgements.iter().map(|judgement| judgement.verdict).collect()
}

use Verdict::{Contradicted, Mixed, Supported, Undecided};

#[test]
fn what_is_as_stated_is_supported() {
    let judgements = judged(&as_stated(), 5);
    assert_eq!(verdicts(&judgements), [Supported; 5], "{judgements:#?}");
    for (judgement, statement) in judgements.iter().zip(RULES) {
        assert_eq!(judgement.statement, statement);
        assert_eq!(judgement.seeds_needed, None);
    }
    // One part for each setting of the scale; classification against four others at each.
    let parts = &judgements[0].parts;
    let settings: Vec<_> = parts.iter().map(|part| part.setting).collect();
    assert_eq!(settings, [Some(Setting::Default), Some(Setting::Advice)]);
    assert_eq!(parts[0].evidence.len(), 4);
    let evidence = &parts[0].evidence[0];
    assert_eq!((evidence.a.as_str(), evidence.b.as_str()), ("classification", "product"));
    assert!((evidence.test.paired.difference.mean - 0.01).abs() < 0.004);
    let interval = evidence.test.interval().unwrap();
    assert!(interval.low > 0.0 && interval.high < 0.02);
    assert!(evidence.test.paired.cohens_d.unwrap() > 2.0);
    // Two heads with twins, two measures.
    assert_eq!(judgements[4].parts[0].evidence.len(), 4);
}

#[test]
fn the_opposite_is_contradicted() {
    let mut means = as_stated();
    for mean in &mut means {
        match mean.head {
            "Classification" => (mean.dnn, mean.first) = (0.72, 0.60),
            "CosFace" => (mean.dnn, mean.knn) = (0.78, 0.65),
            "ArcMarginProduct" => mean.knn = 0.60,
            _ => {}
        }
        if mean.scale == Some(3.107) {
            mean.dnn -= 0.08;
        }
    }
    let judgements = judged(&means, 5);
    assert_eq!(verdicts(&judgements), [Contradicted; 5], "{judgements:#?}");
}

#[test]
fn one_seed_decides_nothing_and_says_how_many_would() {
    let judgements = judged(&as_stated(), 1);
    assert_eq!(verdicts(&judgements), [Undecided; 5]);
    for judgement in &judgements {
        assert!(judgement.seeds_needed.is_none_or(|seeds| seeds >= 3), "{}", judgement.why);
        assert!(judgement.why.contains("One seed") && judgement.why.contains("simulations"), "{}", judgement.why);
        for evidence in judgement.parts.iter().flat_map(|part| &part.evidence) {
            assert_eq!((evidence.p_holds, evidence.p_contradicts), (None, None));
            assert!(evidence.test.interval().is_none());
        }
    }
    // Two seeds give no p value either, however equal their differences are.
    let judgements = judged(&as_stated(), 2);
    assert_eq!(verdicts(&judgements), [Undecided; 5]);
    assert!(judgements[0].why.contains("Two seeds decide nothing"), "{}", judgements[0].why);
}

#[test]
fn scales_that_disagree_are_mixed_and_no_seeds_would_help() {
    let mut means = as_stated();
    // CosFace is worst by far at s = 64 alone.
    means.iter_mut().find(|mean| mean.variant == "cosface-s3").unwrap().dnn = 0.785;
    let judgement = &judged(&means, 5)[1];
    assert_eq!(judgement.parts[0].verdict, Supported);
    assert_eq!(judgement.parts[1].verdict, Contradicted);
    assert_eq!((judgement.verdict, judgement.seeds_needed), (Mixed, None));
    assert!(judgement.why.contains("depends on the scale"), "{}", judgement.why);
}

#[test]
fn small_leads_are_undecided_until_more_seeds_come() {
    let mut means = as_stated();
    means[1].dnn = means[0].dnn - 0.0005;
    let found = judged(&means, 4);
    assert_eq!(found[0].verdict, Undecided);
    assert!(found[0].seeds_needed.is_none_or(|seeds| seeds > 4));
    // "Not worse by more than 2 points" needs no lead.
    assert_eq!(found[3].verdict, Supported);
}

#[test]
fn holm_counts_all_comparisons_of_a_statement() {
    let judgements = judged(&as_stated(), 5);
    for evidence in &judgements[0].parts[0].evidence {
        // The two-sided p value itself is smaller than the corrected one or equal to it.
        assert!(evidence.p_holds.unwrap() >= evidence.test.p().unwrap());
        assert_eq!(evidence.p_contradicts, Some(1.0));
    }
    let least = judgements[0].parts[0].evidence.iter().min_by(|a, b| a.test.p().partial_cmp(&b.test.p()).unwrap());
    let least = least.unwrap();
    assert!((least.p_holds.unwrap() / least.test.p().unwrap() - 4.0).abs() < 1e-9);
}

#[test]
fn missing_heads_measures_and_seeds_are_named() {
    let means: Vec<Mean> = as_stated().into_iter().filter(|mean| mean.head != "CosFace").collect();
    let mut some = runs(&means, 5);
    let found = judge(&some, 10).unwrap();
    assert_eq!(found[1].verdict, Undecided);
    assert!(found[1].why.contains("no variant has the head CosFace"), "{}", found[1].why);
    for run in &mut some {
        run.dnn_accuracy = None;
        run.explained_variance.clear();
    }
    let found = judge(&some, 10).unwrap();
    assert_eq!(verdicts(&found), [Undecided; 5]);
    assert!(found[0].why.contains("share no seed with a DNN accuracy"), "{}", found[0].why);
    assert!(found[2].why.contains("explained-variance"), "{}", found[2].why);
    // KNN accuracy of ArcMarginProduct is still compared.
    assert!(!found[3].parts[0].evidence.is_empty());
    let no_twins: Vec<Mean> = as_stated().into_iter().filter(|mean| mean.scale != Some(64.0)).collect();
    let found = judged(&no_twins, 5);
    assert!(found[4].why.contains("no twin"), "{}", found[4].why);
    // Without margin heads there is one part, without a scale.
    let plain: Vec<Mean> = as_stated().into_iter().filter(|mean| mean.scale.is_none()).collect();
    let found = judged(&plain, 5);
    assert_eq!((found[0].parts.len(), found[0].parts[0].setting, found[0].verdict), (1, None, Supported));
    // One variant alone.
    let found = judged(&plain[..1], 5);
    assert_eq!(verdicts(&found), [Undecided; 5]);
}

#[test]
fn curves_are_compared_by_the_area_between_them() {
    let areas = |first: f64| {
        let mut means = as_stated();
        means[1].first = first;
        judged(&means, 5).swap_remove(2)
    };
    // All curves are as (1 - first) 0.95^(k - 1) below 1: the mean of 0.95^(k - 1) at 1, 2, 4, .. 128 is 0.54.
    let found = areas(0.35);
    let (pair, margin_of) = (&found.parts[0].evidence[0], |e: &faceoff_evaluation::statements::Evidence| e.distance);
    assert_eq!((pair.a.as_str(), pair.b.as_str()), ("classification", "product"));
    assert!((margin_of(pair) - (0.05 - 0.05 * 0.5394)).abs() < 0.002, "{pair:?}");
    assert_eq!(found.verdict, Supported);
    // At 10 points of the first component the area is 5.4 points: contradicted at 3 points, the same at 10.
    let found = areas(0.50);
    assert_eq!(found.verdict, Contradicted, "{}", found.why);
    assert_eq!(found.at_margins, [(0.03, Contradicted), (0.10, Contradicted)]);
    let found = areas(0.42);
    assert_eq!(found.at_margins, [(0.03, Contradicted), (0.10, Supported)], "{}", found.why);
    // A run without the upper end of its curve shortens all.
    let mut some = runs(&as_stated(), 3);
    some[0].explained_variance.truncate(16);
    assert_eq!(judge(&some, 10).unwrap()[2].verdict, Supported);
}

#[test]
fn the_choice_of_images_widens_what_seeds_alone_would_settle() {
    // Every seed shows the same 20 images of 1,000 more: no scatter over seeds, 2 points with a standard error of 0.44.
    let with_images = |more: usize, known: bool| {
        let right = |count: usize| -> Vec<bool> { (0..1000).map(|image| image < count).collect() };
        let mut all = Vec::new();
        for (head, count) in [("Classification", 700 + more), ("ArcFace", 700)] {
            all.extend((0..3).map(|seed| {
                let right = known.then(|| right(count));
                let accuracy = Accuracy { value: count as f64 / 1000.0, right };
                RunMetrics {
                    variant: head.into(),
                    head: head.into(),
                    others: String::new(),
                    setting: None,
                    seed,
                    dnn_accuracy: Some(accuracy.clone()),
                    knn_accuracy: accuracy,
                    explained_variance: vec![0.5, 1.0],
                }
            }));
        }
        judge(&all, 10).unwrap().swap_remove(0)
    };
    assert_eq!(with_images(2, false).verdict, Supported);
    assert_eq!(with_images(2, true).verdict, Undecided);
    let sure = with_images(20, true);
    assert_eq!(sure.verdict, Supported);
    let interval = sure.parts[0].evidence[0].test.interval().unwrap();
    let error = (0.02_f64 * 0.98 / 999.0).sqrt();
    assert!((interval.high - interval.low - 2.0 * 1.962 * error).abs() < 1e-4, "{interval:?}");
}

#[test]
fn refuses_ambiguous_runs() {
    let good = runs(&as_stated(), 2);
    assert!(matches!(judge(&[], 10), Err(Error::Empty(_))));
    assert!(matches!(judge(&good, 2), Err(Error::OutOfRange { .. })));
    let mut twice = good.clone();
    twice[1].seed = 0;
    assert!(matches!(judge(&twice, 10), Err(Error::Undefined(..))));
    let mut other = good.clone();
    other[1].head = "AdaCos".into();
    assert!(matches!(judge(&other, 10), Err(Error::Undefined(..))));
    let mut nan = good;
    nan[3].knn_accuracy.value = f64::NAN;
    assert!(matches!(judge(&nan, 10), Err(Error::NotFinite(_, 3, ..))));
}
