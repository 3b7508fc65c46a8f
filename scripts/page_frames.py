"""Frames a second of the explorer on the page of a report, in headless Chromium: while pointing, zooming all maps, and turning all maps.

    cargo xtask report reproduction
    python scripts/page_frames.py reports/reproduction/index.html
    python scripts/page_frames.py PAGE --chromium PATH --seconds 4 --times 3 --gpu auto --software --json frames.json

Measures drawing by canvas, and by WebGL where a GPU plays it; with --software also WebGL that the processor plays. --gpu auto takes the first way to a GPU
that works (what Chromium does by itself, Vulkan, EGL), else none; swiftshader is none with --software. The window has 1280 x 900 pixels and shows 60
frames a second at most. A map counts as drawn when its canvas is set up anew. After the last frame a pixel of each map is read, which waits for what
is not drawn yet; this time counts. Maps by WebGL are compared with those by canvas before anything moves. Standard library alone; tried on Linux.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
FLAGS = "--headless=new --no-sandbox --remote-debugging-pipe --no-first-run --disable-extensions --disable-background-networking".split()
HARDWARE = ["--ignore-gpu-blocklist", "--enable-gpu-rasterization", "--disable-software-rasterizer"]
WAYS = {
    "own": [],
    "vulkan": [*HARDWARE, "--use-angle=vulkan", "--enable-features=Vulkan", "--disable-vulkan-surface"],
    "egl": [*HARDWARE, "--use-gl=angle", "--use-angle=gl-egl"],
    "none": ["--disable-gpu", "--enable-unsafe-swiftshader"],  # The processor plays WebGL where a page insists on it.
}
PROCESSOR = re.compile("swiftshader|llvmpipe|softpipe|software|basic render", re.IGNORECASE)  # As in crates/report/assets/explorer.js.
RENDERER = """(() => { const gl = document.createElement('canvas').getContext('webgl');
  return gl && gl.getParameter(gl.getExtension('WEBGL_debug_renderer_info')?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER); })()"""
# A map that is drawn anew gets its width anew.
COUNT = """window.draws = 0; const width = Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, 'width');
  Object.defineProperty(HTMLCanvasElement.prototype, 'width', { ...width, set(to) { draws += this.className === 'points'; width.set.call(this, to); }});"""
# The names of the maps once the explorer is there; none where it will not be.
OPEN = """new Promise(done => { let times = 0; const look = () => { const large = document.querySelector('.explorer:not([hidden]) [data-large] canvas');
  if (!large && ++times < 500 && (document.readyState !== 'complete' || document.querySelector('.explorer'))) return setTimeout(look, 100);
  large?.scrollIntoView({ block: 'center', behavior: 'instant' }); done(large && [...document.querySelector('[data-map]').options].map(m => m.value)); }; look(); })"""
# Shows a map, whole, and waits until nothing has been drawn for six frames.
SHOW = """(async () => { const map = document.querySelector('[data-map]'); map.value = '%s'; map.dispatchEvent(new Event('change'));
  for (let same = 0, last; same < 6; last = window.draws) { await new Promise(requestAnimationFrame); same = window.draws === last ? same + 1 : 0; } })()"""
# What happens in frame i on the large canvas c at r.
ACTIONS = {
    "pointing": "send(c, PointerEvent, 'pointermove', r.width * (0.5 + 0.4 * Math.sin(i / 9)), r.height * (0.5 + 0.4 * Math.cos(i / 7)))",
    "all maps zoom": "send(c, WheelEvent, 'wheel', r.width * 0.4, r.height * 0.4, { deltaY: Math.sin(i / 20) > 0 ? -20 : 20, ctrlKey: true })",
    "all maps turn (PCA in space)": "send(i ? window : c, MouseEvent, i ? 'mousemove' : 'mousedown', 100 + i, 100)",
}
PLAY = """(async () => { const c = document.querySelector('[data-large] canvas'), r = c.getBoundingClientRect(), frame = () => new Promise(requestAnimationFrame);
  const send = (to, Kind, name, x, y, more) =>
    to.dispatchEvent(new Kind(name, { clientX: r.x + x, clientY: r.y + y, bubbles: true, cancelable: true, view: window, ...more }));
  const from = window.draws, began = performance.now(); let i = 0; while (performance.now() - began < %d) { await frame(); %s; i++; }
  const took = performance.now() - began, maps = window.draws - from, probe = document.createElement('canvas').getContext('2d');
  for (const map of document.querySelectorAll('canvas.points')) probe.drawImage(map, map.width / 2, map.height / 2, 1, 1, 0, 0, 1, 1);
  probe.getImageData(0, 0, 1, 1); const all = performance.now() - began; send(window, MouseEvent, 'mouseup', 0, 0);
  return { frames: i / all * 1000, maps: maps / all * 1000, waited_ms: all - took, frames_without_wait: i / took * 1000, maps_without_wait: maps / took * 1000 }; })()"""
# Every map on white: four bytes a pixel, in base64.
PICTURES = """[...document.querySelectorAll('canvas.points')].map(map => { const copy = document.createElement('canvas'), x = copy.getContext('2d');
  [copy.width, copy.height] = [map.width, map.height]; x.fillStyle = '#fff'; x.fillRect(0, 0, map.width, map.height); x.drawImage(map, 0, 0);
  const bytes = x.getImageData(0, 0, map.width, map.height).data; let text = '';
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768)); return btoa(text); })"""


@contextlib.contextmanager
def chromium(program, way):
    """A page in a headless Chromium, which ends with it."""
    with tempfile.TemporaryDirectory(prefix="page-frames-", ignore_cleanup_errors=True) as folder, open(f"{folder}/said", "wb") as said:
        # It hears on file 3 and answers on file 4; a shell puts the pipes there.
        command = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >&2', program, *FLAGS, *WAYS[way], f"--user-data-dir={folder}/profile", "about:blank"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True)
        try:
            yield Page(child, Path(said.name))
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


class Page:
    def __init__(self, child, said):
        self.child, self.said, self.held, self.last, self.session = child, said, b"", 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.call("Page.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.addScriptToEvaluateOnNewDocument", source=COUNT)

    def call(self, method, limit=90, **parameters):
        self.last += 1
        with contextlib.suppress(BrokenPipeError):
            os.write(self.child.stdin.fileno(), json.dumps({"id": self.last, "method": method, "params": parameters, **self.session}).encode() + b"\0")
        while True:
            *whole, self.held = self.held.split(b"\0")
            for answer in (one for one in map(json.loads, whole) if one.get("id") == self.last):
                return answer["result"] if "result" in answer else sys.exit(f"Chromium refused {method}: {answer['error']}")
            if not select.select([self.child.stdout], [], [], limit)[0]:
                sys.exit(f"Chromium did not answer {method} in {limit:.0f} s")
            self.held += os.read(self.child.stdout.fileno(), 1 << 20) or sys.exit(f"Chromium ended: {self.said.read_text(errors='replace')[-300:]!r}")

    def js(self, code, limit=90):
        found = self.call("Runtime.evaluate", limit, expression=code, awaitPromise=True, returnByValue=True)
        return sys.exit(f"the page: {json.dumps(found)[:300]}") if "exceptionDetails" in found else found["result"].get("value")


def measure(program, way, by, options):
    """What is written of one way to draw, and the pictures of all maps."""
    with chromium(program, way) as page:
        page.call("Page.navigate", url=f"{options.page.resolve().as_uri()}#{by}")
        maps = page.js(OPEN) or sys.exit(f"{options.page} has no explorer that opens; the index.html of a report of at most 20,000 validation images has one")
        if page.js("document.querySelector('.explorer').dataset.drawnBy") != by:
            sys.exit(f"WebGL was asked for, and {program} has none (--gpu {way})")
        pictures = [picture for name in maps for picture in (page.js(SHOW % name), page.js(PICTURES))[1]]
        title = f"{by}, --gpu {way}" if by == "canvas" else f"WebGL played by {'the processor' if PROCESSOR.search(page.js(RENDERER)) else 'a GPU'}, {page.js(RENDERER)}"
        row = {"title": title, "maps": len(pictures) // len(maps), "chosen": page.js("document.querySelector('[data-count]').textContent"), "medians": {}, "runs": {}}
        for action, act in ACTIONS.items():
            name = "solid" if "space" in action else maps[0]
            if name in maps:
                runs = [(page.js(SHOW % name), page.js(PLAY % (1000 * options.seconds, act), 90 + options.seconds))[1] for _ in range(options.times)]
                row["runs"][action], row["medians"][action] = runs, {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        return row, pictures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="index.html of a report")
    parser.add_argument("--chromium", metavar="PATH", help="the program, where it is not on the path")
    parser.add_argument("--seconds", type=float, default=4, help="of one measurement")
    parser.add_argument("--times", type=int, default=3, help="medians of so many")
    parser.add_argument("--gpu", choices=["auto", *WAYS, "swiftshader"], default="auto", help="own: what Chromium does by itself")
    parser.add_argument("--software", action="store_true", help="WebGL played by the processor too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every measurement")
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, [options.chromium] if options.chromium else BROWSERS)), None)
    program or sys.exit(f"no Chromium {options.chromium or 'on the path'}: scripts/browser.sh installs it, --chromium PATH names it")
    options.page.is_file() or sys.exit(f"there is no page {options.page}: `cargo xtask report <experiment>` makes one")
    options.json is None or options.json.parent.is_dir() or sys.exit(f"there is no folder {options.json.parent} for --json")
    options.times >= 1 and 0 < options.seconds <= 600 or sys.exit("--times is 1 or more, --seconds more than 0 and at most 600")
    cpu = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else []
    found = {"page": options.page.name, "processor": (cpu or [os.uname().machine])[0], "processors": os.cpu_count(), "load_before": os.getloadavg()[0]}

    for way in {"auto": ["own", "vulkan", "egl", "none"], "swiftshader": ["none"]}.get(options.gpu, [options.gpu]):
        renderer = None
        # A way that this machine has not may end Chromium.
        with contextlib.suppress(*[SystemExit] * (options.gpu == "auto" and way != "none")), chromium(program, way) as page:
            found["browser"], renderer = page.call("Browser.getVersion")["product"], page.js(RENDERER)
        if by_gpu := bool(renderer) and not PROCESSOR.search(renderer):
            break
    by_gpu or way not in ("vulkan", "egl") or sys.exit(f"--gpu {way}: WebGL by a GPU was asked for, and {program} has {renderer or 'none'}")
    wanted = [(way, "canvas"), *[(way, "webgl")] * by_gpu, *[("none", "webgl")] * (options.software or options.gpu == "swiftshader")]
    rows, pictures = zip(*(measure(program, *which, options) for which in wanted))
    found |= {"rows": rows, "load_after": os.getloadavg()[0]}
    print("{browser} on {processor}, {processors} processors, load {load_before:.1f} before and {load_after:.1f} after".format(**found))
    print(f"{rows[0]['chosen']}, {rows[0]['maps']} maps; median of {options.times} times {options.seconds:g} s\n\n| | {' | '.join(ACTIONS)} |\n|---|---|---|---|")
    for row in rows:
        cells = [f"{of['frames']:.0f} ({of['maps']:.0f} maps a second)" if (of := row["medians"].get(action)) else "no such map" for action in ACTIONS]
        print(f"| {row['title']} | {' | '.join(cells)} |")
    for row, drawn in zip(rows[1:], pictures[1:]):
        apart = [bytes(abs(a - b) for a, b in zip(*map(base64.b64decode, pair))) for pair in zip(pictures[0], drawn)]
        row["differs"] = max([sum(one) / len(one) / 0.75, sum(d > 48 for d in one) / len(one) / 0.75] for one in apart)  # Opacity, a fourth, is the same.
        print("\n{}: the map least like that by canvas is {:.2f} of 255 apart, {:.2%} of its colors by over 48".format(row["title"], *row["differs"]))
    options.json and options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
