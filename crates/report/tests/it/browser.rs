//! The page as a person uses it, in headless Chromium that is driven through its pipe: points, draws, filters, sorts, searches, narrows,
//! turns dark, prints. Nothing may reach for the network, complain in the console, leave the window, or be a barrier by axe-core.
//!
//! Without a browser the test says so and does nothing; `scripts/browser.sh` installs one.

use crate::images::Plain;
use crate::{Reported, experiment, made_up};
use faceoff_evaluation::Registry;
use faceoff_report::{Extras, write_report};
use faceoff_runs::{Experiment, RunFolder, RunSpec, SplitName};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const AXE: &str = include_str!("../axe/axe.min.js");

/// A page in a browser of its own.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    /// What went wrong on the page.
    problems: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None` where there is no browser.
    fn start() -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
        let is_there = |name: &&&str| {
            let found = Command::new("sh").args(["-c", "command -v \"$0\"", name]).stdout(Stdio::null()).status();
            found.is_ok_and(|status| status.success())
        };
        let name = names.iter().find(is_there)?;
        let profile = tempfile::tempdir().unwrap();
        // It hears on file 3 and answers on file 4; a shell puts the pipes there.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", name])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { child, to, from, session: None, last: 0, problems: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(String::from);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// One command and its result; what happens in between is looked at.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert!(bytes.pop() == Some(0), "the browser has ended at {method}");
            let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == json!(self.last) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            let what = &answer["params"];
            let url = what["request"]["url"].as_str().unwrap_or_default();
            let inside = ["file:", "data:", "blob:"].iter().any(|start| url.starts_with(start));
            match answer["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" if !inside => self.problems.push(format!("request: {url}")),
                "Runtime.exceptionThrown" | "Log.entryAdded" => self.problems.push(what.to_string()),
                "Runtime.consoleAPICalled" => self.problems.push(what["args"].to_string()),
                _ => (),
            }
        }
    }

    fn js(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    fn number(&mut self, expression: &str) -> f64 {
        let found = self.js(expression);
        found.as_f64().unwrap_or_else(|| panic!("{expression} is {found}"))
    }

    fn text(&mut self, selector: &str) -> String {
        let found = self.js(&format!("document.querySelector({selector:?}).textContent"));
        found.as_str().unwrap_or_default().to_string()
    }

    fn wait(&mut self, condition: &str) {
        let began = Instant::now();
        while self.js(&format!("Boolean({condition})")) != json!(true) {
            assert!(began.elapsed() < Duration::from_secs(60), "{condition} never came true; {:?}", self.problems);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn open(&mut self, page: &Path) {
        self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        self.wait("document.readyState === 'complete' && document.querySelector('h1')");
    }

    fn window(&mut self, width: usize, height: usize) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    fn mouse(&mut self, what: &str, (x, y): (f64, f64)) {
        let buttons = i32::from(what != "mouseMoved");
        let event = json!({"type": what, "x": x, "y": y, "button": if buttons > 0 { "left" } else { "none" }, "clickCount": buttons});
        self.call("Input.dispatchMouseEvent", event);
    }

    /// Left, top, width and height of an element that is scrolled into view.
    fn place(&mut self, selector: &str) -> [f64; 4] {
        let found = self.js(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center', behavior: 'instant'}}); \
             const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }})()"
        ));
        serde_json::from_value(found).unwrap()
    }

    /// Draws around a part of the large map, as shares of its sides.
    fn draw_around(&mut self, [left, top, right, bottom]: [f64; 4]) {
        let [x, y, width, height] = self.place("[data-large] canvas");
        let at = |u: f64, v: f64| (x + u * width, y + v * height);
        let corners = [at(left, top), at(right, top), at(right, bottom), at(left, bottom), at(left, top)];
        self.mouse("mouseMoved", corners[0]);
        self.mouse("mousePressed", corners[0]);
        let held = |(x, y): (f64, f64)| json!({"type": "mouseMoved", "x": x, "y": y, "button": "left", "buttons": 1});
        corners.iter().for_each(|&corner| _ = self.call("Input.dispatchMouseEvent", held(corner)));
        self.mouse("mouseReleased", corners[4]);
    }

    /// How many images are chosen.
    fn chosen(&mut self) -> usize {
        let text = self.text("[data-count]");
        text.split(' ').next().unwrap().replace(',', "").parse().unwrap_or_else(|_| panic!("{text}"))
    }

    fn choose(&mut self, input: &str, value: &str) {
        self.js(&format!(
            "(() => {{ const e = document.querySelector('[data-{input}]'); e.value = {value:?}; \
             e.dispatchEvent(new Event(e.matches('input') ? 'input' : 'change')); }})()"
        ));
    }

    /// No barrier that axe-core finds, nothing that leaves the window.
    fn assert_open_to_all(&mut self, what: &str) {
        self.js(AXE);
        let found = self
            .js("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(v => \
             `${v.id}: ${v.help} (${v.nodes.length}) ${v.nodes[0].html} ${v.nodes[0].failureSummary}`))");
        assert_eq!(found, json!([]), "{what}");
        let [wide, window] = ["document.documentElement.scrollWidth", "innerWidth"].map(|of| self.number(of));
        assert!(wide <= window, "{what}: the page is {wide} px wide in a window of {window}");
        assert!(self.problems.is_empty(), "{what}: {:#?}", self.problems);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Class names, and what files are named with, that a page must survive.
fn nasty() -> Vec<String> {
    let mut names: Vec<String> = [
        "<script>alert(1)</script>",
        "</script><img src=x onerror=alert(2)>",
        "\"double\", 'single' and `back`",
        "comma, semicolon; & ampersand",
        "\u{5DB}\u{5DC}\u{5D1} \u{5E8}\u{5D5}\u{5E2}\u{5D4}",
        "\u{0643}\u{0644}\u{0628} \u{202E}turned",
        "{{ braces }} ${code}",
        "\\u003c back \\ slash",
    ]
    .map(String::from)
    .into();
    names.push("long ".repeat(40));
    names.push("w".repeat(200));
    names
}

/// Runs with nasty names, and the ids of all images.
fn write_nasty(folder: &Path, experiment: &Experiment) -> Vec<String> {
    let classes = nasty();
    crate::made_up::MadeUp { classes: classes.clone() }.write(folder, experiment);
    let mut all = Vec::new();
    for spec in RunSpec::of(experiment, &crate::made_up::compute()) {
        let run = RunFolder::new(folder, &spec);
        let manifest = run.manifest().unwrap();
        for split in SplitName::ALL {
            let mut images = run.embeddings(&manifest, split).unwrap();
            for (index, id) in images.ids.iter_mut().enumerate() {
                *id = format!("{}/{}/{index}.JPEG", split.as_str(), classes[index % classes.len()].replace('/', "_"));
            }
            run.write_embeddings(split, &images).unwrap();
            all.extend(images.ids);
        }
        run.finish(&manifest).unwrap();
    }
    all
}

#[test]
fn the_page_is_used_as_a_person_would() {
    let Some(mut page) = Browser::start() else {
        eprintln!("no Chromium or Chrome is installed, so the page was not opened; scripts/browser.sh installs one");
        return;
    };
    let experiment = experiment(&[0, 1]);
    let folder = tempfile::tempdir().unwrap();
    let images = Plain(write_nasty(folder.path(), &experiment));
    let formulas = vec![("CosFace", "s (cos(theta) - m) < \"quoted\"")];
    let extras = Extras { formulas, thumbnails: Some(&images), ..Extras::default() };
    write_report(folder.path(), &experiment, &Registry::standard(), &extras, &|_| {}).unwrap();
    page.window(1280, 900);
    page.open(&folder.path().join("index.html"));
    page.wait("document.querySelector('.explorer:not([hidden])')");
    page.assert_open_to_all("as it opens");

    // Pointing lights the image up on every map and tells what each head says of it.
    let [x, y, width, height] = page.place("[data-large] canvas");
    let lit = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => \
               done(document.querySelectorAll('.ring:not([hidden])').length))))";
    for step in 0..400 {
        let share = |at: i32| (f64::from(at) + 0.5) / 20.0;
        page.mouse("mouseMoved", (x + share(step % 20) * width, y + share(step / 20) * height));
        if page.number(lit) > 0.0 {
            break;
        }
    }
    page.wait("!document.querySelector('.card.empty')");
    assert_eq!(page.number("document.querySelectorAll('.ring:not([hidden])').length"), 3.0);
    assert!(page.text(".card .mono").starts_with("val/"), "{}", page.text(".card .mono"));
    assert!(page.text(".card tbody td:nth-child(4)").contains(" of 10"));
    let same =
        "(() => { const at = e => e.style.transform; return document.querySelectorAll('.maps .ring').length })()";
    assert_eq!(page.number(same), 2.0);

    // Drawn around, filtered, searched.
    assert_eq!(page.chosen(), 80);
    page.draw_around([0.01, 0.01, 0.55, 0.99]);
    let half = page.chosen();
    assert!(half > 0 && half < 80, "{half}");
    assert!(page.text("[data-count]").contains("drawn around"));
    page.js("document.querySelector('[data-clear]').click()");
    assert_eq!(page.chosen(), 80);
    page.choose("class", "0");
    assert_eq!(page.chosen(), 8);
    page.choose("class", "");
    page.choose("search", "<script>");
    assert_eq!(page.chosen(), 8);
    page.choose("search", "");
    // Errors are those that the table of numbers counts.
    let metrics = std::fs::read_to_string(folder.path().join("metrics.csv")).unwrap();
    let right = |variant: &str| {
        let of = |line: &&str| {
            let cells: Vec<&str> = line.split(',').collect();
            cells[0] == variant && cells[2] == "0" && cells[3] == "dnn_accuracy"
        };
        let line = metrics.lines().find(of).unwrap();
        (80.0 * line.rsplit(',').next().unwrap().parse::<f64>().unwrap()).round() as usize
    };
    page.choose("show", "wrong");
    assert_eq!(page.chosen(), 80 - right("Classification"));
    page.choose("show", "sure");
    assert_eq!(page.chosen(), 80 - right("Classification"));
    page.choose("show", "ab");
    let first_alone = page.chosen();
    page.choose("a", "1");
    page.choose("b", "0");
    let second_alone = page.chosen();
    let gap = right("Classification") as i64 - right("cosface-s64") as i64;
    assert_eq!(first_alone as i64 - second_alone as i64, gap);
    page.choose("show", "split");
    assert!(page.chosen() >= first_alone + second_alone);
    page.assert_open_to_all("with images chosen");
    page.js("document.querySelector('[data-clear]').click()");

    // A cell of the confusion matrix has its images, and the keyboard steps through them.
    page.js("document.querySelector('[data-cells]').open = true");
    page.wait("document.querySelector('[data-cells] td button')");
    let cell = "[...document.querySelectorAll('[data-cells] td button')].at(-1)";
    let count = page.js(&format!("Number({cell}.textContent)")).as_f64().unwrap() as usize;
    page.js(&format!("{cell}.click()"));
    assert_eq!(page.chosen(), count);
    page.js("document.querySelector('[data-large] canvas').focus()");
    for kind in ["keyDown", "keyUp"] {
        page.call("Input.dispatchKeyEvent", json!({"type": kind, "key": "ArrowRight", "code": "ArrowRight"}));
    }
    page.wait("!document.querySelector('.card.empty')");
    for map in ["pca", "solid", "tsne"] {
        page.choose("map", map);
    }

    // Sorted by mouse and keyboard.
    let names = "[...document.querySelectorAll('.results tbody tr')].map(row => row.cells[0].textContent).join()";
    let before = page.js(names);
    let [x, y, width, height] = page.place(".results thead th:nth-child(2) button");
    for what in ["mouseMoved", "mousePressed", "mouseReleased"] {
        page.mouse(what, (x + width / 2.0, y + height / 2.0));
    }
    assert_ne!(page.js(names), before);
    page.js("document.querySelector('.results thead th:nth-child(2) button').focus()");
    for kind in ["keyDown", "keyUp"] {
        page.call(
            "Input.dispatchKeyEvent",
            json!({"type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}),
        );
    }
    assert_eq!(page.js(names), before);
    assert_eq!(page.js("document.querySelectorAll('.results [aria-sort]').length"), json!(1));

    // Dark, narrow, printed.
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    page.call("Emulation.setEmulatedMedia", dark);
    page.wait("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 28)'");
    page.js("document.querySelectorAll('details').forEach(details => { details.open = true; })");
    page.assert_open_to_all("in the dark");
    page.call("Emulation.setEmulatedMedia", json!({"features": []}));
    page.window(390, 800);
    page.assert_open_to_all("on a phone");
    let end = page.number("document.querySelector('.results tbody td').getBoundingClientRect().right");
    assert!(end <= 390.0, "the first number of the results ends at {end}");
    let printed = page.call("Page.printToPDF", json!({}));
    assert!(printed["data"].as_str().is_some_and(|data| data.len() > 10_000));
    assert!(page.problems.is_empty(), "{:#?}", page.problems);
}

#[test]
fn without_thumbnails_and_with_one_head_the_page_opens_too() {
    let Some(mut page) = Browser::start() else { return };
    let made = Reported::written(&experiment(&[0]), |folder| {
        let experiment = experiment(&[0]);
        for spec in RunSpec::of(&experiment, &crate::made_up::compute()).iter().take(1) {
            made_up().write_run(folder, spec, &made_up().data("x"));
        }
    });
    page.window(1280, 900);
    page.open(&made.path("index.html"));
    page.wait("document.querySelector('.explorer:not([hidden])')");
    page.assert_open_to_all("one head");
}
