//! Pictures and page: well-formed, complete, legible, and the same bytes every time.

use crate::made_up::MadeUp;
use crate::{Reported, experiment, experiment_with, made_up, report};
use faceoff_runs::{Manifest, RunFolder, RunSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// Every file of a report but the runs.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for sub in ["", "plots", "confusion"].into_iter().filter(|sub| folder.join(sub).exists()) {
        for entry in std::fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            // The list of the report's files is no part of it.
            if path.is_file() && !name.starts_with('.') {
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_runs_give_the_same_bytes_for_any_number_of_threads() {
    let experiment = experiment(&[0, 1, 2]);
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Reported::of(&experiment)).files()
    };
    let first = with_threads(1);
    assert!(first.len() > 20);
    for (name, bytes) in with_threads(3) {
        assert!(first[&name] == bytes, "{name} differs");
    }
}

#[test]
fn a_report_in_pieces_is_made_whole_and_leftovers_go() {
    let experiment = experiment(&[0]);
    let made = Reported::of(&experiment);
    let whole = made.files();
    std::fs::remove_file(made.path("index.html")).unwrap();
    std::fs::remove_file(made.path("plots/accuracy.svg")).unwrap();
    for leftover in ["metrics.csv", "plots/tsne_gone.svg", "confusion/gone.csv", "trials.csv"] {
        std::fs::write(made.path(leftover), "half, or of an earlier variant").unwrap();
        let list = std::fs::read_to_string(made.path(".faceoff-files")).unwrap();
        std::fs::write(made.path(".faceoff-files"), format!("{list}{leftover}\n")).unwrap();
    }
    report(made.folder.path(), &experiment).unwrap();
    assert!(made.files() == whole);
}

#[test]
fn pictures_are_well_formed_and_name_every_class() {
    let pictures = Reported::of(&experiment(&[0, 1])).pictures();
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
            let inside = a[0] >= -1.0 && a[1] >= -1.0 && a[2] <= width + 1.0 && a[3] <= height + 1.0;
            assert!(inside, "{name}: {:?} leaves the picture", texts[index].text());
            for (other, b) in boxes.iter().enumerate().skip(index + 1) {
                let overlap = a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
                assert!(!overlap, "{name}: {:?} lies on {:?}", texts[index].text(), texts[other].text());
            }
        }
    }
}

fn length(node: &roxmltree::Node, name: &str) -> f64 {
    node.attribute(name).unwrap_or("0").parse().unwrap()
}

/// Left, top, right, bottom.
type Area = [f64; 4];

/// About where a text lies: half an em a character, capitals' height.
fn area(node: &roxmltree::Node) -> Area {
    let (x, y, size) = (length(node, "x"), length(node, "y"), length(node, "font-size"));
    let width = 0.5 * size * node.text().unwrap().chars().count() as f64;
    let start = match node.attribute("text-anchor") {
        None => x,
        Some("middle") => x - width / 2.0,
        Some(_) => x - width,
    };
    let (end, top) = (start + width, y - 0.7 * size);
    match node.attribute("transform") {
        None => [start, top, end, y],
        // rotate(-90 cx cy): (x, y) -> (cx + y - cy, cy - x + cx)
        Some(turn) => {
            let numbers = turn.trim_start_matches("rotate(-90 ").trim_end_matches(')');
            let (cx, cy) = numbers.split_once(' ').unwrap();
            let (cx, cy): (f64, f64) = (cx.parse().unwrap(), cy.parse().unwrap());
            [cx + top - cy, cy - end + cx, cx + y - cy, cy - start + cx]
        }
    }
}

#[test]
fn the_page_stands_alone_and_shows_every_picture() {
    let text = assert_page_is_whole(Reported::of(&experiment(&[0])).folder.path());
    assert!(!text.contains("SYNTHETIC"));
    for said in [
        "Made up <by> \"tests\" & nothing else.",
        "A <small> CPU & more",
        "One seed has no interval",
        "Two <files> are byte-identical.",
        "Labels given",
        "0123abcd",
        "2026-03-01",
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
    // Modules of d3 name addresses, in comments and as namespaces of XML; that they ask for nothing is seen in browsers.
    let modules = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/d3")).unwrap();
    let modules = modules.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let own = modules.fold(page.clone(), |page, module| page.replace(&module, ""));
    for forbidden in ["http://", "https://", "<script src", "url(", "@import", "fetch(", "XMLHttpRequest", "import("] {
        assert!(!own.contains(forbidden), "{forbidden}");
    }
    let page = without_scripts(&page);
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

/// The page as one sees it where no script runs.
fn without_scripts(page: &str) -> String {
    let mut pieces = page.split("<script");
    let first = pieces.next().unwrap_or_default().to_string();
    pieces.fold(first, |text, piece| text + piece.split_once("</script>").expect("every script ends").1)
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
fn runs_without_a_date_are_counted_apart() {
    let experiment = experiment(&[0, 1]);
    let mut dates = [Some("2026-03-01T23:59:59Z"), Some("2026-03-04T00:00:00Z"), None, None].into_iter();
    let made = Reported::written(&experiment, |folder| {
        made_up().write(folder, &experiment);
        for (spec, finished) in RunSpec::of(&experiment, &made_up::compute()).iter().zip(dates.by_ref()) {
            let run = RunFolder::new(folder, spec);
            let manifest = run.manifest().unwrap();
            run.finish(&Manifest { finished: finished.map(String::from), ..manifest }).unwrap();
        }
    });
    assert!(dates.next().is_none());
    assert!(made.text("index.html").contains("2026-03-01 to 2026-03-04<br>not noted for 2 runs"));
}

#[test]
fn each_confusion_matrix_is_linked_with_its_own_table() {
    let odd = "[[heads]]\nname = \"odd.svg\"\nkind = \"CosFace\"\nscale = 30.0\nmargin_cosine = 0.35";
    let text = Reported::of(&experiment_with(&[0], odd)).text("index.html");
    for name in ["Classification", "cosface-s64", "odd.svg"] {
        let picture = format!("href=\"plots/confusion_{name}.svg\"");
        let figure = text.split("<figure").find(|figure| figure.contains(&picture)).unwrap();
        let table = format!("href=\"confusion/{name}.csv\"");
        assert!(figure.contains(&table) && figure.matches(".csv\"").count() == 1, "{figure}");
    }
}

#[test]
fn one_training_each_is_said_only_of_heads_that_all_have_one() {
    let experiment = experiment(&[0, 1, 2]);
    let of = |left_out: fn(&RunSpec) -> bool| {
        let made = Reported::written(&experiment, |folder| {
            for spec in RunSpec::of(&experiment, &made_up::compute()).iter().filter(|spec| !left_out(spec)) {
                made_up().write_run(folder, spec, &made_up().data("x"));
            }
        });
        let text = made.text("index.html");
        ["one training each", "; too few seeds for a test.", "; nothing is tested."]
            .map(|caution| text.contains(caution))
    };
    assert_eq!(of(|spec| spec.seed > 0), [true, false, false]);
    assert_eq!(of(|spec| spec.seed > 0 && spec.variant.name == "cosface-s64"), [false, true, false]);
    assert_eq!(of(|_| false), [false, false, true]);
}

#[test]
fn synthetic_data_carry_a_banner() {
    let text = assert_page_is_whole(Reported::of(&experiment(&[0]).on_synthetic()).folder.path());
    assert!(text.contains("SYNTHETIC IMAGES.") && !text.contains("byte-identical"));
}

#[test]
fn many_classes_are_told_in_words_and_tables() {
    let experiment = experiment(&[0]);
    let many = MadeUp { classes: (0..60).map(|class| format!("class {class}")).collect() };
    let made = Reported::written(&experiment, |folder| many.write(folder, &experiment));
    let text = assert_page_is_whole(made.folder.path());
    assert_eq!(text.matches("60 classes: too many for cells that can be read.").count(), 2);
    let files = made.files();
    assert!(!files.keys().any(|name| name.contains("centers_")));
    // Of so many the most confused ones are drawn, and the most frequent ones named.
    let svg = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let named = |svg: &str| (0..60).filter(|class| svg.contains(&format!(">class {class}<"))).count();
    let (matrix, map) = (named(&svg("plots/confusion_all.svg")), named(&svg("plots/tsne_Classification.svg")));
    assert!((2..=20).contains(&matrix) && map == 20, "{matrix} {map}");
    assert!(svg("plots/tsne_Classification.svg").contains("40 other classes"));
    assert!(text.contains("those of the pairs that all heads together confuse most often"));
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
