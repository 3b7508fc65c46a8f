//! Pictures and page: well-formed, complete, legible, and the same bytes every time.

use crate::made_up::MadeUp;
use crate::{experiment, made_up, report};
use std::collections::BTreeMap;
use std::path::Path;

/// Every file of a report but the runs.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for sub in ["", "plots", "confusion"].into_iter().filter(|sub| folder.join(sub).exists()) {
        for entry in std::fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_runs_give_the_same_bytes_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0, 1, 2]);
    made_up().write(folder.path(), &experiment);
    let with_threads = |threads: usize| {
        for run in faceoff_runs::list_runs(folder.path()).unwrap() {
            let _ = std::fs::remove_file(run.path().join("measured.json"));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| report(folder.path(), &experiment)).unwrap();
        files(folder.path())
    };
    let first = with_threads(1);
    assert!(first.len() > 20);
    for (name, bytes) in with_threads(3) {
        assert!(first[&name] == bytes, "{name} differs");
    }
}

#[test]
fn a_report_in_pieces_is_made_whole_and_leftovers_go() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0]);
    made_up().write(folder.path(), &experiment);
    report(folder.path(), &experiment).unwrap();
    let whole = files(folder.path());
    std::fs::remove_file(folder.path().join("index.html")).unwrap();
    std::fs::remove_file(folder.path().join("plots/accuracy.svg")).unwrap();
    std::fs::write(folder.path().join("metrics.csv"), "half").unwrap();
    std::fs::write(folder.path().join("plots/tsne_gone.svg"), "an earlier variant").unwrap();
    std::fs::write(folder.path().join("confusion/gone.csv"), "an earlier variant").unwrap();
    report(folder.path(), &experiment).unwrap();
    assert!(files(folder.path()) == whole);
}

#[test]
fn pictures_are_well_formed_and_name_every_class() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0, 1]);
    made_up().write(folder.path(), &experiment);
    report(folder.path(), &experiment).unwrap();
    let pictures: Vec<_> = files(folder.path()).into_iter().filter(|(name, _)| name.ends_with(".svg")).collect();
    assert!(pictures.len() >= 15, "{}", pictures.len());
    assert_legible(pictures, &made_up().classes);
}

/// Well-formed, letters of a readable size, nothing outside and nothing on top of each other; maps name every class.
pub(crate) fn assert_legible(pictures: Vec<(String, Vec<u8>)>, classes: &[String]) {
    for (name, bytes) in pictures {
        assert!(bytes.len() < 600_000, "{name}");
        let text = String::from_utf8(bytes).unwrap();
        let svg = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let root = svg.root_element();
        assert!(root.attribute("font-family").unwrap().ends_with("sans-serif"), "{name}");
        let texts: Vec<_> = svg.descendants().filter(|node| node.has_tag_name("text")).collect();
        assert!(!texts.is_empty(), "{name}");
        for node in &texts {
            assert!(node.attribute("font-size").unwrap().parse::<f64>().unwrap() >= 11.0, "{name}");
        }
        if ["plots/tsne", "plots/pca", "plots/confusion"].iter().any(|start| name.starts_with(start)) {
            for class in classes {
                assert!(texts.iter().any(|node| node.text() == Some(class)), "{name} lacks {class}");
            }
        }
        let (width, height) = (length(&root, "width"), length(&root, "height"));
        let boxes: Vec<_> = texts.iter().map(area).collect();
        for (index, a) in boxes.iter().enumerate() {
            let inside = a.x0 >= -1.0 && a.y0 >= -1.0 && a.x1 <= width + 1.0 && a.y1 <= height + 1.0;
            assert!(inside, "{name}: {:?} leaves the picture", texts[index].text());
            for (other, b) in boxes.iter().enumerate().skip(index + 1) {
                let overlap = a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;
                assert!(!overlap, "{name}: {:?} lies on {:?}", texts[index].text(), texts[other].text());
            }
        }
    }
}

fn length(node: &roxmltree::Node, name: &str) -> f64 {
    node.attribute(name).unwrap_or("0").parse().unwrap()
}

struct Area {
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
}

/// About where a text lies: half an em a character, capitals' height.
fn area(node: &roxmltree::Node) -> Area {
    let (x, y, size) = (length(node, "x"), length(node, "y"), length(node, "font-size"));
    let width = 0.5 * size * node.text().unwrap().chars().count() as f64;
    let start = match node.attribute("text-anchor") {
        None => x,
        Some("middle") => x - width / 2.0,
        Some(_) => x - width,
    };
    let flat = Area { x0: start, y0: y - 0.7 * size, x1: start + width, y1: y };
    match node.attribute("transform") {
        None => flat,
        // rotate(-90 cx cy): (x, y) -> (cx + y - cy, cy - x + cx)
        Some(turn) => {
            let numbers = turn.trim_start_matches("rotate(-90 ").trim_end_matches(')');
            let (cx, cy) = numbers.split_once(' ').unwrap();
            let (cx, cy): (f64, f64) = (cx.parse().unwrap(), cy.parse().unwrap());
            Area { x0: cx + flat.y0 - cy, x1: cx + flat.y1 - cy, y0: cy - flat.x1 + cx, y1: cy - flat.x0 + cx }
        }
    }
}

#[test]
fn the_page_stands_alone_and_shows_every_picture() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0]);
    made_up().write(folder.path(), &experiment);
    report(folder.path(), &experiment).unwrap();
    let text = assert_page_is_whole(folder.path());
    assert!(!text.contains("SYNTHETIC"));
    for said in [
        "Made up <by> \"tests\" & nothing else.",
        "A <small> CPU & more",
        "One seed has no interval",
        "Two <files> are byte-identical.",
        "Labels given",
        "0123abcd",
        "120 train, 80 validation",
        "2.5",
    ] {
        assert!(text.contains(said), "{said}");
    }
}

/// Well-formed, nothing from elsewhere; every link leads somewhere, every table is linked and every picture shown; every metric
/// has a definition. Returns what a reader sees.
pub(crate) fn assert_page_is_whole(folder: &Path) -> String {
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    for forbidden in ["http://", "https://", "<script", "url(", "@import"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    // Void elements aside, the page is XML: every tag closes.
    let body = page.split_once("<body>").unwrap().1.split_once("</body>").unwrap().0;
    let closed = body.replace("<br>", "<br/>").replace("loading=\"lazy\">", "loading=\"lazy\"/>");
    let xml = format!("<body>{closed}</body>");
    let page = roxmltree::Document::parse(&xml).unwrap();
    let elements = || page.descendants().filter(|node| node.is_element());
    let all = |name: &str| elements().filter_map(|node| node.attribute(name)).collect::<Vec<_>>();
    let ids = all("id");
    let [links, images] = ["href", "src"].map(|name| Vec::from_iter(all(name).into_iter().map(decoded)));
    assert!(ids.len() > 3);
    for (index, id) in ids.iter().enumerate() {
        assert!(!ids[..index].contains(id), "{id} stands twice");
        assert!(links.contains(&format!("#{id}")), "#{id} is not in the contents");
    }
    for link in &links {
        match link.strip_prefix('#') {
            Some(id) => assert!(ids.contains(&id), "{link} leads nowhere"),
            None => assert!(folder.join(link).is_file(), "{link} leads nowhere"),
        }
    }
    for name in files(folder).keys() {
        match name.rsplit('.').next().unwrap() {
            "csv" => assert!(links.contains(name), "{name} is not linked"),
            "svg" => assert!(images.contains(name), "{name} is not shown"),
            _ => (),
        }
    }
    assert_eq!(images.len(), all("alt").iter().filter(|alt| !alt.trim().is_empty()).count());
    let is_definition = |node: &roxmltree::Node<'_, '_>| node.attribute("class") == Some("def");
    assert!(elements().filter(is_definition).all(|node| node.text().is_some_and(|text| !text.is_empty())));
    page.descendants().filter(roxmltree::Node::is_text).filter_map(|node| node.text()).collect()
}

/// A link without its percent-encoding.
fn decoded(link: &str) -> String {
    let mut parts = link.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn synthetic_data_carry_a_banner() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = experiment(&[0]);
    experiment.data.synthetic =
        Some(faceoff_runs::SyntheticConfig { train_images: 120, val_images: 80, image_px: 32, seed: 0 });
    let experiment = experiment.on_synthetic();
    made_up().write(folder.path(), &experiment);
    report(folder.path(), &experiment).unwrap();
    let text = assert_page_is_whole(folder.path());
    assert!(text.contains("SYNTHETIC IMAGES.") && !text.contains("byte-identical"));
}

#[test]
fn many_classes_are_told_in_words_and_tables() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0]);
    let classes = (0..60).map(|class| format!("class {class}")).collect();
    MadeUp { classes, ..made_up() }.write(folder.path(), &experiment);
    report(folder.path(), &experiment).unwrap();
    let text = assert_page_is_whole(folder.path());
    assert_eq!(text.matches("60 classes: too many for cells that can be read.").count(), 2);
    let files = files(folder.path());
    assert!(!files.keys().any(|name| name.contains("confusion_") || name.contains("centers_")));
    assert!(files.contains_key("confusion/Classification.csv"));
}

#[test]
fn a_label_that_is_no_class_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0]);
    let mut data = made_up().data("x");
    data.classes.truncate(9);
    for spec in faceoff_runs::RunSpec::of(&experiment, &made_up::compute()) {
        made_up().write_run(folder.path(), &spec, &data);
    }
    let error = report(folder.path(), &experiment).unwrap_err().to_string();
    assert!(error.contains("label 9, but there are 9 classes"), "{error}");
}
