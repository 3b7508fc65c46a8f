//! The page as a person uses it, in headless Chromium (driven through its pipe) and headless Firefox (through its Marionette port): points,
//! draws, filters, sorts, searches, narrows, turns dark, prints. Nothing may reach for the network, complain in the console, leave the
//! window, or be a barrier by axe-core.
//!
//! Without a browser the test says so and does nothing; `scripts/browser.sh` installs them.

use crate::images::Plain;
use crate::{Reported, experiment, experiment_with, made_up};
use faceoff_evaluation::Registry;
use faceoff_report::{Extras, write_report};
use faceoff_runs::{Experiment, RunFolder, RunSpec, SplitName};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const AXE: &str = include_str!("../axe/axe.min.js");

/// What a mouse does at a place.
#[derive(Clone, Copy, PartialEq)]
enum Mouse {
    Moved,
    Pressed,
    /// Moved with its button down.
    Held,
    Released,
}

/// A page in a browser of its own.
trait Browser {
    fn name(&self) -> &'static str;

    /// Goes to a page and waits until it is there.
    fn go(&mut self, url: &str);

    /// The value of an expression, awaited.
    fn js(&mut self, expression: &str) -> Value;

    /// Sets the inner size of the window.
    fn window(&mut self, width: usize, height: usize);

    fn mouse(&mut self, what: Mouse, at: (f64, f64));

    /// Presses and releases a key that [`KEYS`] names.
    fn key(&mut self, name: &str);

    /// Presses a key, or releases it.
    fn hold(&mut self, name: &str, is_down: bool);

    /// Turns the wheel; upwards is negative.
    fn wheel(&mut self, at: (f64, f64), down: f64);

    /// Pages opened from now on are on a screen that knows fingers.
    fn has_fingers(&mut self);

    /// Puts fingers down, moves them, and lifts them: where each is at every step.
    fn fingers(&mut self, steps: &[Vec<(f64, f64)>]);

    fn dark(&mut self, is_dark: bool);

    /// Bytes of the PDF in base64.
    fn printed(&mut self) -> usize;

    /// What went wrong on the page so far: complaints, and requests to elsewhere.
    fn problems(&mut self) -> Vec<String>;

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
            assert!(began.elapsed() < Duration::from_secs(60), "{condition} never came true; {:?}", self.problems());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn open(&mut self, page: &Path) {
        self.go(&format!("file://{}", page.display()));
        self.wait("document.readyState === 'complete' && document.querySelector('h1')");
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
        self.mouse(Mouse::Moved, corners[0]);
        self.mouse(Mouse::Pressed, corners[0]);
        corners.iter().for_each(|&corner| self.mouse(Mouse::Held, corner));
        self.mouse(Mouse::Released, corners[4]);
        self.rest();
    }

    fn click(&mut self, selector: &str) {
        let [x, y, width, height] = self.place(selector);
        let middle = (x + width / 2.0, y + height / 2.0);
        [Mouse::Moved, Mouse::Pressed, Mouse::Released].into_iter().for_each(|what| self.mouse(what, middle));
    }

    /// Presses at a place, moves to another and lets go.
    fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.mouse(Mouse::Moved, from);
        self.mouse(Mouse::Pressed, from);
        self.mouse(Mouse::Held, to);
        self.mouse(Mouse::Released, to);
        self.rest();
    }

    /// Waits as no person could act faster: a click that follows a drag at once counts as its end.
    fn rest(&mut self) {
        self.js("new Promise(done => setTimeout(done, 100))");
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
        self.js(&format!("{AXE}\n;0"));
        let found = self
            .js("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(v => \
             `${v.id}: ${v.help} (${v.nodes.length}) ${v.nodes[0].html} ${v.nodes[0].failureSummary}`))");
        let name = self.name();
        assert_eq!(found, json!([]), "{name}, {what}");
        let [wide, window] = ["document.documentElement.scrollWidth", "innerWidth"].map(|of| self.number(of));
        assert!(wide <= window, "{name}, {what}: the page is {wide} px wide in a window of {window}");
        assert_eq!(self.problems(), [""; 0], "{name}, {what}");
    }
}

/// Keys by name: code in Chromium, its number there, its bit as a modifier, and letter of WebDriver.
const KEYS: [(&str, &str, u32, u32, &str); 6] = [
    ("ArrowRight", "ArrowRight", 39, 0, "\u{E014}"),
    ("Enter", "Enter", 13, 0, "\u{E007}"),
    ("+", "NumpadAdd", 107, 0, "+"),
    ("0", "Digit0", 48, 0, "0"),
    ("Control", "ControlLeft", 17, 2, "\u{E009}"),
    ("Shift", "ShiftLeft", 16, 8, "\u{E008}"),
];

fn key_of(name: &str) -> (&'static str, &'static str, u32, u32, &'static str) {
    *KEYS.iter().find(|key| key.0 == name).unwrap_or_else(|| panic!("{name} is not known here"))
}

/// Every browser that is installed, each with an empty page; says what is missing.
fn browsers() -> Vec<Box<dyn Browser>> {
    let chromium = Chromium::start().map(|browser| Box::new(browser) as Box<dyn Browser>);
    let firefox = Firefox::start().map(|browser| Box::new(browser) as Box<dyn Browser>);
    for (name, found) in [("Chromium or Chrome", &chromium), ("Firefox", &firefox)] {
        if found.is_none() {
            eprintln!("no {name} is installed, so the page was not opened in it; scripts/browser.sh installs one");
        }
    }
    chromium.into_iter().chain(firefox).collect()
}

/// The first of these programs that is there.
fn program<'a>(names: &[&'a str]) -> Option<&'a str> {
    let is_there = |name: &&&str| {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", name]).stdout(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    names.iter().find(is_there).copied()
}

/// A browser's process, which ends with it, also where it does not get as far as a page.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

struct Chromium {
    _child: Running,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    /// Keys that are held.
    modifiers: u32,
    problems: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let name = program(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"])?;
        let profile = tempfile::tempdir().unwrap();
        // It hears on file 3 and answers on file 4; a shell puts the pipes there.
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", name])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"])
            // Without it the processor plays WebGL too, with a complaint.
            .arg("--enable-unsafe-swiftshader")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Running(child.unwrap());
        let (to, from) = (child.0.stdin.take().unwrap(), BufReader::new(child.0.stdout.take().unwrap()));
        let mut browser = Self {
            _child: child,
            to,
            from,
            session: None,
            last: 0,
            modifiers: 0,
            problems: Vec::new(),
            _profile: profile,
        };
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
}

impl Browser for Chromium {
    fn name(&self) -> &'static str {
        "Chromium"
    }

    fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
    }

    fn js(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    fn window(&mut self, width: usize, height: usize) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    fn mouse(&mut self, what: Mouse, (x, y): (f64, f64)) {
        let (kind, button, buttons, count) = match what {
            Mouse::Moved => ("mouseMoved", "none", 0, 0),
            Mouse::Pressed => ("mousePressed", "left", 1, 1),
            Mouse::Held => ("mouseMoved", "left", 1, 0),
            Mouse::Released => ("mouseReleased", "left", 0, 1),
        };
        let mut event =
            json!({"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": count});
        event["modifiers"] = json!(self.modifiers);
        self.call("Input.dispatchMouseEvent", event);
    }

    fn key(&mut self, name: &str) {
        [true, false].into_iter().for_each(|is_down| self.hold(name, is_down));
    }

    fn hold(&mut self, name: &str, is_down: bool) {
        let (_, code, number, modifier, _) = key_of(name);
        self.modifiers = if is_down { self.modifiers | modifier } else { self.modifiers & !modifier };
        let kind = if is_down { "keyDown" } else { "keyUp" };
        let mut event = json!({"type": kind, "key": name, "code": code, "windowsVirtualKeyCode": number});
        event["modifiers"] = json!(self.modifiers);
        match name {
            "Enter" => event["text"] = json!("\r"),
            "+" | "0" => event["text"] = json!(name),
            _ => (),
        }
        self.call("Input.dispatchKeyEvent", event);
    }

    fn wheel(&mut self, (x, y): (f64, f64), down: f64) {
        let mut event = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": down});
        event["modifiers"] = json!(self.modifiers);
        self.call("Input.dispatchMouseEvent", event);
    }

    fn has_fingers(&mut self) {
        self.call("Emulation.setTouchEmulationEnabled", json!({"enabled": true, "maxTouchPoints": 2}));
    }

    fn fingers(&mut self, steps: &[Vec<(f64, f64)>]) {
        for (index, step) in steps.iter().enumerate() {
            let kind = if index == 0 { "touchStart" } else { "touchMove" };
            let points = step.iter().enumerate().map(|(id, (x, y))| json!({"x": x, "y": y, "id": id}));
            let points: Vec<Value> = points.collect();
            self.call("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points}));
        }
        self.call("Input.dispatchTouchEvent", json!({"type": "touchEnd", "touchPoints": []}));
    }

    fn dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", media);
    }

    fn printed(&mut self) -> usize {
        self.call("Page.printToPDF", json!({}))["data"].as_str().map_or(0, str::len)
    }

    fn problems(&mut self) -> Vec<String> {
        self.problems.clone()
    }
}

struct Firefox {
    _child: Running,
    port: BufReader<TcpStream>,
    last: u64,
    _profile: tempfile::TempDir,
}

impl Firefox {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let name = program(&["firefox", "firefox-esr"])?;
        let profile = tempfile::tempdir().unwrap();
        // A port that is free, which it writes into its profile; nothing of its own from the network.
        let settings = "user_pref(\"marionette.port\", 0);\nuser_pref(\"network.proxy.type\", 1);\nuser_pref(\"network.proxy.http\", \"127.0.0.1\");\n\
             user_pref(\"network.proxy.http_port\", 9);\nuser_pref(\"network.proxy.ssl\", \"127.0.0.1\");\nuser_pref(\"network.proxy.ssl_port\", 9);\n";
        std::fs::write(profile.path().join("user.js"), settings).unwrap();
        let child = Command::new(name)
            .args(["--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile"])
            .arg(profile.path())
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = Running(child.unwrap());
        let began = Instant::now();
        let port: u16 = loop {
            let text = std::fs::read_to_string(profile.path().join("MarionetteActivePort")).unwrap_or_default();
            match text.trim().parse() {
                Ok(port) => break port,
                Err(_) => assert!(began.elapsed() < Duration::from_secs(120), "Firefox opens no port"),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let port = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
        let mut browser = Self { _child: child, port, last: 0, _profile: profile };
        browser.read();
        browser.call("WebDriver:NewSession", json!({}));
        // Its first page lets no script in.
        browser.go("about:blank");
        // A window may be as narrow as a phone.
        browser.chrome("document.documentElement.style.minWidth = '0'");
        Some(browser)
    }

    /// A message: its length, a colon, JSON.
    fn read(&mut self) -> Value {
        let mut length = Vec::new();
        self.port.read_until(b':', &mut length).unwrap();
        let length = std::str::from_utf8(&length).unwrap().trim_end_matches(':').parse().expect("Firefox has ended");
        let mut bytes = vec![0; length];
        self.port.read_exact(&mut bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn call(&mut self, command: &str, parameters: Value) -> Value {
        self.last += 1;
        let message = json!([0, self.last, command, parameters]).to_string();
        self.port.get_mut().write_all(format!("{}:{message}", message.len()).as_bytes()).unwrap();
        let mut answer = self.read();
        assert!(answer[2].is_null(), "{command} {parameters}: {}", answer[2]);
        answer[3].take()
    }

    /// A script in the browser itself.
    fn chrome(&mut self, script: &str) -> Value {
        self.call("Marionette:SetContext", json!({"value": "chrome"}));
        let found = self.call("WebDriver:ExecuteScript", json!({"script": script, "args": []}))["value"].take();
        self.call("Marionette:SetContext", json!({"value": "content"}));
        found
    }

    /// What devices do, at the same time.
    fn act(&mut self, devices: Value) {
        self.call("WebDriver:PerformActions", json!({"actions": devices}));
    }
}

impl Browser for Firefox {
    fn name(&self) -> &'static str {
        "Firefox"
    }

    fn go(&mut self, url: &str) {
        self.call("WebDriver:Navigate", json!({"url": url}));
    }

    fn js(&mut self, expression: &str) -> Value {
        let script = json!({"script": "return window.eval(arguments[0])", "args": [expression]});
        self.call("WebDriver:ExecuteScript", script)["value"].take()
    }

    fn window(&mut self, width: usize, height: usize) {
        // What is asked for is the outer size; the first attempt says how much the frame takes.
        let mut frame = [0, 0];
        for _ in 0..2 {
            let size = json!({"width": width + frame[0], "height": height + frame[1]});
            self.call("WebDriver:SetWindowRect", size);
            let inner = ["innerWidth", "innerHeight"].map(|of| self.number(of) as usize);
            frame = [width.saturating_sub(inner[0]), height.saturating_sub(inner[1])];
        }
    }

    fn mouse(&mut self, what: Mouse, (x, y): (f64, f64)) {
        let mut steps = vec![json!({"type": "pointerMove", "x": x.round(), "y": y.round(), "duration": 0})];
        match what {
            Mouse::Pressed => steps.push(json!({"type": "pointerDown", "button": 0})),
            Mouse::Released => steps.push(json!({"type": "pointerUp", "button": 0})),
            Mouse::Moved | Mouse::Held => (),
        }
        let mouse = json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps});
        self.act(json!([mouse]));
    }

    fn key(&mut self, name: &str) {
        [true, false].into_iter().for_each(|is_down| self.hold(name, is_down));
    }

    fn hold(&mut self, name: &str, is_down: bool) {
        let kind = if is_down { "keyDown" } else { "keyUp" };
        let step = json!({"type": kind, "value": key_of(name).4});
        self.act(json!([{"type": "key", "id": "keys", "actions": [step]}]));
    }

    fn wheel(&mut self, (x, y): (f64, f64), down: f64) {
        let step = json!({"type": "scroll", "x": x.round(), "y": y.round(), "deltaX": 0, "deltaY": down});
        self.act(json!([{"type": "wheel", "id": "wheel", "actions": [step]}]));
    }

    fn has_fingers(&mut self) {
        self.chrome(
            "Services.prefs.setIntPref('dom.w3c_touch_events.enabled', 1); \
             Services.prefs.setIntPref('dom.maxtouchpoints.testing.value', 2)",
        );
    }

    fn fingers(&mut self, steps: &[Vec<(f64, f64)>]) {
        let path = |finger: usize| {
            let to = |step: &Vec<(f64, f64)>| json!({"type": "pointerMove", "x": step[finger].0.round(), "y": step[finger].1.round(), "duration": 0});
            let mut path: Vec<Value> = steps.iter().map(to).collect();
            path.insert(1, json!({"type": "pointerDown", "button": 0}));
            path.push(json!({"type": "pointerUp", "button": 0}));
            json!({"type": "pointer", "id": format!("finger{finger}"), "parameters": {"pointerType": "touch"}, "actions": path})
        };
        self.act((0..steps[0].len()).map(path).collect());
    }

    fn dark(&mut self, is_dark: bool) {
        let value = if is_dark { 0 } else { 1 };
        self.chrome(&format!("Services.prefs.setIntPref('layout.css.prefers-color-scheme.content-override', {value})"));
    }

    fn printed(&mut self) -> usize {
        self.call("WebDriver:Print", json!({}))["value"].as_str().map_or(0, str::len)
    }

    fn problems(&mut self) -> Vec<String> {
        let said = self.chrome(
            "return Services.console.getMessageArray().filter(said => { try { said.QueryInterface(Ci.nsIScriptError); } catch { return false; } \
             return said.sourceName.startsWith('file:'); }).map(said => String(said.message))",
        );
        let asked = self.js(
            "performance.getEntriesByType('resource').map(one => one.name).filter(name => !/^(file|data|blob):/.test(name))",
        );
        let all = [said, asked].into_iter().flat_map(|list| serde_json::from_value::<Vec<String>>(list).unwrap());
        // Its own remark where the machine has no WebGL, which the page asks for and does without.
        all.filter(|said| !said.contains("Failed to create WebGL context")).collect()
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
    let experiment = experiment(&[0, 1]);
    let folder = tempfile::tempdir().unwrap();
    let images = Plain(write_nasty(folder.path(), &experiment));
    let formulas = vec![("CosFace", "s (cos(theta) - m) < \"quoted\"")];
    let extras = Extras { formulas, thumbnails: Some(&images), ..Extras::default() };
    write_report(folder.path(), &experiment, &Registry::standard(), &extras, &|_| {}).unwrap();
    for mut page in browsers() {
        used_as_a_person_would(&mut *page, folder.path());
    }
}

fn used_as_a_person_would(page: &mut dyn Browser, folder: &Path) {
    page.window(1280, 900);
    page.open(&folder.join("index.html"));
    page.wait("document.querySelector('.explorer:not([hidden])')");
    page.assert_open_to_all("as it opens");

    // Pointing lights the image up on every map and tells what each head says of it.
    let [x, y, width, height] = page.place("[data-large] canvas");
    let lit = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => \
               done(document.querySelectorAll('.ring:not([hidden])').length))))";
    for step in 0..400 {
        let share = |at: i32| (f64::from(at) + 0.5) / 20.0;
        page.mouse(Mouse::Moved, (x + share(step % 20) * width, y + share(step / 20) * height));
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
    let metrics = std::fs::read_to_string(folder.join("metrics.csv")).unwrap();
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

    // The hardest pairs: images of two classes, then of one.
    page.js("document.querySelector('[data-pairs]').open = true");
    page.wait("document.querySelector('.pairs button')");
    let titles = "[...document.querySelectorAll('.pairs')].map(box => [...box.firstChild.querySelectorAll('button')].map(b => b.title.split(': ').pop()))";
    let titles: Vec<Vec<String>> = serde_json::from_value(page.js(titles)).unwrap();
    assert!(titles[0][0] != titles[0][1] && titles[1][0] == titles[1][1], "{titles:?}");
    for nothing in ["[data-centers]", "[data-show] [value=twin]"] {
        assert_eq!(page.js(&format!("document.querySelector({nothing:?}).hidden")), json!(true), "{nothing}");
    }

    // A cell of the confusion matrix has its images, and the keyboard steps through them.
    page.js("document.querySelector('[data-cells]').open = true");
    page.wait("document.querySelector('[data-cells] td button')");
    let cell = "[...document.querySelectorAll('[data-cells] td button')].at(-1)";
    let count = page.js(&format!("Number({cell}.textContent)")).as_f64().unwrap() as usize;
    page.js(&format!("{cell}.click()"));
    assert_eq!(page.chosen(), count);
    page.js("document.querySelector('[data-large] canvas').focus()");
    page.key("ArrowRight");
    page.wait("!document.querySelector('.card.empty')");
    for map in ["pca", "solid", "tsne"] {
        page.choose("map", map);
    }

    // Sorted by mouse and keyboard.
    let names = "[...document.querySelectorAll('.results tbody tr')].map(row => row.cells[0].textContent).join()";
    let before = page.js(names);
    page.click(".results thead th:nth-child(2) button");
    assert_ne!(page.js(names), before);
    page.js("document.querySelector('.results thead th:nth-child(2) button').focus()");
    page.key("Enter");
    assert_eq!(page.js(names), before);
    assert_eq!(page.js("document.querySelectorAll('.results [aria-sort]').length"), json!(1));

    // All numbers: head and first column stay in view, and a metric sorts the heads.
    page.js("(() => { const t = document.querySelector('.tall'); t.scrollIntoView({behavior: 'instant'}); t.scrollTop = 600; t.scrollLeft = 90; })()");
    let inside = "(() => { const box = document.querySelector('.tall').getBoundingClientRect(); \
        const head = document.querySelector('.tall thead th:last-child').getBoundingClientRect(); \
        const first = document.querySelector('.tall tbody tr:nth-child(4) th').getBoundingClientRect(); \
        return Math.abs(head.top - box.top) < 3 && Math.abs(first.left - box.left) < 3; })()";
    assert_eq!(page.js(inside), json!(true));
    let heads = "[...document.querySelectorAll('.wide thead th')].slice(1).map(head => head.textContent).join()";
    let values =
        "[...document.querySelector('.wide tr.sorted').cells].slice(1).map(cell => parseFloat(cell.textContent))";
    page.click(".wide tbody tr:nth-child(2) .name button");
    let (first, falling) = (page.js(heads), page.js(values));
    page.click(".wide tbody tr:nth-child(2) .name button");
    let rising: Vec<f64> = serde_json::from_value(page.js(values)).unwrap();
    assert!(
        first != page.js(heads)
            && rising.iter().rev().copied().eq(serde_json::from_value::<Vec<f64>>(falling).unwrap())
    );

    // Dark, narrow, printed.
    page.dark(true);
    page.wait("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 28)'");
    page.js("document.querySelectorAll('details').forEach(details => { details.open = true; })");
    page.assert_open_to_all("in the dark");
    page.dark(false);
    page.window(390, 800);
    page.assert_open_to_all("on a phone");
    let end = page.number("document.querySelector('.results tbody td').getBoundingClientRect().right");
    assert!(end <= 390.0, "the first number of the results ends at {end}");
    assert!(page.printed() > 10_000);
    assert_eq!(page.problems(), [""; 0]);
}

/// Validation images whose nearest training image is the same under two of three heads at least.
fn near_duplicates(folder: &Path, experiment: &Experiment) -> usize {
    let nearest = |spec: &RunSpec| -> Vec<usize> {
        let run = RunFolder::new(folder, spec);
        let manifest = run.manifest().unwrap();
        let [train, val] = [SplitName::Train, SplitName::Val].map(|split| run.embeddings(&manifest, split).unwrap());
        let of_one = |row: &[f32]| {
            let cosine = |other: &[f32]| row.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
            let cosines = train.unit.chunks(train.dim).map(cosine).enumerate();
            cosines.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
        };
        val.unit.chunks(val.dim).map(of_one).collect()
    };
    let specs = RunSpec::of(experiment, &crate::made_up::compute());
    let all: Vec<Vec<usize>> = specs.iter().map(nearest).collect();
    let [a, b, c] = &all[..] else { panic!("three heads of one seed") };
    (0..a.len()).filter(|&image| a[image] == b[image] || a[image] == c[image] || b[image] == c[image]).count()
}

#[test]
fn three_heads_show_near_duplicates_and_the_images_at_each_weight() {
    let experiment = experiment_with(
        &[0],
        "[[heads]]\nkind = \"SubCenterArcFace\"\nscale = 64.0\nmargin_radians = 0.5\nbeyond_pi = \"linear\"\nsub_centers = 2",
    );
    let made = Reported::of(&experiment);
    let duplicates = near_duplicates(made.folder.path(), &experiment);
    assert!((1..80).contains(&duplicates), "{duplicates}");
    for mut page in browsers() {
        let page = &mut *page;
        page.window(1280, 900);
        page.open(&made.path("index.html"));
        page.wait("document.querySelector('.explorer:not([hidden])')");
        assert_eq!(page.js("document.querySelector('[data-show] [value=twin]').hidden"), json!(false));
        page.choose("show", "twin");
        assert_eq!(page.chosen(), duplicates);
        page.choose("show", "all");

        // A heading for each class, a row for each of its weights; every training image is at one.
        let is_hidden = "document.querySelector('[data-centers]').hidden";
        assert_eq!(page.js(is_hidden), json!(true));
        page.choose("a", "2");
        assert_eq!(page.js(is_hidden), json!(false));
        page.js("document.querySelector('[data-centers]').open = true");
        page.wait("document.querySelector('.weight')");
        let rows = "[...document.querySelectorAll('.weight span')].map(row => Number(row.textContent.match(/: (.*) images/)[1]))";
        let rows = |page: &mut dyn Browser| serde_json::from_value::<Vec<usize>>(page.js(rows)).unwrap();
        let of_all = rows(page);
        assert_eq!((of_all.len(), of_all.iter().sum::<usize>()), (20, 120));
        page.choose("class", "3");
        assert_eq!(rows(page), of_all[6..8]);
        page.assert_open_to_all("images at each weight");
        // What does not change is not made anew at each letter.
        page.js("document.querySelector('.weight').dataset.kept = ''");
        page.choose("search", "0001");
        assert_eq!(page.number("document.querySelectorAll('.weight[data-kept]').length"), 1.0);
        page.choose("search", "");
        page.choose("class", "");
        assert_eq!(rows(page), of_all);
        page.choose("a", "0");
        assert_eq!(page.js(is_hidden), json!(true));
        assert_eq!(page.problems(), [""; 0]);
    }
}

/// Where the ring around the image at hand is on the large map and on the others, in sides of the map.
fn rings(page: &mut dyn Browser) -> Vec<[f64; 2]> {
    let places = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => \
        done([...document.querySelectorAll('.ring:not([hidden])')].map(ring => { \
        const side = ring.parentNode.clientWidth, at = new DOMMatrix(ring.style.transform); \
        return [at.e / side, at.f / side]; })))))";
    serde_json::from_value(page.js(places)).unwrap()
}

/// The rings once the pointer has left the maps and these have come to rest at a scale.
fn rings_at(page: &mut dyn Browser, scale: &str) -> Vec<[f64; 2]> {
    page.mouse(Mouse::Moved, (1.0, 1.0));
    page.wait(&format!("document.querySelector('[data-scale]').textContent === '{scale}\u{d7}'"));
    page.wait(&format!("document.querySelector('[data-whole]').disabled === {}", scale == "1.0"));
    let mut before = Vec::new();
    loop {
        let found = rings(page);
        if found == before {
            return found;
        }
        before = found;
    }
}

/// Whether every ring went from where it was to where a zoom by `scale` around `center`, or a move by `by`, brings it.
#[track_caller]
fn assert_moved(before: &[[f64; 2]], after: &[[f64; 2]], scale: f64, center: [f64; 2], by: [f64; 2]) {
    assert_eq!((before.len(), after.len()), (3, 3));
    for (before, after) in before.iter().zip(after) {
        for axis in 0..2 {
            let expected = center[axis] + scale * (before[axis] - center[axis]) + by[axis];
            assert!((after[axis] - expected).abs() < 0.02, "{before:?} to {after:?}, not {expected} on axis {axis}");
        }
    }
}

#[test]
fn all_maps_zoom_and_move_together() {
    let made = Reported::of(&experiment(&[0]));
    for mut page in browsers() {
        zoomed_and_moved(&mut *page, &made.path("index.html"));
    }
}

fn zoomed_and_moved(page: &mut dyn Browser, index: &Path) {
    let focus = "document.querySelector('[data-large] canvas').focus()";
    page.has_fingers();
    page.window(1280, 900);
    page.open(index);
    page.wait("document.querySelector('.explorer:not([hidden])')");
    page.js(focus);
    page.key("ArrowRight");
    page.wait("!document.querySelector('.card.empty')");
    let name = page.text(".card .mono");
    let whole = rings_at(page, "1.0");
    // The large map is that of the first head.
    assert_moved(&[whole[0]; 3], &[whole[1]; 3], 1.0, [0.0, 0.0], [0.0, 0.0]);

    // The wheel alone scrolls the page.
    let [x, y, side, _] = page.place("[data-large] canvas");
    let before = page.number("scrollY");
    page.wheel((x + side / 2.0, y + side / 2.0), 120.0);
    page.wait(&format!("scrollY > {before} + 50"));
    assert_eq!(rings_at(page, "1.0"), whole);

    // With Ctrl it zooms all maps around the pointer, which stands on the image: there it stays, and is found.
    let [x, y, side, _] = page.place("[data-large] canvas");
    let ring = (x + whole[0][0] * side, y + whole[0][1] * side);
    let zoom_in = |page: &mut dyn Browser, at: (f64, f64)| {
        page.hold("Control", true);
        (0..4).for_each(|_| page.wheel(at, -100.0));
        page.hold("Control", false);
    };
    zoom_in(page, ring);
    let factor = f64::powf(2.0, 4.0 * 0.4);
    assert_moved(&whole, &rings_at(page, "3.0"), factor, whole[0], [0.0, 0.0]);
    [Mouse::Moved, Mouse::Pressed, Mouse::Released].into_iter().for_each(|what| page.mouse(what, ring));
    page.wait("document.querySelector('.card.empty')");
    page.mouse(Mouse::Moved, (ring.0 + 2.0, ring.1));
    page.wait("!document.querySelector('.card.empty')");
    assert_eq!(page.text(".card .mono"), name, "the click let go of this image, and pointing finds it again");
    page.assert_open_to_all("zoomed");

    // What is drawn around on the zoomed map are the images that the same part of the whole map has.
    page.draw_around([0.1, 0.1, 0.9, 0.9]);
    let chosen = page.chosen();
    page.js("document.querySelector('[data-clear]').click()");
    page.click("[data-whole]");
    page.wait("document.querySelector('[data-whole]').disabled");
    let part = |share: f64, axis: usize| whole[0][axis] + (share - whole[0][axis]) / factor;
    page.draw_around([part(0.1, 0), part(0.1, 1), part(0.9, 0), part(0.9, 1)]);
    let found = page.chosen();
    assert!((1..60).contains(&chosen) && found.abs_diff(chosen) <= 1, "{chosen} and {found}");
    page.js("document.querySelector('[data-clear]').click()");

    // By keys and a button: nearer, around the image at hand, and the whole again.
    page.js(focus);
    page.key("ArrowRight");
    page.wait("!document.querySelector('.card.empty')");
    let whole = rings_at(page, "1.0");
    page.key("+");
    assert_moved(&whole, &rings_at(page, "1.5"), 1.5, whole[0], [0.0, 0.0]);
    page.click("[data-nearer]");
    assert_moved(&whole, &rings_at(page, "2.3"), 2.25, whole[0], [0.0, 0.0]);
    page.js(focus);
    page.key("0");
    assert_moved(&whole, &rings_at(page, "1.0"), 1.0, [0.0, 0.0], [0.0, 0.0]);

    // Moved by Shift with the mouse and with an arrow.
    let [x, y, side, _] = page.place("[data-large] canvas");
    let at = |u: f64, v: f64| (x + u * side, y + v * side);
    zoom_in(page, at(0.5, 0.5));
    let close = rings_at(page, "3.0");
    page.hold("Shift", true);
    page.drag(at(0.5, 0.5), at(0.7, 0.4));
    let moved = rings_at(page, "3.0");
    assert_moved(&close, &moved, 1.0, [0.0, 0.0], [0.2, -0.1]);
    assert_eq!(page.chosen(), 80, "nothing was drawn");
    page.js(focus);
    page.key("ArrowRight");
    page.hold("Shift", false);
    assert_moved(&moved, &rings_at(page, "3.0"), 1.0, [0.0, 0.0], [-0.2, 0.0]);
    page.key("0");

    // Two fingers zoom; one is left to the page, which it scrolls, unless it is said to draw.
    let whole = rings_at(page, "1.0");
    let [x, y, side, _] = page.place("[data-large] canvas");
    let at = |u: f64, v: f64| (x + u * side, y + v * side);
    let apart = |by: f64| vec![at(0.5 - by, 0.5), at(0.5 + by, 0.5)];
    page.fingers(&[apart(0.1), apart(0.15), apart(0.2)]);
    assert_moved(&whole, &rings_at(page, "2.0"), 2.0, [0.5, 0.5], [0.0, 0.0]);
    page.js("document.querySelector('[data-lasso]').click()");
    page.fingers(&[[0.02, 0.02], [0.98, 0.02], [0.98, 0.98], [0.02, 0.98]].map(|[u, v]| vec![at(u, v)]));
    page.wait("document.querySelector('[data-count]').textContent.includes('drawn around')");
    assert!((1..80).contains(&page.chosen()), "{}", page.chosen());
    page.js("document.querySelector('[data-lasso]').click()");
    page.js("document.querySelector('[data-clear]').click()");
    let [x, y, side, _] = page.place("[data-large] canvas");
    page.js("window.moves = []; addEventListener('touchmove', event => moves.push(event.defaultPrevented)); 0");
    page.fingers(&[0.6, 0.55, 0.5].map(|v| vec![(x + 0.5 * side, y + v * side)]));
    page.wait("moves.length > 0 && moves.every(prevented => !prevented)");
    rings_at(page, "2.0");
    assert_eq!(page.chosen(), 80);
    assert_eq!(page.problems(), [""; 0]);
}

/// The large map in 32 x 32 squares, as numbers from 0 to 255 of its three colours and its opacity.
fn squares(page: &mut dyn Browser) -> Vec<f64> {
    let small = "(() => { const small = document.createElement('canvas'); small.width = small.height = 32; \
         const context = small.getContext('2d'); context.imageSmoothingQuality = 'high'; \
         context.drawImage(document.querySelector('[data-large] canvas'), 0, 0, 32, 32); \
         return [...context.getImageData(0, 0, 32, 32).data]; })()";
    serde_json::from_value(page.js(small)).unwrap()
}

#[test]
fn webgl_draws_what_the_canvas_draws() {
    let made = Reported::of(&experiment(&[0]));
    let index = made.path("index.html");
    for mut page in browsers() {
        let page = &mut *page;
        page.window(1280, 900);
        let mut drawn_by = |how: &str| {
            page.go("about:blank");
            page.go(&format!("file://{}#{how}", index.display()));
            page.wait("document.querySelector('.explorer:not([hidden]) [data-large] canvas')");
            let used = page.js("document.querySelector('.explorer').dataset.drawnBy");
            let pictures = ["tsne", "solid"].map(|map| {
                page.choose("map", map);
                page.choose("class", "3");
                page.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))");
                squares(page)
            });
            (used, pictures)
        };
        let (canvas, by_canvas) = drawn_by("canvas");
        let (webgl, by_webgl) = drawn_by("webgl");
        assert_eq!(canvas, json!("canvas"));
        page.open(&index);
        page.wait("document.querySelector('.explorer:not([hidden])')");
        assert_eq!(page.js("document.querySelector('.explorer').dataset.drawnBy"), json!("canvas"), "no GPU is here");
        if webgl != json!("webgl") {
            eprintln!("this browser has no WebGL here, so the canvas alone was looked at");
            continue;
        }
        let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
        for (one, other) in by_canvas.iter().zip(&by_webgl) {
            let (apart, drawn) = (far(one, other), far(one, &vec![0.0; one.len()]));
            assert!(apart < 0.2 * drawn && drawn > 1.0, "{apart} of {drawn}");
        }
        assert!(far(&by_canvas[0], &by_canvas[1]) > 1.0, "two maps differ");
    }
}

#[test]
fn without_thumbnails_and_with_one_head_the_page_opens_too() {
    let made = Reported::written(&experiment(&[0]), |folder| {
        let experiment = experiment(&[0]);
        for spec in RunSpec::of(&experiment, &crate::made_up::compute()).iter().take(1) {
            made_up().write_run(folder, spec, &made_up().data("x"));
        }
    });
    for mut page in browsers() {
        page.window(1280, 900);
        page.open(&made.path("index.html"));
        page.wait("document.querySelector('.explorer:not([hidden])')");
        page.assert_open_to_all("one head");
    }
}
