"""Inputs that people really have: makes each of them, gives it to the program, and prints a table of what came of it.

    pip install numpy Pillow
    cargo build --release -p xtask
    python scripts/cases.py                     every case; ends with 1 where one has another outcome than is right
    python scripts/cases.py --only nested mac   some of them
    python scripts/cases.py --program PATH      another build

Right is what torchvision's ImageFolder and Pillow do, but that photographs stand upright. About five minutes (5,000 classes alone take half of them), and 300 MB in a temporary folder.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CASES = {}
rng = np.random.default_rng(0)


# --- making images


def picture(kind, size=(40, 32)):
    """A picture whose texture says its class."""
    if size[0] > 1000:
        return picture(kind, (size[0] // 10, size[1] // 10)).resize(size)
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / 8
    waves = [np.sin(x * (1 + kind % 7) + c) + np.cos(y * (1 + kind % 5) - c) for c in range(3)]
    pixels = np.stack(waves, -1) * 60 + 128 + rng.normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype("u1"))


def images(root, classes=("a", "b", "c"), train=12, val=4, size=(40, 32)):
    for split, count in (("train", train), ("val", val)):
        for kind, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                picture(kind, size).save(folder / f"{index:03}.jpg")
    return root


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


# --- running the program


class Outcome:
    def __init__(self, code, out, err, peak):
        self.code, self.out, self.err, self.peak = code, out, err, peak

    def counts(self):
        found = re.search(r"\((\d+) \+ (\d+) images\)", self.err)
        return found and (int(found[1]), int(found[2]))

    def last(self):
        lines = [line for line in self.err.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(("error", "warning"))] or lines[-1:]
        return " / ".join(said)


class Place:
    """A folder for one case, and the program to try in it."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.experiment = folder / "own.toml"
        self.experiment.write_text(
            'extends = "smoke"\nname = "own"\ndescription = "Images of a folder."\n[data]\ndataset = "folder"\n'
            "[training]\nepochs = 1\nbatch_size = 8\n[analysis]\ntsne_iterations = 100\n[[heads]]\nkind = \"Classification\"\n"
        )

    def run(self, *words, limit=300, shell=None, env=None):
        """Runs the program, or a line for the shell in which it is $P."""
        command = ["bash", "-c", shell] if shell else [self.program, *map(str, words)]
        out, err = self.folder / "stdout", self.folder / "stderr"
        with open(out, "wb") as to, open(err, "wb") as said:
            child = subprocess.Popen(
                command, stdout=to, stderr=said, cwd=self.folder, env={**os.environ, "P": str(self.program), **(env or {})}
            )
            timer = time.monotonic()
            while True:
                done, status, usage = os.wait4(child.pid, os.WNOHANG)
                if done:
                    break
                if time.monotonic() - timer > limit:
                    child.kill()
                time.sleep(0.02)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        text = lambda path: path.read_text(errors="replace")
        return Outcome(code, text(out), text(err), usage.ru_maxrss / 1024)

    def benchmark(self, data, *words, **options):
        options_of = ["--out", self.folder / "out", "--cache", self.folder / "cache"]
        return self.run("benchmark", self.experiment, "--data", data, *options_of, *words, **options)


def case(right):
    """A case: what is right, and a function that makes it, tries it and says whether the outcome is that."""

    def add(function):
        CASES[function.__name__] = (right, function)
        return function

    return add


def whole(outcome, counts=(36, 12)):
    return outcome.code == 0 and outcome.counts() == counts


# --- images


def half(extension):
    def tried(place):
        data = images(place.folder / "data")
        for path in files(data)[::2]:
            Image.open(path).save(path.with_suffix(extension))
            path.unlink()
        outcome = place.benchmark(data)
        return outcome, whole(outcome)

    tried.__name__ = "half_" + extension[1:]
    return tried


for extension in (".webp", ".bmp", ".tif", ".gif"):
    case("36 + 12 images, whatever their format")(half(extension))


@case("36 + 12: files at any depth belong to the class folder on top")
def nested(place):
    data = images(place.folder / "data")
    for path in files(data)[::2]:
        (path.parent / "more").mkdir(exist_ok=True)
        path.rename(path.parent / "more" / path.name)
    outcome = place.benchmark(data)
    return outcome, whole(outcome)


@case("three classes: links are followed")
def linked_class(place):
    data = images(place.folder / "data")
    (data / "store").mkdir()
    for split in ("train", "val"):
        (data / split / "c").rename(data / "store" / split)
        (data / split / "c").symlink_to(f"../store/{split}")
    outcome = place.benchmark(data)
    return outcome, whole(outcome)


@case("refused, with the link's name")
def link_loop(place):
    data = images(place.folder / "data")
    (data / "train" / "a" / "up").symlink_to("..")
    outcome = place.benchmark(data)
    return outcome, outcome.code == 1 and "train/a/up" in outcome.err


@case("decoded by content")
def renamed(place):
    data = images(place.folder / "data")
    for format, path in zip(("WEBP", "BMP", "GIF"), files(data)[::9]):
        image = Image.open(path)
        image.load()
        image.save(path, format=format)
    outcome = place.benchmark(data)
    return outcome, whole(outcome)


@case("hidden files are passed over, counted and said")
def mac(place):
    data = images(place.folder / "data")
    for path in files(data):
        path.with_name("._" + path.name).write_bytes(b"\0\5\26\7" + bytes(60))
    (data / "train" / "a" / ".DS_Store").write_bytes(b"x")
    (data / "train" / "b" / "Thumbs.db").write_bytes(b"x")
    outcome = place.benchmark(data)
    return outcome, whole(outcome) and "50 hidden" in outcome.err


@case("what is no image is passed over, counted and said")
def other_files(place):
    data = images(place.folder / "data")
    for name in ("notes.txt", "photo.heic", "list.csv"):
        (data / "train" / "a" / name).write_text("no image")
    outcome = place.benchmark(data)
    return outcome, whole(outcome) and "3 no images" in outcome.err


@case("no hang: passed over and said")
def named_pipe(place):
    data = images(place.folder / "data")
    os.mkfifo(data / "train" / "a" / "pipe.jpg")
    outcome = place.benchmark(data, limit=60)
    return outcome, whole(outcome) and "neither files nor folders" in outcome.err


@case("upright: 32 x 40 pixels where the camera lay on its side")
def turned(place):
    data = images(place.folder / "data", train=8, val=4)
    for index, path in enumerate(files(data)):
        exif = Image.Exif()
        exif[0x0112] = 1 + index % 8
        picture(index).save(path, exif=exif, quality=95)
    outcome = place.benchmark(data)
    decoded = b"".join(path.read_bytes() for path in (place.folder / "cache/decoded").glob("*"))
    return outcome, whole(outcome, (24, 12)) and b"[32,40" in decoded and b"[40,32" in decoded


@case("30 photographs of 12 megapixels need less than 900 MB (the training alone takes 600)")
def photos_12_megapixels(place):
    data = images(place.folder / "data", train=8, val=2, size=(4000, 3000))
    outcome = place.benchmark(data)
    return outcome, whole(outcome, (24, 6)) and outcome.peak < 900


@case("a header of 16,384 x 16,384 pixels in some hundred bytes is refused without the memory")
def header_bomb(place):
    data = images(place.folder / "data")
    path = files(data)[0]
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = b"\x40\x00\x40\x00"
    path.write_bytes(content)
    outcome = place.benchmark(data)
    return outcome, outcome.code == 1 and "16384 x 16384" in outcome.err and outcome.peak < 300


@case("the first is named, the others are counted, `data verify` is named")
def broken_images(place):
    data = images(place.folder / "data")
    for path in files(data)[::10]:
        path.write_bytes(path.read_bytes()[:300])
    outcome = place.benchmark(data)
    return outcome, outcome.code == 1 and "4 more of 48 images" in outcome.err and "data verify" in outcome.err


@case("one class, whether its name is composed or decomposed")
def accents(place):
    data = images(place.folder / "data", ("na\u00efve", "b <b>&\"'", "c, d; e"))
    (data / "val" / "na\u00efve").rename(data / "val" / "nai\u0308ve")
    outcome = place.benchmark(data)
    return outcome, whole(outcome)


# --- images of one's own, in the place of Imagewoof's


def own(place, *words):
    """`quick` in small on images of one's own."""
    place.experiment = place.folder / "little.toml"
    place.experiment.write_text(
        'extends = "quick"\nname = "little"\n[data]\nimage_size_px = 32\n[training]\nepochs = 1\n[analysis]\ntsne_iterations = 100\n'
        '[[heads]]\nkind = "Classification"\n'
    )
    return place.run("benchmark", place.experiment, "--out", place.folder / "out", "--cache", place.folder / "cache", *words)


def flat(place, name="Meine Bilder", count=10):
    """Class folders alone."""
    data = images(place.folder / "both", ("caf\u00e9 noir", "b, c", "d"), train=count, val=1)
    (data / "train").rename(place.folder / name)
    return place.folder / name


@case("named after the folder, split 24 + 6, batch 16; Imagewoof is not mentioned")
def own_class_folders(place):
    outcome = own(place, "--data", flat(place))
    page = place.folder / "out/Meine-Bilder-little/index.html"
    right = whole(outcome, (24, 6)) and "A batch has 16 images" in outcome.err and "foxhound" not in page.read_text()
    return outcome, right and (page.parent / "split.csv").exists()


@case("a table with byte-order mark and semicolons; no group on both sides")
def own_table(place):
    data = flat(place)
    rows = [f"{path.relative_to(data)};{path.parent.name};{path.parent.name}{int(path.stem) // 2}" for path in files(data)]
    (place.folder / "t.csv").write_text("path;label;group\n" + "\n".join(rows), encoding="utf-8-sig")
    outcome = own(place, "--data", data, "--labels", place.folder / "t.csv", "--name", "grouped")
    return outcome, outcome.code == 0 and (place.folder / "out/grouped-little/split.csv").exists()


@case("unreadable images are listed and left out where asked")
def own_unreadable(place):
    data = flat(place)
    for path in files(data)[::10]:
        path.write_bytes(path.read_bytes()[:300])
    outcome = own(place, "--data", data, "--skip-unreadable")
    listed = place.folder / "out/Meine-Bilder-little/unreadable.csv"
    return outcome, outcome.code == 0 and len(listed.read_text().splitlines()) == 4


# --- tables of labels


def table(place, header, separator, label=lambda kind: ["cat", "dog", "fox"][kind], words=()):
    kinds = np.arange(60) % 3
    points = rng.normal(size=(3, 16))[kinds] + 0.5 * rng.normal(size=(60, 16))
    np.save(place.folder / "x.npy", points.astype("f4"))
    rows = "".join(f"{index}{separator}{label(kind)}\n" for index, kind in enumerate(kinds))
    (place.folder / "y.csv").write_text(separator.join(header) + "\n" + rows)
    return place.run("report", "--embeddings", "x.npy", "--labels", "y.csv", "--out", "out", *words)


def separated(name, separator):
    def tried(place):
        outcome = table(place, ("id", "label"), separator)
        found = re.search(r"knn_accuracy_k5,([\d.]+)", (place.folder / "out/embeddings-x/metrics.csv").read_text()) if outcome.code == 0 else None
        return outcome, found is not None and float(found[1]) > 0.9

    tried.__name__ = "labels_by_" + name
    return tried


for name, separator in (("comma", ","), ("semicolon", ";"), ("tab", "\t")):
    case("the columns are found: KNN accuracy above 90 %")(separated(name, separator))


@case("refused: it is not one column")
def labels_unnamed(place):
    outcome = table(place, ("id", "class"), ";")
    return outcome, outcome.code == 1 and "no column `label`" in outcome.err


@case("a warning: one number in two ways")
def labels_1_and_01(place):
    outcome = table(place, ("id", "label"), ",", label=lambda kind: ["1", "01", "2"][kind])
    return outcome, outcome.code == 0 and "`01` and `1`" in outcome.err


def many(count):
    def tried(place):
        kinds = np.repeat(np.arange(count), 2)
        points = rng.normal(size=(count, 32))[kinds] + 0.3 * rng.normal(size=(2 * count, 32))
        np.save(place.folder / "x.npy", points.astype("f4"))
        (place.folder / "y.csv").write_text("label\n" + "".join(f"class {kind}\n" for kind in kinds))
        outcome = place.run("report", "--embeddings", "x.npy", "--labels", "y.csv", "--out", "out", limit=1800)
        plots = place.folder / "out/embeddings-x/plots"
        size = sum(path.stat().st_size for path in files(plots)) / 1e6 if plots.exists() else 0
        outcome.err += f"\n{size:.0f} MB of pictures"
        return outcome, outcome.code == 0 and size < 10

    tried.__name__ = f"classes_{count}"
    return tried


for count in (300, 1000, 5000):
    case("a report with less than 10 MB of pictures")(many(count))


# --- the command line


@case("read, with its space: two heads")
def heads_with_space(place):
    outcome = place.run("benchmark", "smoke", "--dry-run", "--heads", "ArcFace, CosFace")
    return outcome, outcome.code == 0 and "2 heads" in outcome.out


@case("three seeds each")
def seeds_as_ranges(place):
    for seeds in ("0-2", "0..3", "0..=2"):
        outcome = place.run("benchmark", "smoke", "--dry-run", "--seeds", seeds)
        if outcome.code or "x 3 seeds" not in outcome.out:
            return outcome, False
    return outcome, True


@case("refused, with the nearest name")
def misspelt(place):
    for words, nearest in ((("smoke", "--heads", "ArcFcae"), "ArcFace"), (("qiuck",), "quick")):
        outcome = place.run("benchmark", *words)
        if outcome.code != 1 or f"did you mean `{nearest}`" not in outcome.err:
            return outcome, False
    return outcome, True


@case("refused: it would have no effect")
def data_without_effect(place):
    outcome = place.run("benchmark", "smoke", "--data", "/nonexistent", "--out", "out")
    return outcome, outcome.code == 1 and "no effect" in outcome.err


@case("fails where the images that are named are not there")
def dry_run_nowhere(place):
    outcome = place.run("benchmark", "quick", "--dry-run", "--data", "/nonexistent")
    return outcome, outcome.code == 1 and "/nonexistent" in outcome.err


@case("refused with the range")
def endless_values(place):
    for key, value in (("analysis", "tsne_iterations = 18446744073709551615"), ("data.augmentation", "crop_scale = [1e-300, 1.0]")):
        (place.folder / "endless.toml").write_text(f'extends = "smoke"\nname = "endless"\n[{key}]\n{value}\n')
        outcome = place.run("benchmark", "endless.toml", "--dry-run", limit=60)
        if outcome.code != 1 or "must" not in outcome.err:
            return outcome, False
    return outcome, True


@case("refused: more than processors can use")
def threads(place):
    outcome = place.run("benchmark", "smoke", "--threads", "1000", limit=30)
    if outcome.code == 1 and "processors" in outcome.err:
        outcome = place.run("heads", env={"RAYON_NUM_THREADS": "100000"}, limit=30)
    return outcome, outcome.code == 1 and "processors" in outcome.err


# --- the machine



def smoke(epochs=1, out="out"):
    return f'"$P" benchmark smoke --heads Classification --epochs {epochs} --device cpu --out {out}'


SMOKE = smoke()


@case("the work is done, the exit status (74) says that output was cut")
def closed_pipe(place):
    outcome = place.run(shell=f"{SMOKE} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}")
    return outcome, outcome.code == 74 and (place.folder / "out/smoke/index.html").exists()


@case("the work is done, the exit status (74) says that output was cut")
def full_output(place):
    outcome = place.run(shell=f"{SMOKE} >/dev/full 2>&1")
    return outcome, outcome.code == 74 and (place.folder / "out/smoke/index.html").exists()


@case("the work is done")
def closed_output(place):
    outcome = place.run(shell=f"{SMOKE} >&- 2>&-")
    return outcome, outcome.code == 0 and (place.folder / "out/smoke/index.html").exists()


@case("waits for a process that was just killed, then goes on")
def after_kill(place):
    start = f"{smoke(8)} 2>/dev/null & child=$!; until [ -e out/smoke/runs ]; do sleep .02; done"
    outcome = place.run(shell=f"{start}; (sleep 1; kill -9 $child) & {smoke(8)}")
    return outcome, outcome.code == 0 and "waiting" in outcome.err


@case("the file of the user stays as it is")
def lock_is_a_link(place):
    (place.folder / "mine").write_text("mine")
    (place.folder / "out/smoke").mkdir(parents=True)
    (place.folder / "out/smoke/.lock").symlink_to("../../mine")
    outcome = place.run(shell=SMOKE)
    return outcome, outcome.code == 1 and (place.folder / "mine").read_text() == "mine" and "is a link" in outcome.err


@case("files of the user's own stay, whatever their names")
def files_of_the_user(place):
    mine = [place.folder / "out/smoke" / name for name in ("plots/mine.svg", "confusion/mine.csv", ".partial-mine/deep", "runs/.partial-x")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    outcome = place.run(shell=SMOKE)
    return outcome, outcome.code == 0 and all(path.exists() for path in mine)


@case("works: all that is needed is there")
def read_only_cache(place):
    if os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"]).returncode:
        return place.run("heads", "--names"), None
    protect = "mount --bind -o ro data data && mount -o remount,ro,bind data" if os.geteuid() == 0 else "chmod -R a-w data"
    wrap = "unshare --mount" if os.geteuid() == 0 else ""
    line = f"{smoke(out='first')} 2>/dev/null >/dev/null; export P; {wrap} bash -c '{protect}; {SMOKE}'"
    outcome = place.run(shell=line)
    return outcome, outcome.code == 0


@case("a clear error, no SIGBUS")
def decoded_images_cut(place):
    outcome = place.run(
        shell=f"{smoke(200)} & child=$!; until [ -e out/smoke/runs/Classification-seed0/checkpoint.safetensors ]; do sleep .02; done; "
        "for file in data/decoded/*; do : >\"$file\"; done; wait $child"
    )
    return outcome, outcome.code == 1 and "decoded images" in outcome.err


@case("an inherited `nohup` stays: the training goes on")
def nohup(place):
    outcome = place.run(
        shell=f"nohup {SMOKE} & child=$!; until [ -e out/smoke/runs ]; do sleep .02; done; kill -HUP $child; wait $child"
    )
    return outcome, outcome.code == 0 and (place.folder / "out/smoke/index.html").exists()


@case("one line that says how much is needed")
def little_memory(place):
    outcome = place.run(shell=f"ulimit -v 600000; {SMOKE}")
    return outcome, outcome.code == 1 and "at least 1024" in outcome.err


@case("name, password and key are in no message")
def secret_mirror(place):
    outcome = place.run("data", "fetch", "--mirror", "http://user:secret@127.0.0.1:9/x?token=hidden", "--cache", "cache", limit=120)
    return outcome, outcome.code == 1 and "127.0.0.1:9" in outcome.err and "secret" not in outcome.err and "hidden" not in outcome.err


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=ROOT / "target/release/xtask", help="the program to try")
    parser.add_argument("--only", nargs="*", default=list(CASES), metavar="CASE", help="cases to try")
    parser.add_argument("--skip", nargs="*", default=[], metavar="CASE", help="cases to leave out")
    args = parser.parse_args()
    program = [str(Path(args.program).resolve())]
    wrong = []
    print("| case | right | exit | MB | said | holds |\n|---|---|---|---|---|---|")
    for name in (name for name in args.only if name not in args.skip):
        right, tried = CASES[name]
        with tempfile.TemporaryDirectory(prefix="cases-") as folder:
            # The program stands for `cargo xtask`, which wants a folder of its own: here each case's.
            place = Place(wrapper(program[0], Path(folder)), Path(folder))
            outcome, holds = tried(place)
            said = re.sub(r"[\w./-]+\.toml", "FILE", outcome.last().replace(folder, "T"))
            said = said.replace("|", "\\|").replace("`", "'")[:300]
        verdict = {True: "yes", False: "**no**", None: "left out"}[None if holds is None else bool(holds)]
        print(f"| {name} | {right} | {outcome.code} | {outcome.peak:.0f} | `{said}` | {verdict} |", flush=True)
        if verdict == "**no**":
            wrong.append(name)
    if wrong:
        sys.exit(f"another outcome than is right: {', '.join(wrong)}")


def wrapper(program, folder):
    """A script that starts the program on the case's folder."""
    script = folder / "faceoff"
    script.write_text(f'#!/bin/sh\nexec "{program}" --root "{folder}" "$@"\n')
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
