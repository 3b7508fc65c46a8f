//! External embeddings: numbers, both widths, and clear answers to broken files.

use crate::experiment;
use crate::pages::{assert_legible, assert_page_is_whole, files};
use faceoff_evaluation::{LabelledFiles, Registry};
use faceoff_report::{ReportSummary, write_embeddings_report};
use ndarray::{Array2, array};
use ndarray_npy::write_npy;
use std::path::Path;

fn given(folder: &Path, name: &str, labels: &str) -> LabelledFiles {
    let files =
        LabelledFiles { embeddings: folder.join(format!("{name}.npy")), labels: folder.join(format!("{name}.csv")) };
    std::fs::write(&files.labels, labels).unwrap();
    files
}

/// Needs escaping in HTML and in links.
const NAME: &str = "made <up> & \"so\" #1 100%";

fn report(
    folder: &Path,
    queries: &LabelledFiles,
    index: Option<&LabelledFiles>,
) -> faceoff_report::Result<ReportSummary> {
    write_embeddings_report(folder, NAME, queries, index, &experiment(&[0]).analysis, &Registry::standard(), &|_| {})
}

fn value(folder: &Path, metric: &str) -> f64 {
    let text = std::fs::read_to_string(folder.join("metrics.csv")).unwrap();
    let row = text.lines().find(|line| line.split(',').nth(3) == Some(metric));
    row.unwrap_or_else(|| panic!("no {metric}")).rsplit(',').next().unwrap().parse().unwrap()
}

/// Two tight pairs, and a point of the first class beside the second: of any length.
fn points() -> Array2<f64> {
    array![[1.0, 0.0], [2.0, 0.1], [0.0, 3.0], [0.1, 1.0], [0.3, 0.9]]
}

const LABELS: &str = "id,label\na,owl\nb,owl\nc,emu\nd,emu\ne,owl\n";

#[test]
fn one_set_is_compared_with_itself_and_two_with_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let queries = given(folder.path(), "queries", LABELS);
    write_npy(&queries.embeddings, &points()).unwrap();
    let out = folder.path().join("alone");
    let summary = report(&out, &queries, None).unwrap();
    assert_eq!((summary.rows.len(), summary.rows[0].seeds), (1, 1));
    // Four of five have their like nearest; the fifth stands with the others.
    assert_eq!(value(&out, "loo_precision_at_1"), 0.8);
    assert_eq!(value(&out, "knn_accuracy_k1"), 0.8);
    let metrics = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    assert!(!metrics.contains("dnn_") && !metrics.contains("linear_probe") && !metrics.contains(",recall_at"));
    let text = assert_page_is_whole(&out);
    assert!(text.contains("n = 1") && text.contains(NAME));

    let index = given(folder.path(), "index", "label\nemu\nowl\n");
    write_npy(&index.embeddings, &array![[0.0_f32, 1.0], [1.0, 0.0]]).unwrap();
    let out = folder.path().join("pair");
    report(&out, &queries, Some(&index)).unwrap();
    assert_eq!(value(&out, "precision_at_1"), 0.8);
    assert_eq!(value(&out, "nearest_center_accuracy"), 0.8);
    assert_eq!(value(&out, "queries_without_classmate"), 0.0);
    assert!(!summary.notes.iter().any(|note| note.contains("of their class")), "{:?}", summary.notes);
}

#[test]
fn images_without_a_classmate_are_left_out_alike_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let queries = given(folder.path(), "queries", "label\nowl\nowl\nemu\nkiwi\nkiwi\n");
    write_npy(&queries.embeddings, &points()).unwrap();
    let index = given(folder.path(), "index", "label\nemu\nemu\nowl\n");
    write_npy(&index.embeddings, &array![[0.0_f32, 1.0], [0.1, 1.0], [1.0, 0.0]]).unwrap();
    let out = folder.path().join("pair");
    let summary = report(&out, &queries, Some(&index)).unwrap();
    for metric in
        ["knn_accuracy_k1", "precision_at_1", "recall_at_1", "nearest_center_accuracy", "linear_probe_accuracy"]
    {
        assert_eq!(value(&out, metric), 1.0, "{metric}");
    }
    assert!(value(&out, "linear_probe_log_loss").is_finite());
    assert_eq!(value(&out, "queries_without_classmate"), 2.0);
    let note = "2 of 5 evaluated images have no training image of their class";
    assert!(summary.notes.iter().any(|found| found.contains(note)), "{:?}", summary.notes);
    assert!(assert_page_is_whole(&out).contains(note));

    // Leave one out: the only emu has no other.
    let out = folder.path().join("alone");
    let summary = report(&out, &queries, None).unwrap();
    assert_eq!(value(&out, "loo_queries_without_classmate"), 1.0);
    assert_eq!(value(&out, "loo_precision_at_1"), value(&out, "knn_accuracy_k1"));
    assert!(summary.notes.iter().any(|note| note.contains("1 of 5 evaluated images")), "{:?}", summary.notes);
}

#[test]
fn both_widths_and_memory_orders_give_the_same_report() {
    let folder = tempfile::tempdir().unwrap();
    let rows = Array2::from_shape_fn((40, 6), |(row, column)| {
        ((row * 7 + column * 3) % 11) as f64 + if row % 2 == column % 2 { 9.0 } else { 0.0 }
    });
    let labels = (0..40).map(|row| (row % 2).to_string()).collect::<Vec<_>>().join("\n");
    let queries = given(folder.path(), "queries", &format!("label\n{labels}\n"));
    let made = |name: &str| {
        report(&folder.path().join(name), &queries, None).unwrap();
        files(&folder.path().join(name))
    };
    write_npy(&queries.embeddings, &rows).unwrap();
    let wide = made("wide");
    write_npy(&queries.embeddings, &rows.mapv(|value| value as f32)).unwrap();
    assert!(made("narrow") == wide);
    write_npy(&queries.embeddings, &rows.t().as_standard_layout().to_owned().t()).unwrap();
    assert!(made("columns") == wide);
    let pictures = wide.into_iter().filter(|(name, _)| name.ends_with(".svg")).collect();
    assert_legible(pictures, &["0".to_string(), "1".to_string()]);
}

#[test]
fn broken_files_are_answered_with_place_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let queries = given(folder.path(), "queries", LABELS);
    let out = folder.path().join("out");
    let message = |queries: &LabelledFiles, index: Option<&LabelledFiles>| {
        let text = report(&out, queries, index).unwrap_err().to_string();
        assert!(!out.exists(), "a report of broken files");
        text
    };
    assert!(message(&queries, None).contains("cannot be opened"));
    std::fs::write(&queries.embeddings, "no npy").unwrap();
    assert!(message(&queries, None).contains("no NPY matrix"));
    write_npy(&queries.embeddings, &array![1.0, 2.0]).unwrap();
    assert!(message(&queries, None).contains("no NPY matrix"));
    write_npy(&queries.embeddings, &array![[1_i32, 2]]).unwrap();
    assert!(message(&queries, None).contains("f32 or f64"));
    let mut broken = points();
    broken[[3, 1]] = f64::NAN;
    write_npy(&queries.embeddings, &broken).unwrap();
    assert!(message(&queries, None).contains("row 3, column 1 is NaN"));
    broken.row_mut(3).fill(0.0);
    write_npy(&queries.embeddings, &broken).unwrap();
    assert!(message(&queries, None).contains("row 3 has the length 0"));
    write_npy(&queries.embeddings, &points()).unwrap();
    // A header that asks for more room than any machine has: nine zeros in the place of the spaces behind it.
    let whole = std::fs::read(&queries.embeddings).unwrap();
    let mut large = whole.clone();
    let [end, last] = [b')', b'}'].map(|sign| whole[..128].iter().rposition(|byte| *byte == sign).unwrap());
    large[end..end + 9].fill(b'0');
    large[end + 9..last + 10].copy_from_slice(&whole[end..=last]);
    std::fs::write(&queries.embeddings, large).unwrap();
    assert!(message(&queries, None).contains("which are not 5 x 2000000000 numbers"));
    // Brackets that no parser would come to an end with.
    let mut deep = whole.clone();
    deep[last + 1..last + 11].fill(b'[');
    std::fs::write(&queries.embeddings, deep).unwrap();
    assert!(message(&queries, None).contains("too many brackets"));
    // Shapes without a number need no byte.
    for (shape, said) in [("(0, 9223372036854775808)", "it is 0 x"), ("(1152921504606846976, 0)", "x 0; at least two")]
    {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        let mut empty = whole[..10].to_vec();
        empty.extend(format!("{header:<117}\n").bytes());
        std::fs::write(&queries.embeddings, empty).unwrap();
        let message = message(&queries, None);
        assert!(message.contains(said), "{message}");
    }
    std::fs::write(&queries.embeddings, whole).unwrap();

    for (labels, said) in [
        ("label\nowl\nemu\n", "it has 2 labels, but"),
        ("a,b\n1,2\n", "no column `label`: its first line is `a,b`"),
        ("label\nowl\nowl\n\"\"\nemu\nowl\n", "line 4 has no label"),
        ("id,label\na,owl\nb,owl\na,emu\nc,emu\nd,owl\n", "line 4 names a again, after line 2; ids must differ"),
        ("0\n0\n1\n1\n0\n1\n", "write `label` above it"),
    ] {
        std::fs::write(&queries.labels, labels).unwrap();
        assert!(message(&queries, None).contains(said), "{said}");
    }
    std::fs::write(&queries.labels, LABELS).unwrap();
    let index = given(folder.path(), "index", LABELS);
    write_npy(&index.embeddings, &Array2::<f32>::ones((5, 3))).unwrap();
    assert!(message(&queries, Some(&index)).contains("its rows have 3 numbers"));
}

#[test]
fn one_name_in_two_forms_of_unicode_is_one_class_and_paths_are_ids() {
    let folder = tempfile::tempdir().unwrap();
    let (composed, decomposed) = ("\u{e9}mu", "e\u{301}mu");
    let table = format!("path,label\na,owl\nb,owl\nc,{composed}\nd,{decomposed}\n,owl\n");
    let queries = given(folder.path(), "queries", &table);
    write_npy(&queries.embeddings, &points()).unwrap();
    let out = folder.path().join("alone");
    report(&out, &queries, None).unwrap();
    assert_eq!(value(&out, "loo_precision_at_1"), 0.8);
    let map = std::fs::read_to_string(out.join("pca.csv")).unwrap();
    assert!(map.contains(",a,") && map.contains(",queries:4,") && !map.contains(decomposed), "{map}");
}

/// Spreadsheets separate columns by semicolons or tabs where commas stand in numbers.
#[test]
fn separators_are_recognised_and_one_number_written_twice_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "a;1\nb;1\nc;2\nd;2\ne;1\n";
    for (name, separator) in [("comma", ","), ("semicolon", ";"), ("tab", "\t")] {
        let queries = given(folder.path(), name, &format!("id;label\n{rows}").replace(';', separator));
        write_npy(&queries.embeddings, &points()).unwrap();
        let out = folder.path().join(name).join("out");
        let summary = report(&out, &queries, None).unwrap();
        assert_eq!(value(&out, "loo_precision_at_1"), 0.8, "{name}");
        assert!(summary.notes.iter().all(|note| !note.contains("one number")), "{:?}", summary.notes);
    }
    for separator in [";", "\t"] {
        let queries = given(folder.path(), "unnamed", &format!("id;class\n{rows}").replace(';', separator));
        write_npy(&queries.embeddings, &points()).unwrap();
        let message = report(&folder.path().join("unnamed"), &queries, None).unwrap_err().to_string();
        assert!(message.contains("no column `label`") && message.contains("semicolons or tabs"), "{message}");
    }
    let queries = given(folder.path(), "twice", &format!("id;label\n{}", rows.replace("e;1", "e;01")));
    write_npy(&queries.embeddings, &points()).unwrap();
    let summary = report(&folder.path().join("twice"), &queries, None).unwrap();
    assert!(
        summary.notes.iter().any(|note| note.contains("The labels `01` and `1` are one number")),
        "{:?}",
        summary.notes
    );
}

/// What the user keeps in a report folder is his.
#[test]
fn only_files_of_the_report_before_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let queries = given(folder.path(), "queries", LABELS);
    write_npy(&queries.embeddings, &points()).unwrap();
    let out = folder.path().join("alone");
    report(&out, &queries, None).unwrap();
    let [mine, old] = ["plots/mine.svg", "plots/old.svg"].map(|name| out.join(name));
    [&mine, &old].into_iter().for_each(|path| std::fs::write(path, "<svg/>").unwrap());
    let list = out.join(".faceoff-files");
    std::fs::write(&list, std::fs::read_to_string(&list).unwrap() + "plots/old.svg\n../queries.npy\n").unwrap();
    report(&out, &queries, None).unwrap();
    assert!(mine.exists() && !old.exists() && queries.embeddings.exists());
}
