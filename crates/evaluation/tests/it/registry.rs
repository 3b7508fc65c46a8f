//! The registry: names lead back to their metrics, and the reference documentation is current.

use faceoff_evaluation::{Error, Registry};

#[test]
fn every_metric_has_one_name_that_leads_back_to_it() {
    let registry = Registry::standard();
    let mut names = Vec::new();
    for metric in registry.families().iter().flat_map(|family| family.metrics) {
        let id = if metric.id.contains('#') { metric.with(3) } else { metric.id() };
        assert_eq!(registry.parse(&id.to_string()).unwrap(), id);
        assert!(!id.title().contains('#') && !id.sentence().contains('#'), "{id}");
        assert!(!metric.source.is_empty(), "{id}");
        names.push(metric.id);
    }
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for unknown in ["knn_accuracy_k", "knn_accuracy_k05", "dnn_accuracy2", "accuracy", ""] {
        assert!(matches!(registry.parse(unknown), Err(Error::UnknownMetric(..))), "{unknown}");
    }
}

#[test]
fn the_reference_documentation_is_current() {
    let file = include_str!("../../../../docs/metrics.md");
    assert!(file == Registry::standard().reference(), "make it again with: cargo xtask reference");
}
