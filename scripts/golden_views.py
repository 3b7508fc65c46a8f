"""Makes crates/data/tests/golden/views.json: torchvision's transforms on PIL images that a formula gives.

usage: python scripts/golden_views.py        (needs torch, torchvision and Pillow)
"""
import json, pathlib
import numpy as np
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import functional as F

cases = []
for width, height, size in [(160, 213, 64), (213, 160, 64), (97, 61, 32), (40, 40, 64), (333, 160, 128)]:
    index = np.arange(width * height * 3)
    pixels = ((index * 7919 + index // 97 * 31) % 256).astype(np.uint8).reshape(height, width, 3)
    image = Image.fromarray(pixels)
    evaluation = T.Compose([T.Resize(round(1.14 * size)), T.CenterCrop(size)])(image)
    whole = F.resized_crop(image, 0, 0, height, width, (size, size))
    def samples(view):
        flat = np.asarray(view).reshape(-1)
        return [int(value) for value in flat[:: max(1, len(flat) // 500)]]
    cases.append(dict(width=width, height=height, size_px=size, evaluation=samples(evaluation), whole=samples(whole)))
out = pathlib.Path(__file__).resolve().parent.parent / "crates/data/tests/golden/views.json"
out.write_text(json.dumps(cases) + "\n")
print("wrote", out)
