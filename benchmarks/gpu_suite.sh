#!/usr/bin/env bash
# On a machine with a GPU: build, test, test under compute-sanitizer, measure.
#
#     benchmarks/gpu_suite.sh [test] [sanitize] [bench]     # none of them: all
#
# Every call builds first, where something changed. Where a command may take ten minutes, call it
# three times: each part ends within GPU_SUITE_SECONDS (540), as do all of them together; what was
# cut short is said. Results and logs go to GPU_SUITE_OUT (benchmarks/results).
#
# Needs what `pip install ".[test]"` needs, a CUDA toolkit and no network. CUTLASS is a peer where
# nvidia-cutlass is installed (pip install --no-deps nvidia-cutlass).
set -euo pipefail
cd "$(dirname "$0")/.."
export GPU_SUITE_OUT=${GPU_SUITE_OUT:-benchmarks/results}
limit=${GPU_SUITE_SECONDS:-540}
parts=("$@")
[ $# -gt 0 ] || parts=(test sanitize bench)
for part in "${parts[@]}"; do
  case $part in test | sanitize | bench) ;; *) sed -n '2,/^set/p' "$0" | grep '^#' >&2; exit 2 ;; esac
done
mkdir -p "$GPU_SUITE_OUT"

# Seconds that are left, but for `reserved` ones; at most `most`.
left() { # most, reserved
  local seconds=$((limit - SECONDS - ${2:-0}))
  echo $((seconds < $1 ? (seconds > 1 ? seconds : 1) : $1))
}
# Seconds kept for what comes after the sanitizer.
reserved() { [[ " ${parts[*]} " == *" bench "* ]] && echo 180 || echo 5; }

build() {
  command -v nvidia-smi > /dev/null || { echo "gpu_suite.sh: no nvidia-smi, so no GPU here"; exit 2; }
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm --format=csv,noheader
  local architecture
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
  CMAKE_ARGS="-DPTQSR_CUDA=ON -DPTQSR_CUDA_ARCHITECTURES=$architecture" \
    python3 -m pip install -q -e . --no-build-isolation --no-deps
  python3 -c 'import torch; from ptqsr import native
assert torch.cuda.is_available() and native.cuda(), "no GPU, or no kernels for it"
print(native.describe())'
  echo "built after $SECONDS s"
}

run_tests() {
  timeout "$(left 300)" python3 -m pytest -q -m gpu --all-cases -p no:cacheprovider tests
  echo "tested after $SECONDS s"
}

# Our kernels alone are checked, and every test once: a GPU has one architecture and one order.
filter=(--kernel-name kns=ptqsr)
once="not any_shape and not any_order and not -75] and not -80]"
found="^=========[[:space:]]+(Invalid|Error:|Warning: Race|Race reported|Barrier error|Program hit)"

sanitizer_works() {
  command -v compute-sanitizer > /dev/null || return 1
  timeout "$(left 120)" compute-sanitizer "${filter[@]}" --error-exitcode 1 python3 -c '
from ptqsr import native
assert all(gpu["compiled_for"] for gpu in native.describe().gpus)' > "$GPU_SUITE_OUT/sanitizer.log" 2>&1
}

sanitize() { # tool, seconds at most
  local tool=$1 log=$GPU_SUITE_OUT/$1.log code=0 seconds
  seconds=$(left "$2" "$(reserved)")
  local which=("${filter[@]}" --error-exitcode 1)
  # What PyTorch's kernels wrote counts as written only where these are looked at, too.
  [ "$tool" != initcheck ] || which=()
  # Without PyTorch's cache every tensor has its own allocation, and ends where it ends.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout -k 5 "$seconds" \
    compute-sanitizer --tool "$tool" "${which[@]}" --target-processes all \
    python3 -m pytest -v -m gpu --all-cases -p no:cacheprovider -o timeout=0 tests/cuda -k "$once" > "$log" 2>&1 || code=$?
  if grep -qE "$found" "$log" || grep -A1 Uninitialized "$log" | grep -q ptqsr; then
    grep -m 5 -A 3 -E "$found|Uninitialized" "$log"
    echo "compute-sanitizer $tool: see $log"
    return 1
  fi
  local passed
  passed=$(grep -c " PASSED" "$log" || true)
  case $code in
    0) echo "compute-sanitizer $tool: clean, $passed tests, after $SECONDS s" ;;
    124 | 137) echo "compute-sanitizer $tool: cut after $seconds s, nothing found in $passed tests" ;;
    *) tail -20 "$log"; echo "compute-sanitizer $tool: ended with $code, see $log"; return 1 ;;
  esac
}

run_sanitizers() {
  if ! sanitizer_works; then
    echo "compute-sanitizer is not here, or cannot look at this GPU (sanitizer.log): nothing checked"
    return
  fi
  local failed=0
  sanitize memcheck 150 || failed=1
  sanitize racecheck 150 || failed=1
  sanitize synccheck 90 || failed=1
  sanitize initcheck 90 || failed=1
  return $failed
}

run_bench() {
  timeout "$(left 480)" python3 -m benchmarks.gpu --json "$GPU_SUITE_OUT/gpu.json"
  echo "measured after $SECONDS s"
}

failed=0
build
for part in "${parts[@]}"; do
  case $part in
    test) run_tests ;;  # wrong results end it here
    sanitize) run_sanitizers || failed=1 ;;
    bench) run_bench || failed=1 ;;
  esac
done
exit $failed
