//! Files of others in this crate are those whose checksums stand beside them, and a page that carries them carries their licences.

use crate::{Reported, experiment};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// Every script in a folder has its SHA-256 in the line of `README.md`, or in the only one, that names it.
fn assert_checksums(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let scripts: BTreeSet<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "js")).collect();
    assert!(!scripts.is_empty(), "{}", folder.display());
    for path in scripts {
        let name = path.file_name().unwrap().to_str().unwrap();
        let found: String =
            Sha256::digest(std::fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        let is_stated = readme.lines().any(|line| line.contains(&format!("`{name}`")) && line.contains(&found));
        assert!(is_stated, "README.md has no line with `{name}` and its checksum {found}");
    }
}

#[test]
fn vendored_scripts_have_the_checksums_beside_them() {
    assert_checksums("assets/d3");
    assert_checksums("tests/axe");
}

#[test]
fn a_page_carries_the_licences_of_its_scripts() {
    let page = Reported::of(&experiment(&[0])).text("index.html");
    for licence in [include_str!("../../assets/d3/LICENSE"), include_str!("../../assets/d3/LICENSE-ease")] {
        assert!(page.contains(licence.trim()));
    }
}
