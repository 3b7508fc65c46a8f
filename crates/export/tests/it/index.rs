//! Embeddings on disk: what is written is read back and searched, and what was damaged or is another's is refused.

use faceoff_export::{About, Index, index_files, nearest, write_index};
use std::path::{Path, PathBuf};

const DIM: usize = 3;
/// More than are written at once.
const ROWS: usize = 5000;

fn about() -> About {
    About {
        schema: About::SCHEMA,
        experiment: "quick".into(),
        run: "ArcFace-seed0".into(),
        weights_blake3: "0f".repeat(32),
        image_size_px: 64,
        shorter_side_px: 73,
        dim: DIM,
        arithmetic: "cpu (avx2)".into(),
        version: "0.1.0".into(),
    }
}

/// Points on a circle, a degree apart; the first and the 360th are the same.
fn rows() -> (Vec<String>, Vec<f32>) {
    let angle = |row: usize| ((row % 360) as f32).to_radians();
    let paths = (0..ROWS).map(|row| format!("a \u{e9}, \"b\"/<{row}>.jpg")).collect();
    (paths, (0..ROWS).flat_map(|row| [angle(row).cos(), angle(row).sin(), 0.0]).collect())
}

fn write(path: &Path, batch: usize) {
    let (paths, unit) = rows();
    write_index(path, &about(), |sink| {
        for (paths, unit) in paths.chunks(batch).zip(unit.chunks(batch * DIM)) {
            sink.add(paths, unit, &vec![2.5; paths.len()])?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn embeddings_are_read_back_and_the_nearest_are_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.parquet", "x.npy"] {
        let path = folder.path().join(name);
        write(&path, 64);
        let index = Index::open(&path).unwrap();
        assert_eq!(*index.about(), about());
        let (mut paths, mut numbers) = (Vec::new(), Vec::new());
        index
            .each(&mut |some, more| {
                paths.extend(some);
                numbers.extend_from_slice(more);
            })
            .unwrap();
        assert_eq!((paths, numbers), rows());
        let (found, all) = nearest(&index, &[1.0, 0.0, 0.0], 16).unwrap();
        assert_eq!(all, ROWS);
        let named: Vec<usize> =
            found.iter().map(|near| near.path.split(['<', '>']).nth(1).unwrap().parse().unwrap()).collect();
        // Of equally near ones the first comes first; the next are one degree away.
        let expected: Vec<usize> = (0..14).map(|turn| 360 * turn).chain([1, 359]).collect();
        assert_eq!(named, expected);
        assert!((found[0].cosine - 1.0).abs() < 1e-7 && (found[15].cosine - 1_f64.to_radians().cos()).abs() < 1e-6);
        // How batches were cut changes no byte.
        let other = folder.path().join(format!("other-{name}"));
        write(&other, 1777);
        for (a, b) in index_files(&path).unwrap().iter().zip(index_files(&other).unwrap()) {
            assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "{}", a.display());
        }
    }
}

#[test]
fn what_was_damaged_is_refused_wherever_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.parquet", "x.npy"] {
        let path = folder.path().join(name);
        write(&path, 500);
        for file in index_files(&path).unwrap() {
            let good = std::fs::read(&file).unwrap();
            let refused = |bytes: &[u8], what: &str| {
                std::fs::write(&file, bytes).unwrap();
                let Err(error) = Index::open(&path) else { panic!("{} {what} was not refused", file.display()) };
                let error = error.to_string();
                assert!(error.contains("embed`") || error.contains("bring it back"), "{what}: {error}");
            };
            // Places all over the file, and every byte of the end, where Parquet has its footer.
            let places = (0..good.len()).step_by(good.len() / 50).chain(good.len().saturating_sub(700)..good.len());
            for place in places {
                let mut bytes = good.clone();
                bytes[place] ^= 0x11;
                refused(&bytes, &format!("changed at {place}"));
            }
            for length in [0, 7, good.len() / 2, good.len() - 1] {
                refused(&good[..length], &format!("cut to {length}"));
            }
            std::fs::write(&file, good).unwrap();
        }
        Index::open(&path).unwrap();
    }
}

#[test]
fn what_others_wrote_and_what_is_missing_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refused = |path: PathBuf| Index::open(&path).unwrap_err().to_string();
    assert!(refused(path("x.csv")).contains("x.csv must end in .parquet or .npy"));
    assert!(refused(path("none.parquet")).contains("cannot read"));
    std::fs::write(path("text.parquet"), "PAR1, not really, PAR1").unwrap();
    let error = refused(path("text.parquet"));
    assert!(error.contains("it is not one of `embed`"), "{error}");
    write(&path("x.npy"), 100);
    std::fs::remove_file(path("x.about.json")).unwrap();
    let error = refused(path("x.npy"));
    assert!(error.contains("x.about.json") && error.contains("x.paths.csv"), "{error}");
}

#[test]
fn what_is_not_finished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.parquet", "x.npy"] {
        let written = write_index(&folder.path().join(name), &about(), |sink| {
            sink.add(&["a".into()], &[1.0, 0.0, 0.0], &[1.0])?;
            Err(std::io::Error::other("stopped"))
        });
        assert!(written.unwrap_err().to_string().contains("stopped"));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
