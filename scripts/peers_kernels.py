"""Times a training step and an embedding beside PyTorch's CPU build, in turns, and prints medians and ratios.

    pip install torch torchvision
    cargo build --release -p xtask
    python scripts/peers_kernels.py --sizes 64:64,128:32 --rounds 5 --threads 2 --json peers.json

PyTorch gets its better settings: channels_last and contiguous are both timed and the faster one counts, and its allocator
keeps large buffers (glibc's thresholds raised). Both sides compute ResNet-18 without a classifier in f32, with AdamW, on one
batch again and again. Every number is a process of its own, so that peak memory is that of the step alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = 9


def torch_side(size, batch, threads, layout):
    """Times PyTorch in this process; prints JSON."""
    import resource
    import time

    import torch
    import torchvision

    torch.set_num_threads(threads)
    net = torchvision.models.resnet18(weights=None)
    net.fc = torch.nn.Identity()
    images = torch.randn(batch, 3, size, size)
    if layout == "channels_last":
        net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step():
        embeddings = net(images)
        optimizer.zero_grad(set_to_none=True)
        embeddings.backward(embeddings.detach())
        optimizer.step()

    def seconds(run):
        run()
        times = []
        for _ in range(STEPS):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    training = seconds(step)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    net.eval()
    with torch.no_grad():
        embedding = seconds(lambda: net(images))
    print(json.dumps({"step": batch / training, "embed": batch / embedding, "memory": memory}))


def ours(size, batch, threads):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [ROOT / "target/release/xtask", "--root", ROOT, "bench", "kernels", "--step-only", "--image-size", size, "--batch", batch]
        command += ["--repeats", STEPS, "--threads", threads, "--json", out]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(out.read_text())
    step = found["step"]
    return {"step": step["images_per_second"], "embed": found["embed"]["images_per_second"], "memory": step["peak_rss_mib"]}


def theirs(size, batch, threads, layout):
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--torch", f"{size}:{batch}:{threads}:{layout}"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **kept})
    return json.loads(output.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="64:64,128:32", help="image size:batch, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--torch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch:
        size, batch, threads, layout = options.torch.split(":")
        return torch_side(int(size), int(batch), int(threads), layout)

    results = {}
    for size, batch in (map(int, pair.split(":")) for pair in options.sizes.split(",")):
        rounds = []
        for _ in range(options.rounds):
            sides = {"faceoff": ours(size, batch, options.threads)}
            for layout in ("channels_last", "contiguous"):
                sides[layout] = theirs(size, batch, options.threads, layout)
            rounds.append(sides)
        print(f"{size} px, batch {batch}, {options.threads} threads, medians of {options.rounds} rounds")
        median = lambda side, what: statistics.median(sides[side][what] for sides in rounds)
        for what, unit in (("step", "images/s"), ("embed", "images/s"), ("memory", "MiB")):
            best = (max if unit == "images/s" else min)(median(layout, what) for layout in ("channels_last", "contiguous"))
            ours_median = median("faceoff", what)
            print(
                f"  {what:7} faceoff {ours_median:7.0f}  PyTorch channels_last {median('channels_last', what):7.0f}"
                f"  contiguous {median('contiguous', what):7.0f} {unit}  ratio to the better {ours_median / best:.2f}"
            )
        results[f"{size}:{batch}"] = rounds
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
