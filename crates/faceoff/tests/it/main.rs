//! The program as a user runs it: whole benchmarks on synthetic images, interruptions, bad input.

mod bad_input;
mod benchmark;
mod cluster;
mod damage;
mod embeddings;
mod external;
mod folders;
mod interruptions;
mod own;
mod together;
mod trained;
mod tune;

use faceoff_runs::Experiment;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The program on the workspace's folders.
fn faceoff() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faceoff"));
    command.args(["--root", concat!(env!("CARGO_MANIFEST_DIR"), "/../..")]);
    command
}

/// A benchmark that writes its report into `out`.
fn benchmark(experiment: &Path, out: &Path) -> Command {
    let mut command = faceoff();
    command.args(["benchmark", "--device", "cpu", "--out"]).arg(out).arg(experiment);
    command
}

fn report(experiment: &Path, out: &Path) -> Command {
    let mut command = faceoff();
    command.args(["report", "--out"]).arg(out).arg(experiment);
    command
}

/// A search of two trials a head; what it writes lies in `out` too.
fn tune(experiment: &Path, out: &Path) -> Command {
    let mut command = faceoff();
    command.args(["tune", "--device", "cpu", "--trials", "2", "--epochs", "1", "--out"]).arg(out);
    command.arg("--file").arg(out.join("tuned.toml")).arg(experiment);
    command
}

/// Runs to the end; on another outcome than success shows what the program said.
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, stderr(&output));
    output
}

/// Runs and expects failure; what the program said.
fn complaint(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let message = stderr(&output);
    assert!(!output.status.success(), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with the smoke experiment under another name, changed by `change`: the folder, the experiment's file, and a path there
/// for reports.
fn experiment(name: &str, change: impl Fn(String) -> String) -> (TempDir, PathBuf, PathBuf) {
    let experiments = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments"));
    let text = Experiment::load(experiments, "smoke").unwrap().to_toml();
    let text = change(text.replace("name = \"smoke\"", &format!("name = \"{name}\"")));
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join(format!("{name}.toml")), folder.path().join("out"));
    std::fs::write(&path, text).unwrap();
    (folder, path, out)
}

/// Two heads, one of them with state.
const TWO_HEADS: &str = "[[heads]]\nkind = \"Classification\"\n\n[[heads]]\nkind = \"AdaCos\"\nepsilon = 1e-6\n";

/// An experiment's text with other heads.
fn with_heads(text: &str, heads: &str) -> String {
    text[..text.find("[[heads]]").unwrap()].to_string() + heads
}

/// The smoke experiment with two heads only.
fn two_heads(name: &str) -> (TempDir, PathBuf, PathBuf) {
    experiment(name, |text| with_heads(&text, TWO_HEADS))
}

/// Relative paths and bytes of all files below `folder`, sorted.
fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push((path.strip_prefix(folder).unwrap().to_path_buf(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Those of them that an interruption must not change: weights, embeddings, histories, tables and experiments. (Pages and
/// manifests hold times.)
fn outcomes(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let is_kept =
        |path: &Path| ["safetensors", "csv", "toml"].iter().any(|kept| path.extension() == Some(kept.as_ref()));
    files_below(folder).into_iter().filter(|(path, _)| is_kept(path)).collect()
}

fn assert_same_outcomes(a: &Path, b: &Path) {
    let (a, b) = (outcomes(a), outcomes(b));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{} differs", name.display());
    }
}
