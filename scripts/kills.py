#!/usr/bin/env python3
"""Kills the program with -9 at moments drawn by a seed, runs the same command again, and compares with one that was never killed.

    scripts/kills.py --program target/release/xtask > kills.md

Every phase is a command: `fetch` from a server on this machine, `extract` of an archive, `prepare` (decoding), `benchmark` (training,
checkpoints, embedding, measuring, report), `report`, `tune`. Files that hold times (pages, manifests) are left out; everything else must be the same
bytes, and nothing unfinished may be left. Prints a table; ends with 1 where something differs. Python's standard library alone.
"""

import argparse
import hashlib
import http.server
import io
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", required=True)
parser.add_argument("--moments", type=int, default=50, help="of all phases together")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
program = str(pathlib.Path(args.program).resolve())
root = pathlib.Path(__file__).resolve().parent.parent
# Moments of each phase, of fifty.
PHASES = {"fetch": 6, "extract": 6, "prepare": 6, "benchmark": 18, "report": 8, "tune": 6}
# Files with times or checksums of such, and those that say who is at work.
NOT_COMPARED = (".html", "manifest.json", ".lock", ".faceoff-unfinished", ".faceoff-reported")


def run(command, **options):
    return subprocess.run([program, "--root", str(root), *command], capture_output=True, text=True, **options)


def outcome(folder):
    """Digests of all files below that are compared; nothing unfinished may be among them."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        assert ".partial-" not in name, f"{name} is left"
        if not name.endswith(NOT_COMPARED):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found, f"nothing below {folder}"
    return found


class Server(http.server.ThreadingHTTPServer):
    """Hands out bytes slowly, from where it is asked to begin."""

    body = random.Random(0).randbytes(6_000_000)

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            part = Server.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(Server.body) - 1}/{len(Server.body)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            try:
                for at in range(0, len(part), 100_000):
                    self.wfile.write(part[at : at + 100_000])
                    time.sleep(0.03)
            except OSError:
                pass  # The program was killed.

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def make_archive(images, path):
    """The images in a .tgz, each under three names, so that unpacking takes a while."""
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(images.rglob("*.JPEG")):
            for copy in range(3):
                name = file.relative_to(images).with_stem(f"{file.stem}-{copy}")
                info = tarfile.TarInfo(f"set/{name.as_posix()}")
                info.size = file.stat().st_size
                archive.addfile(info, io.BytesIO(file.read_bytes()))


def experiment(path):
    """The smoke experiment on more images of 160 px, two heads."""
    text = run(["experiment", "show", "smoke"]).stdout
    text = text[: text.index("[[heads]]")].replace('name = "smoke"', 'name = "killed"')
    text = text.replace("train_images = 80", "train_images = 400").replace("image_px = 48", "image_px = 160")
    text += '[[heads]]\nkind = "Classification"\n\n[[heads]]\nkind = "AdaCos"\nepsilon = 1e-6\n'
    path.write_text(text)


def main(t):
    toml, cache = t / "killed.toml", t / "cache"
    experiment(toml)
    benchmark = ["benchmark", str(toml), "--device", "cpu", "--epochs", "2"]
    made = run([*benchmark, "--cache", str(cache), "--out", str(t / "made")])
    assert made.returncode == 0, made.stderr
    images = next(cache.glob("synthetic-*"))
    make_archive(images, t / "set.tgz")
    server = Server()
    mirror = f"http://127.0.0.1:{server.server_port}"
    folder_toml = t / "folder.toml"
    folder_toml.write_text(toml.read_text().replace('name = "killed"', 'name = "folder"').replace('dataset = "synthetic"', 'dataset = "folder"'))

    def with_runs(out):
        shutil.copytree(t / "made/killed/runs", out / "killed/runs", ignore=shutil.ignore_patterns("measured.json", "maps.csv"))

    def command_of(name, out):
        """The command of a phase that works in a folder."""
        return {
            "fetch": ["data", "fetch", "--mirror", mirror, "--cache", str(out)],
            "extract": ["data", "fetch", "--archive", str(t / "set.tgz"), "--cache", str(out)],
            "prepare": ["benchmark", str(folder_toml), "--data", str(images), "--cache", str(out / "cache"), "--out", str(out), "--epochs", "1", "--heads", "Classification"],
            "benchmark": [*benchmark, "--cache", str(cache), "--out", str(out)],
            "report": ["report", str(toml), "--out", str(out)],
            "tune": ["tune", str(toml), "--device", "cpu", "--trials", "2", "--epochs", "1", "--cache", str(cache), "--out", str(out), "--file", str(out / "tuned.toml")],
        }[name]

    def end(name, out):
        done = run(command_of(name, out))
        assert done.returncode == (1 if name == "fetch" else 0), done.stderr
        if name == "fetch":
            # These bytes are not the published archive: that they were put together right is what the message says.
            md5 = hashlib.md5(Server.body).hexdigest()
            assert f"gave a file with md5 {md5} instead of" in done.stderr, done.stderr
            left = sorted(path.name for path in out.iterdir())
            assert left == [".lock"], left
            return md5
        return outcome(out)

    print("| phase | kills | before its end | same outcome |\n|---|---|---|---|")
    failed = False
    draw = random.Random(args.seed)
    for name, share in PHASES.items():
        whole = t / f"{name}-whole"
        whole.mkdir()
        if name == "report":
            with_runs(whole)
        began = time.monotonic()
        expected = end(name, whole)
        length = time.monotonic() - began
        moments = max(1, round(share * args.moments / sum(PHASES.values())))
        early, same = 0, 0
        for moment in range(moments):
            out = t / f"{name}-{moment}"
            out.mkdir()
            if name == "report":
                with_runs(out)
            command = [program, "--root", str(root), *command_of(name, out)]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # One moment in each equal part of the time: the first images, the last file.
            time.sleep(length * (moment + draw.random()) / moments)
            early += child.poll() is None
            child.kill()
            child.wait()
            try:
                found = end(name, out)
                differing = [] if found == expected else [k for k in {*found, *expected} if found.get(k) != expected.get(k)]
                same += not differing
                if differing:
                    print(f"{name} {moment}: {differing[:5]}", file=sys.stderr)
            except AssertionError as error:
                print(f"{name} {moment}: {error}", file=sys.stderr)
            shutil.rmtree(out)
        failed |= same < moments
        print(f"| {name} | {moments} | {early} | {same} of {moments} |", flush=True)
    return failed


with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
    sys.exit(main(pathlib.Path(folder)))
