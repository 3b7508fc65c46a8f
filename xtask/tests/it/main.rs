//! `cargo xtask` hands Faceoff's commands on, with the folders of the workspace.

use std::path::Path;
use std::process::{Command, Output};

fn xtask(folder: &str, arguments: &[&str]) -> Output {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = env!("CARGO_BIN_EXE_xtask");
    Command::new(program).args(arguments).current_dir(workspace.join(folder)).output().unwrap()
}

#[test]
fn the_commands_use_the_workspace_from_each_of_its_folders() {
    let output = xtask("crates/runs/src", &["experiment", "show", "smoke"]);
    let (text, message) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("name = \"smoke\""), "{message}");
    let file = Path::new("experiments/smoke.toml");
    assert!(message.trim_end().ends_with(&file.display().to_string()), "{message}");
}

#[test]
fn commands_to_type_are_those_of_xtask() {
    let folder = tempfile::tempdir().unwrap();
    let output = xtask("", &["report", "smoke", "--out", folder.path().to_str().unwrap()]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("with: cargo xtask benchmark smoke"), "{message}");
    let output = xtask("", &["benchmark", "smoke", "--device", "metal"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("cargo xtask-metal benchmark --device metal"), "{message}");
    let help = xtask("", &["--help"]).stdout;
    let help = String::from_utf8_lossy(&help);
    assert!(help.contains("cargo xtask") && help.contains("bench ") && help.contains("benchmark "), "{help}");
}
