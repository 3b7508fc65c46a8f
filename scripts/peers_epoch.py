"""Times epochs of training on real images beside PyTorch's CPU build, in turns: decoding, augmentation and steps together.

    pip install torch torchvision
    cargo build --release -p xtask
    python scripts/peers_epoch.py DATA --rounds 3 --epochs 3 --threads 2 --json epochs.json

DATA has train/<class>/ and val/<class>/. Both sides train the plain linear classifier of experiments/quick.toml at 64 px; PyTorch
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
        command = [ROOT / "target/release/xtask", "benchmark", "quick", "--device", "cpu", "--heads", "Classification", "--epochs", options.epochs]
        command += ["--data", options.data, "--threads", options.threads, "--out", folder]
        output = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    epochs = [match.groups() for match in LINE.finditer(output.stderr)][1:]
    return [{"images_per_second": float(rate), "waited_percent": float(waited)} for _, rate, waited in epochs]


def theirs(options):
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32), "OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, ROOT / "scripts/peer_training.py", "train", options.data, out, "--epochs", options.epochs]
        command += ["--workers", 2, "--device", "cpu", "--channels-last"]
        subprocess.run([str(part) for part in command], check=True, capture_output=True, env={**os.environ, **kept})
        result = json.loads(out.read_text())["results"][0]
    images = options.images // 64 * 64
    epochs = list(zip(result["seconds"], result["waiting"]))[1:]
    return [{"images_per_second": images / seconds, "waited_percent": 100 * waited} for seconds, waited in epochs]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.images = sum(1 for path in (options.data / "train").rglob("*") if path.is_file())

    sides = {"faceoff": [], "PyTorch": []}
    for _ in range(options.rounds):
        sides["faceoff"] += ours(options)
        sides["PyTorch"] += theirs(options)
    medians = {}
    for side, epochs in sides.items():
        rate = medians[side] = statistics.median(epoch["images_per_second"] for epoch in epochs)
        waited = statistics.median(epoch["waited_percent"] for epoch in epochs)
        seconds = options.images // 64 * 64 / rate
        print(f"{side:8} {rate:5.0f} images/s  {seconds:6.1f} s an epoch  waited for data {waited:.1f} %  ({len(epochs)} epochs)")
    print(f"ratio    {medians['faceoff'] / medians['PyTorch']:5.2f}")
    if options.json:
        options.json.write_text(json.dumps(sides, indent=1) + "\n")


if __name__ == "__main__":
    main()
