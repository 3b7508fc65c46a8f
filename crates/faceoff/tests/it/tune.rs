//! The search for settings: what it writes can be run, and bad input changes nothing.

use crate::{benchmark, complaint, experiment, report, stdout, succeed, tune, two_heads};

#[test]
fn the_experiment_that_a_search_writes_can_be_run() {
    let (folder, experiment, out) = two_heads("pair");
    let table = stdout(&succeed(&mut tune(&experiment, &out)));
    assert!(table.contains("AdaCos") && table.contains("tuned.toml"), "{table}");
    let tuned = out.join("tuned.toml");
    let text = std::fs::read_to_string(&tuned).unwrap();
    assert!(text.contains("exploratory") && text.contains("no validation image was seen"), "{text}");
    assert_eq!(text.matches("\n[[trials]]\n").count(), 4, "{text}");
    assert_eq!(text.matches("chosen = true").count(), 2, "{text}");

    // A search that is done writes the same again; what someone changed is not overwritten.
    succeed(&mut tune(&experiment, &out));
    assert_eq!(std::fs::read_to_string(&tuned).unwrap(), text);
    let changed = format!("{text}# mine\n");
    std::fs::write(&tuned, &changed).unwrap();
    let message = complaint(&mut tune(&experiment, &out));
    assert!(message.contains("--force"), "{message}");
    assert_eq!(std::fs::read_to_string(&tuned).unwrap(), changed);
    // A search that has yet to begin is refused before anything is trained.
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("tuned.toml"), "mine").unwrap();
    let message = complaint(&mut tune(&experiment, &other));
    assert!(message.contains("--force") && !other.join("tune-pair").exists(), "{message}");

    succeed(&mut benchmark(&tuned, &out));
    let page = std::fs::read_to_string(out.join("tuned/index.html")).unwrap();
    assert!(page.contains("same budget of trials"), "the page does not mention the trials");
    succeed(&mut report(&tuned, &out));
}

#[test]
fn a_search_without_budget_says_where_to_find_one() {
    let (_folder, path, out) = experiment("none", |text| {
        let (start, end) = (text.find("[tuning]").unwrap(), text.find("[[heads]]").unwrap());
        format!("{}{}", &text[..start], &text[end..])
    });
    let message = complaint(&mut tune(&path, &out));
    assert!(message.contains("[tuning]") && message.contains("experiment show quick"), "{message}");
    let (_folder, path, out) = two_heads("pair");
    let message = complaint(tune(&path, &out).args(["--file", "tuned.txt"]));
    assert!(!out.exists(), "{message}");
}
