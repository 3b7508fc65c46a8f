"""A run's encoder in PyTorch: `encoder.safetensors` loads into torchvision's ResNet-18 with strict=True and fc = Identity, and
gives the features that the run stored, to 1e-4 of their length.

    python scripts/check_torchvision.py reports/quick/runs/ArcFace-seed0 data/imagewoof2-160-<md5>

Needs torch, torchvision, numpy and safetensors. The pixels come from Faceoff's own loader, so that nothing but the encoder is compared;
beside that stands the same comparison on views that Pillow and torchvision make of the files.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import functional as F

TOLERANCE = 1e-4
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def features(model, pixels):
    """(n, size, size, 3) u8 -> (n, 512), one batch of 64 at a time."""
    mean, deviation = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, DEVIATION))
    with torch.no_grad():
        parts = [
            model((torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255 - mean) / deviation)
            for part in (pixels[first : first + 64] for first in range(0, len(pixels), 64))
        ]
    return torch.cat(parts)


def pillow_view(path, size, factor):
    image = Image.open(path).convert("RGB")
    return np.asarray(F.center_crop(F.resize(image, round(factor * size)), size))


def worst(found, stored):
    """Largest distance of a feature vector from the stored one, as a share of the stored one's length."""
    return ((found - stored).norm(dim=1) / stored.norm(dim=1)).max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a whole run's folder")
    parser.add_argument("data", type=Path, help="the data set's folder")
    parser.add_argument("--pillow", type=int, default=256, help="validation images for the views by Pillow")
    args = parser.parse_args()

    model = torchvision.models.resnet18(weights=None)
    model.fc = torch.nn.Identity()
    model.load_state_dict(load_file(args.run / "encoder.safetensors"), strict=True)
    model.eval()
    print("encoder.safetensors: loaded with strict=True, fc = Identity")

    outcome = load_file(args.run / "embeddings-val.safetensors")
    stored = outcome["embeddings"] * outcome["norms"][:, None]
    data = json.loads((args.run / "manifest.json").read_text())["spec"]["data"]
    size = data["image_size_px"]
    with tempfile.NamedTemporaryFile() as file:
        command = ["cargo", "run", "--quiet", "--release", "-p", "faceoff-data", "--example", "views", "--"]
        workspace = Path(__file__).resolve().parent.parent
        subprocess.run([*command, args.run.resolve(), args.data.resolve(), file.name], check=True, cwd=workspace)
        pixels = np.fromfile(file.name, dtype=np.uint8).reshape(-1, size, size, 3)
    assert len(pixels) == len(stored), (len(pixels), len(stored))
    error = worst(features(model, pixels), stored)
    print(f"same pixels, {len(stored)} validation images: worst relative error {error:.1e} (allowed {TOLERANCE:.0e})")

    with open(args.run / "images-val.csv", newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    # Spread over the classes, which the list is sorted by.
    chosen = np.linspace(0, len(ids) - 1, min(args.pillow, len(ids))).astype(int)
    factor = data["augmentation"]["eval_resize_factor"]
    views = np.stack([pillow_view(args.data / ids[index], size, factor) for index in chosen])
    apart = np.abs(views.astype(int) - pixels[chosen].astype(int))
    print(
        f"Pillow's pixels, {len(chosen)} images: at most {apart.max()} of 255 apart, {apart.mean():.3f} on average; "
        f"worst relative error of the features {worst(features(model, views), stored[chosen]):.1e}"
    )
    sys.exit(error > TOLERANCE)


if __name__ == "__main__":
    main()
