//! Which folders and experiments the program uses, wherever it lies and is started.

use crate::{complaint, faceoff, files_below, stderr, stdout, succeed};
use std::path::Path;
use std::process::Command;

/// A copy of the program in `folder`, to be started there.
fn copied(folder: &Path) -> Command {
    let program = folder.join(format!("copy{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_faceoff"), &program).unwrap();
    }
    let mut command = Command::new(program);
    command.current_dir(folder);
    command
}

#[test]
fn a_copied_program_needs_nothing_but_the_folder_it_is_started_in() {
    let folder = tempfile::tempdir().unwrap();
    // A repository around the folder is none of the program's: the manifest names the commit that it was built from.
    succeed(Command::new("git").args(["init", "-q"]).current_dir(folder.path()));
    let one_run = ["benchmark", "smoke", "--heads", "AdaCos", "--epochs", "1", "--device", "cpu"];
    let output = succeed(copied(folder.path()).args(one_run));
    assert!(stderr(&output).contains("smoke, as built into the program"), "{}", stderr(&output));
    let shown = stdout(&output);
    assert!(shown.contains("open reports/smoke/index.html"), "{shown}");
    let report = folder.path().join("reports/smoke");
    assert!(report.join("index.html").is_file());
    let manifest = std::fs::read_to_string(report.join("runs/AdaCos-seed0/manifest.json")).unwrap();
    assert!(manifest.contains(&format!("\"commit\": \"{}\"", faceoff::COMMIT)), "{manifest}");

    // A file of the folder goes before what is built in, and --root chooses the folder.
    let root = folder.path().join("elsewhere");
    std::fs::create_dir_all(root.join("experiments")).unwrap();
    let text = stdout(&succeed(copied(folder.path()).args(["experiment", "show", "smoke"])));
    let changed = text.replace("epochs = 2", "epochs = 1");
    std::fs::write(root.join("experiments/smoke.toml"), changed).unwrap();
    let mut command = copied(folder.path());
    command.args(["benchmark", "smoke", "--heads", "CosFace", "--device", "cpu", "--root", "elsewhere"]);
    command.arg("--cache").arg(folder.path().join("data"));
    let output = succeed(&mut command);
    assert!(stderr(&output).contains("elsewhere/experiments/smoke.toml"), "{}", stderr(&output));
    let runs = files_below(&root.join("reports/smoke/runs/CosFace-seed0"));
    let history = runs.iter().find(|(name, _)| name == Path::new("history.csv")).unwrap();
    assert_eq!(history.1.iter().filter(|&&byte| byte == b'\n').count(), 2, "one epoch and the header");
    assert!(!root.join("data").exists());
}

#[test]
fn experiments_are_listed_and_shown_as_they_are_run() {
    let names = stdout(&succeed(faceoff().args(["experiment", "list"])));
    let built_in = [
        "heads-all",
        "imagewoof",
        "label-noise",
        "parity",
        "quick",
        "recipe",
        "reproduction",
        "reproduction-tuned",
        "scale-margin",
        "smoke",
        "unseen-breeds",
    ];
    assert!(names.lines().eq(built_in));
    let shown = stdout(&succeed(faceoff().args(["experiment", "show", "scale-margin"])));
    assert!(shown.contains("name = \"ArcFace-s16-m0.5\""));
    assert!(complaint(faceoff().args(["experiment", "show", "none"])).contains("quick"));
}
