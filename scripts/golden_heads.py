"""Makes golden values of the heads from Catalyst's own layers in float64: logits, loss, gradients and three steps of state.

    pip install torch && pip install --no-deps catalyst==22.4
    python scripts/golden_heads.py --check crates/heads/tests/golden     # computes the committed files again from their inputs
    python scripts/golden_heads.py --out DIR [--heads ArcFace,...]       # makes files of new inputs

A file holds its inputs (weight, bias, embeddings, targets, parameters) beside what came out, so `--check` needs no seed. `_alt` files have other
parameters; `_edge` files hold embeddings on, opposite to and far beyond their class's weight, and one of tiny norm.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

SOURCE = "catalyst 22.4 contrib layers, float64"
SHAPES = [(4, 8, 10), (7, 16, 10)]  # batch, features, classes
STEPS = 3
# Layer's module, parameters, other parameters. The layer of Classification is PyTorch's own.
HEADS = {
    "Classification": (None, {}, None),
    "ArcMarginProduct": ("arcmargin", {}, None),
    "CosFace": ("cosface", {"s": 64.0, "m": 0.35}, {"s": 1.31, "m": 0.1}),
    "ArcFace": ("arcface", {"s": 64.0, "m": 0.5, "eps": 1e-6}, {"s": 1.31, "m": 0.3, "eps": 1e-6}),
    "AdaCos": ("cosface", {"eps": 1e-6}, None),
    "SubCenterArcFace": (
        "arcface",
        {"s": 64.0, "m": 0.5, "k": 3, "eps": 1e-6},
        {"s": 3.1073447968483734, "m": 0.35, "k": 2, "eps": 1e-6},
    ),
    "CurricularFace": ("curricularface", {"s": 64.0, "m": 0.5}, {"s": 30.0, "m": 0.3}),
}
# Layers that hold their weight as (features, classes).
TRANSPOSED = {"SubCenterArcFace", "CurricularFace"}
STATE = {"AdaCos": "s", "CurricularFace": "t"}


def layer_of(head, features, classes, hyper):
    """Catalyst's layer. Its file is loaded alone: the package itself wants far more than these layers need."""
    module = HEADS[head][0]
    if module is None:
        return torch.nn.Linear(features, classes).double()
    package = importlib.util.find_spec("catalyst")
    if package is None:
        sys.exit("Catalyst is not installed: pip install --no-deps catalyst==22.4")
    file = Path(package.origin).parent / "contrib" / "layers" / f"{module}.py"
    spec = importlib.util.spec_from_file_location(f"catalyst_{module}", file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return getattr(loaded, head)(features, classes, **hyper).double()


def as_stored(head, weight):
    return weight.transpose(-1, -2) if head in TRANSPOSED else weight


def compute(golden):
    """The file with everything that its inputs decide."""
    head = golden["head"]
    with_labels = head not in ("Classification", "ArcMarginProduct")
    layer = layer_of(head, golden["features"], golden["classes"], golden["hyper"])
    with torch.no_grad():
        layer.weight.copy_(as_stored(head, torch.tensor(golden["weight"], dtype=torch.float64)))
        if "bias" in golden:
            layer.bias.copy_(torch.tensor(golden["bias"], dtype=torch.float64))
    steps = []
    for inputs in golden["steps"]:
        embeddings = torch.tensor(inputs["embeddings"], dtype=torch.float64, requires_grad=True)
        targets = torch.tensor(inputs["targets"])
        step = {"embeddings": inputs["embeddings"], "targets": inputs["targets"]}
        state = lambda: float(getattr(layer, STATE[head]))
        with torch.no_grad():
            step["inference_logits"] = layer(embeddings).tolist()
        if head in STATE:
            step[f"{STATE[head]}_before"] = state()
        layer.zero_grad()
        logits = layer(embeddings, targets) if with_labels else layer(embeddings)
        loss = F.cross_entropy(logits, targets)
        loss.backward()
        step |= {
            "logits": logits.tolist(),
            "loss": loss.item(),
            "grad_embeddings": embeddings.grad.tolist(),
            "grad_weight": as_stored(head, layer.weight.grad).tolist(),
        }
        if "bias" in golden:
            step["grad_bias"] = layer.bias.grad.tolist()
        if head in STATE:
            step[f"{STATE[head]}_after"] = state()
        steps.append(step)
    return golden | {"steps": steps}


def new_inputs(head, shape, hyper, edge, random):
    batch, features, classes = shape
    layer = layer_of(head, features, classes, hyper)
    draw = lambda *size: torch.randn(*size, generator=random, dtype=torch.float64)
    weight = 0.4 * draw(*as_stored(head, layer.weight).shape)
    golden = {"head": head, "batch": batch, "features": features, "classes": classes, "hyper": hyper, "source": SOURCE}
    golden |= {"weight_layout": "k x C x F" if weight.dim() == 3 else "C x F", "weight": weight.tolist()}
    if head == "Classification":
        golden["bias"] = (0.1 * draw(classes)).tolist()
    golden["steps"] = []
    for _ in range(STEPS):
        embeddings = draw(batch, features)
        targets = torch.randint(classes, (batch,), generator=random)
        if edge:
            own = weight.reshape(-1, classes, features)[0][targets]
            # No nearer: where 1 - cos^2 is all rounding in float32, so is the gradient of an angular margin.
            noise = 0.03 * draw(batch, features)
            embeddings[0] = own[0] + noise[0]
            embeddings[1] = -own[1] + noise[1]
            embeddings[2] *= 1e-4
            embeddings[3] *= 10.0
        golden["steps"].append({"embeddings": embeddings.tolist(), "targets": targets.tolist()})
    return golden


def flat(value):
    return [x for item in value for x in flat(item)] if isinstance(value, list) else [float(value)]


def difference(stored, computed):
    """The largest difference, in parts of the largest absolute value of its array."""
    worst = 0.0
    for old, new in zip(stored["steps"], computed["steps"], strict=True):
        if old.keys() != new.keys():
            sys.exit(f"{stored['head']}: the file has {sorted(old)}, not {sorted(new)}")
        for key, value in old.items():
            a, b = flat(value), flat(new[key])
            if len(a) != len(b):
                sys.exit(f"{stored['head']}: {key} has {len(a)} values, not {len(b)}")
            scale = max(max(map(abs, a)), 1e-300)
            worst = max(worst, max(abs(x - y) for x, y in zip(a, b)) / scale)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="DIR", type=Path)
    parser.add_argument("--out", metavar="DIR", type=Path)
    parser.add_argument("--heads", default=",".join(HEADS), help="of those that are made")
    parser.add_argument("--tolerance", type=float, default=1e-12)
    args = parser.parse_args()
    if args.check is None and args.out is None:
        parser.error("say --check DIR or --out DIR")
    if args.check is not None:
        all_files = [(file, json.loads(file.read_text())) for file in sorted(args.check.glob("*.json"))]
        files = [(file, golden) for file, golden in all_files if golden["source"] == SOURCE]
        worst = 0.0
        for file, golden in files:
            off = difference(golden, compute(golden))
            worst = max(worst, off)
            print(f"{file.name:40} {off:.1e}")
        if not files or worst > args.tolerance:
            sys.exit(f"{len(files)} files; the largest difference is {worst:.1e}, and {args.tolerance:.0e} is allowed")
        print(f"{len(files)} files, largest difference {worst:.1e}")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        random = torch.Generator().manual_seed(0)
        for head in args.heads.split(","):
            _, hyper, other = HEADS[head]
            for shape in SHAPES:
                cases = [("", hyper, False), ("_edge", hyper, True)] + ([("_alt", other, False)] if other else [])
                for suffix, parameters, edge in cases:
                    golden = compute(new_inputs(head, shape, parameters, edge, random))
                    name = f"{head}_{shape[0]}x{shape[1]}x{shape[2]}{suffix}.json"
                    (args.out / name).write_text(json.dumps(golden))
        print(f"wrote {len(list(args.out.glob('*.json')))} files")


if __name__ == "__main__":
    main()
