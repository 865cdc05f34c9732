#!/usr/bin/env bash
# On a machine with a GPU: build, test (under compute-sanitizer too, where it is), measure.
#
#     benchmarks/gpu_suite.sh [FOLDER]
#
# Results go to FOLDER, or to benchmarks/results. Needs what `pip install ".[test]"` needs, a CUDA
# toolkit and no network: pip install -e . --no-build-isolation --no-deps.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results}
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm --format=csv,noheader

architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
CMAKE_ARGS="-DPTQSR_CUDA=ON -DPTQSR_CUDA_ARCHITECTURES=$architecture" \
  python -m pip install -q -e . --no-build-isolation --no-deps

python -c 'import torch; from ptqsr import native
assert torch.cuda.is_available() and native.cuda(), "no GPU, or no kernels for it"'
python -m pytest -q -m gpu -p no:cacheprovider tests/cuda

if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    # Without PyTorch's cache every tensor has its own allocation, and ends where it ends.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 1 --target-processes all \
      python -m pytest -q -m gpu -p no:cacheprovider tests/cuda \
      -k "not any_shape and not any_order" > "$out/$tool.log" 2>&1 \
      || { tail -40 "$out/$tool.log"; echo "compute-sanitizer $tool: see $out/$tool.log"; exit 1; }
    echo "compute-sanitizer $tool: clean"
  done
else
  echo "no compute-sanitizer here: memcheck and racecheck have not run"
fi

python -m benchmarks.gpu --json "$out/gpu.json"
