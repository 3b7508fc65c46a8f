//! `cargo xtask` hands Faceoff's commands on, with the folders of the workspace.

use std::path::Path;
use std::process::Command;

/// Whether the program succeeds when it is started in a folder of the workspace, and what it prints and says.
fn xtask(folder: &str, arguments: &[&str]) -> (bool, String, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).current_dir(folder).output().unwrap();
    let [text, message] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.success(), text, message)
}

#[test]
fn the_commands_use_the_workspace_from_each_of_its_folders() {
    let (success, text, message) = xtask("crates/runs/src", &["experiment", "show", "smoke"]);
    assert!(success && text.contains("name = \"smoke\""), "{message}");
    let file = Path::new("experiments/smoke.toml");
    assert!(message.trim_end().ends_with(&file.display().to_string()), "{message}");
}

#[test]
fn commands_to_type_are_those_of_xtask() {
    let folder = tempfile::tempdir().unwrap();
    let (success, _, message) = xtask("", &["report", "smoke", "--out", folder.path().to_str().unwrap()]);
    assert!(!success && message.contains("with: cargo xtask benchmark smoke"), "{message}");
    let (_, _, message) = xtask("", &["benchmark", "smoke", "--device", "metal"]);
    assert!(message.contains("cargo xtask-metal benchmark --device metal"), "{message}");
    let (_, help, _) = xtask("", &["--help"]);
    assert!(help.contains("cargo xtask") && help.contains("bench ") && help.contains("benchmark "), "{help}");
}
