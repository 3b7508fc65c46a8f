//! Verdicts on the health of heads, on both sides of every threshold.

use faceoff_evaluation::health::{
    CONE, Finding, LEAST_ACTIVE, MOVED, RISEN, RISING, RunHealth, UNLEARNT, Verdict, judge,
};
use faceoff_runs::Failure;

const LITTLE: f64 = 1e-6;

/// A run that no rule finds ill: a loss that falls, an accuracy that no longer rises.
fn healthy(seed: u64) -> RunHealth {
    RunHealth {
        variant: "arc".into(),
        seed,
        losses: vec![4.0, 2.0, 1.0],
        accuracies: vec![(100, 0.5), (200, 0.8), (300, 0.8)],
        margin_active: Some(1.0),
        own_angle: Some(30.0),
        mean_direction: Some(0.3),
        unlearnt: Some(0.4),
        ..RunHealth::default()
    }
}

fn verdicts(run: &RunHealth) -> Vec<Verdict> {
    judge(std::slice::from_ref(run)).iter().map(|finding| finding.verdict).collect()
}

#[track_caller]
fn assert_threshold(verdict: Verdict, ill: RunHealth, well: RunHealth) {
    assert_eq!(verdicts(&ill), [verdict]);
    assert_eq!(verdicts(&well), []);
}

#[test]
fn each_rule_holds_on_one_side_of_its_threshold() {
    assert_eq!(verdicts(&healthy(0)), []);
    let active = |share| RunHealth { margin_active: Some(share), ..healthy(0) };
    assert_threshold(Verdict::MarginInactive, active(LEAST_ACTIVE - LITTLE), active(LEAST_ACTIVE));
    let cone = |length| RunHealth { mean_direction: Some(length), ..healthy(0) };
    assert_threshold(Verdict::Collapsed, cone(CONE), cone(CONE - LITTLE));

    let saturated =
        |ratio, moved| RunHealth { unlearnt: Some(ratio), losses: vec![2.0, 2.2, 2.0 * (1.0 - moved)], ..healthy(0) };
    assert_threshold(Verdict::Saturated, saturated(UNLEARNT, 0.0), saturated(UNLEARNT - LITTLE, 0.0));
    assert_threshold(Verdict::Saturated, saturated(1.0, MOVED - LITTLE), saturated(1.0, MOVED + LITTLE));
    let one_epoch = RunHealth { losses: vec![2.3], accuracies: vec![(100, 0.1)], ..saturated(1.0, 0.0) };
    assert_eq!(verdicts(&one_epoch), []);

    let rising = |rise: f64| RunHealth { accuracies: vec![(100, 0.5), (300, 0.5 + 200.0 * rise)], ..healthy(0) };
    assert_threshold(Verdict::Undertrained, rising(RISING + LITTLE), rising(RISING - LITTLE));

    let risen = |times: f64| RunHealth { losses: vec![4.0, 1.0, times], ..healthy(0) };
    assert_threshold(Verdict::Diverged, risen(RISEN + LITTLE), risen(RISEN));

    let never =
        |names: &[&str]| RunHealth { never_predicted: names.iter().map(ToString::to_string).collect(), ..healthy(0) };
    assert_threshold(Verdict::NeverPredicted, never(&["Dingo"]), never(&[]));
}

#[test]
fn what_was_not_measured_decides_nothing() {
    assert_eq!(verdicts(&RunHealth::default()), []);
}

#[test]
fn a_variant_says_how_many_of_its_runs_are_ill_and_what_was_seen_in_them() {
    let ill = |seed, share, angle| RunHealth {
        margin_active: Some(share),
        beyond: Some(1.0 - share),
        own_angle: Some(angle),
        ..healthy(seed)
    };
    let other = RunHealth { variant: "cos".into(), mean_direction: Some(0.999), ..healthy(0) };
    let found = judge(&[ill(0, 0.01, 155.0), healthy(1), ill(2, 0.28, 152.0), other]);
    let [arc, cos] = &found[..] else { panic!("{found:?}") };
    assert_eq!((arc.verdict, arc.seeds.as_slice(), arc.of), (Verdict::MarginInactive, &[0, 2][..], 3));
    assert_eq!(arc.short(), "margin inactive (2 of 3)");
    for text in ["1.0 % to 28.0 %", "152 degrees to 155 degrees", "72.0 % to 99.0 % lie beyond pi - m"] {
        assert!(arc.seen.contains(text), "{}", arc.seen);
    }
    assert_eq!((cos.short().as_str(), cos.variant.as_str()), ("collapsed to a cone", "cos"));
    assert!(cos.seen.contains("0.999") && cos.seen.contains("4 degrees apart"), "{}", cos.seen);
}

#[test]
fn a_run_that_failed_counts_among_those_of_its_variant() {
    let failure = Failure {
        spec_hash: String::new(),
        head: "ArcFace".into(),
        epoch: 2,
        step: 150,
        learning_rate: 0.1,
        message: "the loss is NaN; lower the learning rate".into(),
    };
    let found: Vec<Finding> = judge(&[healthy(0), RunHealth::failed("arc-seed7", &failure)]);
    assert_eq!((found[0].verdict, found[0].seeds.as_slice(), found[0].of), (Verdict::Diverged, &[7][..], 2));
    assert!(found[0].seen.contains("epoch 2, step 150: the loss is NaN"), "{}", found[0].seen);
}

#[test]
fn a_rise_in_short_epochs_is_no_more_than_it_was() {
    let seen = |accuracies: &[(usize, f64)]| {
        let run = RunHealth { accuracies: accuracies.to_vec(), ..healthy(0) };
        judge(&[run]).swap_remove(0).seen
    };
    let short = seen(&[(4, 0.1), (8, 0.95)]);
    assert_eq!(short, "The accuracy in training rose by 85.0 points in the 4 steps of the last epoch.");
    let long = seen(&[(200, 0.5), (400, 0.6)]);
    assert_eq!(long, "The accuracy in training rose by 5.0 points in 100 steps of the last epoch.");
    assert!(seen(&[(1, 0.1), (2, 0.2)]).contains("rose by 10.0 points in the one step"));
}
