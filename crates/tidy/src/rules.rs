//! One test a rule. Tables of ARCHITECTURE.md are read as the rules themselves, so that page and test cannot disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Path from the root, with `/`, and text (empty where it is no text) of every file that is not made by running something.
static FILES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let mut files = BTreeMap::new();
    read_folder(Path::new(ROOT), "", &mut files);
    files
});

fn read_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let made = ["target", ".git", "data"].contains(&path.as_str())
            || path.ends_with("__pycache__")
            || prefix == "reports/" && path != "reports/README.md";
        if made {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), files);
        } else {
            files.insert(path, fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
}

fn ending(ending: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter(move |(path, _)| path.ends_with(ending)).map(|(path, text)| (&path[..], &text[..]))
}

/// A Rust source without comments and without its unit tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let comment = |line: &str| line.trim_start().starts_with("//").then_some(0).or(line.find(" //"));
    text.lines().map(|line| &line[..comment(line).unwrap_or(line.len())]).collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in `text` by itself, not as a part of a longer name.
fn mentions(text: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_name) && !text[at + word.len()..].starts_with(is_name))
}

/// What stands between backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn names<S: ToString>(words: impl IntoIterator<Item = S>) -> BTreeSet<String> {
    words.into_iter().map(|word| word.to_string()).collect()
}

/// Cells of the first table of ARCHITECTURE.md under a heading, without its head.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, text) = FILES["ARCHITECTURE.md"].split_once(heading).expect(heading);
    let rows = text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.trim_matches('|').split('|').collect()).collect()
}

/// Folder and manifest of every crate, the one at the root left out.
fn manifests() -> impl Iterator<Item = (&'static str, toml::Table)> {
    ending("/Cargo.toml").map(|(path, text)| (path.trim_end_matches("/Cargo.toml"), text.parse().expect(path)))
}

/// Names of a manifest's dependencies of these kinds.
fn dependencies(manifest: &toml::Table, kinds: &[&str]) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(|targets| targets.as_table()).into_iter().flatten();
    let tables = targets.filter_map(|(_, target)| target.as_table()).chain([manifest]);
    let of_a_kind = |table: &toml::Table| {
        let named = kinds.iter().filter_map(|&kind| table.get(kind)?.as_table());
        named.flat_map(|table| table.keys().cloned()).collect::<Vec<_>>()
    };
    tables.flat_map(of_a_kind).collect()
}

#[test]
fn crates_depend_on_each_other_as_the_table_says() {
    let row = |row: Vec<&'static str>| (quoted(row[0]).first().unwrap().to_string(), names(quoted(row[2])));
    let stated: BTreeMap<_, _> = table("## Crates").into_iter().map(row).collect();
    let own = |name: &String| name.starts_with("faceoff");
    let found: BTreeMap<_, _> = manifests()
        .map(|(folder, manifest)| {
            let own = dependencies(&manifest, &["dependencies"]).into_iter().filter(own);
            let name = folder.trim_start_matches("crates/").to_string();
            (name, names(own.map(|name| name.trim_start_matches("faceoff-").to_string())))
        })
        .collect();
    assert_eq!(found, stated, "left: the Cargo.toml files; right: the table of ARCHITECTURE.md");
}

#[test]
fn what_is_reserved_is_used_where_the_table_allows_it_and_nowhere_else() {
    let sources = ending(".rs").filter(|(path, _)| path.contains("/src/") && !path.contains("/tidy/"));
    let sources = Vec::from_iter(sources.map(|(path, text)| (path, code(text))));
    for row in table("## Reserved") {
        let (words, allowed) = (quoted(row[1]), quoted(row[2]));
        let mut used = BTreeSet::new();
        for (path, code) in &sources {
            let place = allowed.iter().find(|place| path.trim_start_matches("crates/").starts_with(**place));
            for word in words.iter().filter(|word| mentions(code, word)) {
                used.insert(*place.unwrap_or_else(|| panic!("{path} uses `{word}`: only {allowed:?} may")));
            }
        }
        assert_eq!(used, allowed, "the table of ARCHITECTURE.md names places that do not use {words:?}");
    }
}

#[test]
fn every_dependency_is_used_by_the_crate_that_names_it() {
    let (mut named, mut unused) = (BTreeSet::new(), Vec::new());
    for (folder, manifest) in manifests() {
        let sources = ending(".rs").filter(|(path, _)| path.starts_with(&format!("{folder}/")));
        let text = sources.map(|(_, text)| text).collect::<Vec<_>>().join("\n");
        for name in dependencies(&manifest, &["dependencies", "dev-dependencies", "build-dependencies"]) {
            // md-5 is md5 in code.
            if !["_", ""].iter().any(|dash| mentions(&text, &name.replace('-', dash))) {
                unused.push(format!("{folder}: {name}"));
            }
            named.insert(name);
        }
    }
    let root: toml::Table = FILES["Cargo.toml"].parse().unwrap();
    let listed = root["workspace"]["dependencies"].as_table().unwrap();
    unused.extend(listed.keys().filter(|name| !named.contains(*name)).map(|name| format!("root: {name}")));
    assert!(unused.is_empty(), "named in Cargo.toml and not used: {unused:#?}");
}

/// File and function, or trait, or macro, of every `unsafe` in the sources.
fn unsafe_places() -> BTreeSet<(String, String)> {
    let mut places = BTreeSet::new();
    for (path, text) in ending(".rs").filter(|(path, _)| path.contains("/src/") && !path.contains("/tidy/")) {
        let mut function = String::new();
        for line in code(text).lines() {
            let named = |before: &str| line.split_once(before).map(|(_, rest)| rest);
            let name = named("unsafe impl ").or(named("fn ")).or(named("macro_rules! "));
            let name = name.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
            // A type such as `fn(f32)` has no name.
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                function = name.into();
            }
            if mentions(line, "unsafe") {
                places.insert((path.trim_start_matches("crates/kernels/src/").to_string(), function.clone()));
            }
        }
    }
    places
}

#[test]
fn every_unsafe_stands_in_the_table_with_a_test_that_exists() {
    let rows = FILES["docs/unsafe.md"].lines().filter(|line| line.starts_with("| `"));
    let mut listed = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = |cell: &str| cell.split('`').nth(1).expect(row).to_string();
        listed.insert((name(cells[0]), name(cells[1])));
        let test = format!("fn {}(", name(cells[4]));
        assert!(ending(".rs").any(|(_, text)| text.contains(&test)), "docs/unsafe.md: no test `{test}`");
    }
    assert_eq!(unsafe_places(), listed, "left: in the sources; right: in docs/unsafe.md");
}

#[test]
fn every_source_says_what_it_is_for() {
    let silent = Vec::from_iter(ending(".rs").filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path));
    assert!(silent.is_empty(), "begin these with a line `//! ...`: {silent:#?}");
}

#[test]
fn no_merge_was_left_half_done() {
    let markers = ["<<<<<<< ", ">>>>>>> "];
    let marked = |text: &str| text.lines().any(|line| markers.iter().any(|marker| line.starts_with(marker)));
    let left = Vec::from_iter(FILES.iter().filter(|(_, text)| marked(text)).map(|(path, _)| path));
    assert!(left.is_empty(), "both sides of a merge stand in these: {left:#?}");
}

/// A heading's address within a page.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn relative_links_lead_somewhere() {
    for (page, text) in ending(".md") {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let page_file = Path::new(ROOT).join(page);
            let target = if file.is_empty() { page_file } else { page_file.parent().unwrap().join(file) };
            assert!(target.exists(), "{page} links to {link}, which does not exist");
            let heading = |line: &str| line.starts_with('#') && anchor(line.trim_start_matches('#')) == place;
            let leads = place.is_empty() || fs::read_to_string(target).unwrap().lines().any(heading);
            assert!(leads, "{page} links to {link}: no such heading");
        }
    }
}

/// The changelog names what was.
#[test]
fn files_and_experiments_that_documents_name_exist() {
    let ends = |path: &str, end: &str| path == end || path.ends_with(&format!("/{end}"));
    for (page, text) in ending(".md").filter(|(page, _)| *page != "CHANGELOG.md") {
        let is_path = |c: char| c.is_alphanumeric() || "._-/*<>{}$".contains(c);
        for word in text.split(|c| !is_path(c)).map(|word| word.trim_end_matches('.')) {
            let source = [".rs", ".py", ".sh", ".md", ".toml"].iter().any(|end| word.ends_with(end));
            let pattern = word.starts_with('.') || word.contains(['*', '<', '{', '$']);
            let exists = || FILES.keys().any(|path| ends(path, word));
            assert!(!source || pattern || exists(), "{page} names {word}, which does not exist");
        }
        let commands = text.split("xtask benchmark ").chain(text.split("xtask report ")).skip(1);
        for name in commands.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '-').next()) {
            let is_name = name.starts_with(char::is_lowercase) && !["and", "or", "on"].contains(&name);
            let exists = FILES.contains_key(&format!("experiments/{name}.toml"));
            assert!(!is_name || exists, "{page} runs experiment {name}, which does not exist");
        }
    }
}

#[test]
fn indexes_are_complete() {
    for (folder, ends, index) in [
        ("docs/", ".md", "docs/README.md"),
        ("scripts/", ".py", "scripts/README.md"),
        ("scripts/", ".sh", "scripts/README.md"),
        ("experiments/", ".toml", "README.md"),
    ] {
        for (path, _) in ending(ends).filter(|(path, _)| path.starts_with(folder) && *path != index) {
            let name = path.trim_start_matches(folder);
            let name = if ends == ".toml" { name.trim_end_matches(ends) } else { name };
            assert!(mentions(&FILES[index], name), "{index} does not name {path}");
        }
    }
}

#[test]
fn environment_variables_are_documented_and_read() {
    let names = |end: &str| {
        let ends_name = |c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_';
        let words = ending(end).flat_map(|(_, text)| text.split(ends_name));
        words.filter(|word| word.len() > 8 && word.starts_with("FACEOFF_")).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(".rs"), names(".md"), "left: in the sources; right: in the documents");
}
