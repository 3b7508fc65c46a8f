"""Weights from torchvision start a frozen encoder: the features that a run stores are torchvision's, to 1e-4 of their length.

    cargo build --release -p xtask
    python scripts/check_encoder_init.py --program target/release/xtask

Makes a ResNet-18, a ResNet-34 and a ResNet-50 with batch norms that have seen data, and a classification layer that is to be ignored; and images as large as the
encoder sees them, so that nothing but the encoder is compared. Needs torch, torchvision, numpy, Pillow and safetensors.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

TOLERANCE, SIZE = 1e-4, 64
MEAN, DEVIATION = (torch.tensor(x).view(1, 3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
EXPERIMENT = """extends = "quick"
name = "check"
heads = [{{ kind = "Classification" }}]
[data.augmentation]
eval_resize_factor = 1.0
[training]
epochs = 1
encoder = "{name}"
encoder_init = "{weights}"
encoder_frozen = true
[analysis]
tsne_iterations = 10
"""


def normalized(pixels):
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / DEVIATION


def check(name, program, folder):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = getattr(torchvision.models, name)(weights=None)
    model.train()
    for _ in range(3):
        model(normalized(random.integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8)))
    weights = folder / f"{name}.safetensors"
    save_file(model.state_dict(), weights)
    for label in range(4):
        (folder / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        for index in range(10):
            path = folder / "images" / str(label) / f"{index}.png"
            Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    experiment = folder / "check.toml"
    experiment.write_text(EXPERIMENT.format(name=name, weights=weights))
    command = [program, "benchmark", experiment, "--data", folder / "images", "--name", name, "--out", folder / "out"]
    command += ["--cache", folder / "cache", "--thumbnails", "none", "--device", "cpu"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fc.bias, fc.weight" in done.stderr, done.stderr
    report = folder / "out" / f"{name}-check"
    assert "may hold these validation images" in (report / "index.html").read_text()

    model.fc = torch.nn.Identity()
    model.eval()
    worst = 0.0
    for split in ["train", "val"]:
        run = report / "runs" / "Classification-seed0"
        stored = load_file(run / f"embeddings-{split}.safetensors")
        stored = stored["embeddings"] * stored["norms"][:, None]
        ids = [line.rsplit(",", 2)[0] for line in (run / f"images-{split}.csv").read_text().splitlines()[1:]]
        pixels = np.stack([np.asarray(Image.open(folder / "images" / image)) for image in ids])
        with torch.no_grad():
            features = model(normalized(pixels))
        worst = max(worst, ((features - stored).norm(dim=1) / features.norm(dim=1)).max().item())
    kept = load_file(run / "encoder.safetensors")
    same = all(torch.equal(kept[key], value) for key, value in model.state_dict().items())
    print(f"{name}: 40 images, worst relative error {worst:.1e} (allowed {TOLERANCE:.0e}); weights unchanged: {same}")
    return worst <= TOLERANCE and same


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/xtask")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        right = [check(name, given.program, Path(folder)) for name in ["resnet18", "resnet34", "resnet50"]]
    sys.exit(not all(right))
