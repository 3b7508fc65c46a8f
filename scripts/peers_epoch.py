"""Times epochs of training on real images beside PyTorch's CPU build, in turns: decoding, augmentation and steps together.

    pip install torch torchvision
    cargo build --release -p xtask
    python scripts/peers_epoch.py DATA --rounds 5 --epochs 2 --threads 2 --json epochs.json

DATA is Imagewoof's folder. On a slow machine `--images 2250` shortens the epoch: both sides then train on that many images, as many
of each class. Both sides train the plain linear classifier of experiments/quick.toml at 64 px; PyTorch
with channels_last, an allocator that keeps large buffers, and two worker processes for the images (scripts/peer_training.py).
The first epoch of each run is left out: it starts workers and fills caches. Medians over all others.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"epoch (\d+)/\d+ .* (\d+) images/s  waited for data ([\d.]+) %")


def ours(options):
    with tempfile.TemporaryDirectory() as folder:
        experiment = Path(folder) / "quick.toml"
        text = (ROOT / "experiments/quick.toml").read_text()
        if options.images:
            text = text.replace("[data]\n", f"[data]\nimages_per_split = {options.images}\n", 1)
        experiment.write_text(text)
        command = [ROOT / "target/release/xtask", "--root", ROOT, "benchmark", experiment, "--device", "cpu", "--heads", "Classification", "--epochs", options.epochs]
        command += ["--data", options.data, "--threads", options.threads, "--out", folder]
        output = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    epochs = [match.groups() for match in LINE.finditer(output.stderr)][1:]
    return [{"images_per_second": float(rate), "waited_percent": float(waited)} for _, rate, waited in epochs]


def theirs(options):
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32), "OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        data = part(options.data, Path(folder) / "data", options.images) if options.images else options.data
        command = [sys.executable, ROOT / "scripts/peer_training.py", "train", data, out, "--epochs", options.epochs]
        command += ["--workers", 2, "--device", "cpu", "--channels-last"]
        subprocess.run([str(part) for part in command], check=True, capture_output=True, env={**os.environ, **kept})
        result = json.loads(out.read_text())["results"][0]
    images = options.trained // 64 * 64
    epochs = list(zip(result["seconds"], result["waiting"]))[1:]
    return [{"images_per_second": images / seconds, "waited_percent": 100 * waited} for seconds, waited in epochs]


def part(data, folder, images):
    """Links to `images` images of each split, as many of each class."""
    for split in ("train", "val"):
        classes = sorted(path for path in (data / split).iterdir() if path.is_dir())
        for label in classes:
            (folder / split / label.name).mkdir(parents=True)
            for path in sorted(label.iterdir())[: images // len(classes)]:
                (folder / split / label.name / path.name).symlink_to(path.resolve())
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, help="images of each split instead of all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.trained = options.images or sum(1 for path in (options.data / "train").rglob("*") if path.is_file())

    sides = {"faceoff": [], "PyTorch": []}
    for _ in range(options.rounds):
        sides["faceoff"] += ours(options)
        sides["PyTorch"] += theirs(options)
    medians = {}
    for side, epochs in sides.items():
        rate = medians[side] = statistics.median(epoch["images_per_second"] for epoch in epochs)
        waited = statistics.median(epoch["waited_percent"] for epoch in epochs)
        seconds = options.trained // 64 * 64 / rate
        print(f"{side:8} {rate:5.0f} images/s  {seconds:6.1f} s an epoch of {options.trained} images  waited for data {waited:.1f} %  ({len(epochs)} epochs)")
    print(f"ratio    {medians['faceoff'] / medians['PyTorch']:5.2f}")
    if options.json:
        options.json.write_text(json.dumps(sides, indent=1) + "\n")


if __name__ == "__main__":
    main()
