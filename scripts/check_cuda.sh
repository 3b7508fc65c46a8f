#!/usr/bin/env bash
# Type-checks the feature `cuda` without a CUDA toolkit: a program named nvcc that writes empty files stands in for the compiler of Candle's
# kernels. Says nothing of what runs; see docs/gpu.md.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo fetch --locked --quiet --target "$(rustc -vV | sed -n 's/^host: //p')"; then
    echo "skipped: the crates for CUDA cannot be fetched"
    exit 0
fi
toolkit=$(mktemp -d)
trap 'rm -rf "$toolkit"' EXIT
mkdir "$toolkit/bin"
cat >"$toolkit/bin/nvcc" <<'NVCC'
#!/bin/sh
case "$*" in *--version*)
    echo "nvcc: NVIDIA (R) Cuda compiler driver"
    echo "Copyright (c) 2005-2025 NVIDIA Corporation"
    echo "Built on Wed_Aug_20_01:58:59_PM_PDT_2025"
    echo "Cuda compilation tools, release 13.0, V13.0.48"
    echo "Build cuda_13.0.r13.0/compiler.0_0"
    ;;
esac
folder= ; sources=
while [ $# -gt 0 ]; do
    case "$1" in
    -o) : >"$2" ;;
    --output-directory) folder=$2 ;;
    *.cu) sources="$sources $1" ;;
    esac
    shift
done
if [ -n "$folder" ]; then
    for source in $sources; do : >"$folder/$(basename "$source" .cu).ptx"; done
fi
NVCC
chmod +x "$toolkit/bin/nvcc"
PATH="$toolkit/bin:$PATH" CUDA_HOME="$toolkit" CUDA_PATH="$toolkit" CUDA_COMPUTE_CAP=90 \
    cargo clippy --release -p faceoff-kernels --features cuda --all-targets --locked -- -D warnings
