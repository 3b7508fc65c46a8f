//! The answer in words follows from the numbers, and nothing is called best that no test says so of.

use crate::pages::assert_page_is_whole;
use crate::{Reported, experiment};
use faceoff_evaluation::answer::Answer;

fn answer(made: &Reported) -> &Answer {
    let [answer] = &made.summary.answers[..] else { panic!("one condition, one answer") };
    answer
}

#[test]
fn one_seed_decides_nothing_and_marks_nothing() {
    let made = Reported::of(&experiment(&[0]));
    let answer = answer(&made);
    assert!(!answer.decided && !answer.tested);
    assert!(answer.sentences[0].starts_with("Not decided: with one seed"), "{:?}", answer.sentences);
    assert!(answer.sentences[1].contains("guessing gives 10.0 %"), "{:?}", answer.sentences);
    assert!(answer.sentences.last().unwrap().contains("--seeds 0-4"), "{:?}", answer.sentences);
    let page = made.text("index.html");
    assert!(!page.contains("<tr class=\"best\">") && page.contains("not testable with one seed"));
    let text = assert_page_is_whole(made.folder.path());
    for sentence in &answer.sentences {
        assert!(text.contains(sentence), "{sentence}");
    }
}

#[test]
fn a_clear_difference_over_seeds_is_decided_and_marked() {
    let made = Reported::of(&experiment(&[0, 1, 2, 3, 4]));
    let answer = answer(&made);
    // Made-up runs are the better, the longer the variant's name.
    let names: Vec<&str> = answer.standings.iter().map(|s| made.summary.rows[s.variant].variant.as_str()).collect();
    assert_eq!(answer.standings[0].behind, 0.0);
    assert!(answer.standings[1].behind > 0.0);
    let page = made.text("index.html");
    let rows: Vec<&str> = page.match_indices("<tr class=\"best\">").map(|(at, _)| &page[at..at + 120]).collect();
    if answer.decided {
        assert!(answer.sentences[0].starts_with("Decided: by KNN accuracy"), "{:?}", answer.sentences);
        assert!(rows.len() == 1 && rows[0].contains(names[0]), "{rows:?}");
    } else {
        assert!(answer.sentences[0].starts_with("Not decided"), "{:?}", answer.sentences);
        assert_eq!(rows.len(), 2, "{rows:?}");
    }
    assert!(answer.tested);
}
