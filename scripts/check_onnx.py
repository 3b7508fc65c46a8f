"""An exported encoder in onnxruntime gives what `faceoff embed` gives, and what the run stored, to 1e-4, in batches of 1, 3 and 17.

    python scripts/check_onnx.py reports/quick/runs/ArcFace-seed0 --program target/release/xtask [--data data/imagewoof2-160-<md5>]

Made-up images have the size that validation images are brought to, so that nothing but the cut and the encoder is compared. With --data,
the validation images of the run too: their pixels come from Faceoff's own loader. Needs onnx, onnxruntime, numpy and Pillow, and
safetensors for --data; without them it says that it is skipped.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
    from PIL import Image
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed (pip install onnx onnxruntime numpy pillow)")
    sys.exit(0)

TOLERANCE = 1e-4
WORKSPACE = Path(__file__).resolve().parent.parent


def compare(what, session, pixels, expected):
    """The largest difference of any output, as a share of the largest score where that is more than 1."""
    inputs = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    names, worst = [name for name in expected], 0.0
    for batch in (1, 3, 17):
        parts = [session.run(names, {"images": inputs[at : at + batch]}) for at in range(0, len(inputs), batch)]
        for place, name in enumerate(names):
            found = np.concatenate([part[place] for part in parts])
            apart = np.abs(found - expected[name]).max() / max(1.0, np.abs(expected[name]).max())
            print(f"{what}, {len(inputs)} in batches of {batch}: {name} at most {apart:.1e} apart (allowed {TOLERANCE:.0e})")
            worst = max(worst, apart)
    return worst


def of_embed(args, session, size, shorter, folder):
    random, cut = np.random.default_rng(0), round((shorter - size) / 2)
    pictures = random.integers(0, 256, (40, shorter, shorter, 3), dtype=np.uint8)
    images = folder / "images"
    images.mkdir()
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(images / f"{place:02}.png")
    out = folder / "embeddings.npy"
    subprocess.run([args.program, "embed", args.run, images, "--out", out, "--device", "cpu"], check=True)
    with open(folder / "embeddings.paths.csv", newline="") as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == [f"{place:02}.png" for place in range(40)]
    return compare("images of embed", session, pictures[:, cut : cut + size, cut : cut + size], {"embedding": np.load(out)})


def of_run(args, session, size, folder):
    from safetensors.numpy import load_file

    file = args.pixels or folder / "pixels"
    if not args.pixels:
        command = ["cargo", "run", "--quiet", "--release", "-p", "faceoff-data", "--example", "views", "--"]
        subprocess.run([*command, args.run.resolve(), args.data.resolve(), file], check=True, cwd=WORKSPACE)
    pixels = np.fromfile(file, dtype=np.uint8).reshape(-1, size, size, 3)
    stored = load_file(args.run / "embeddings-val.safetensors")
    assert len(pixels) == len(stored["embeddings"]), (len(pixels), len(stored["embeddings"]))
    chosen = np.linspace(0, len(pixels) - 1, min(args.images, len(pixels))).astype(int)
    expected = {"embedding": stored["embeddings"][chosen]}
    if "scores" in [value.name for value in session.get_outputs()]:
        expected["scores"] = stored["scores"][chosen]
    return compare("images of the run", session, pixels[chosen], expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a whole run")
    parser.add_argument("--program", type=Path, default=WORKSPACE / "target/release/xtask", help="xtask or faceoff, built")
    parser.add_argument("--data", type=Path, help="the data set's folder, for the run's own validation images")
    parser.add_argument("--pixels", type=Path, help="what the example `views` of faceoff-data wrote, instead of calling it")
    parser.add_argument("--images", type=int, default=1000, help="validation images that are compared, spread over all")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        path = folder / "encoder.onnx"
        subprocess.run([args.program, "export", args.run, "--onnx", path], check=True)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        opset = ", ".join(str(entry.version) for entry in model.opset_import)
        print(f"onnx.checker finds nothing wrong; IR {model.ir_version}, opset {opset}, {len(model.graph.node)} nodes")
        properties = {entry.key: entry.value for entry in model.metadata_props}
        for key, value in properties.items():
            print(f"  {key} = {value[:100]}")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for value in [*session.get_inputs(), *session.get_outputs()]:
            print(f"  {value.name}: {value.type} {value.shape}")
        size = json.loads((args.run / "manifest.json").read_text())["spec"]["data"]["image_size_px"]
        worst = of_embed(args, session, size, int(properties["faceoff.shorter_side_px"]), folder)
        if args.data or args.pixels:
            worst = max(worst, of_run(args, session, size, folder))
    sys.exit(int(worst > TOLERANCE))


if __name__ == "__main__":
    main()
