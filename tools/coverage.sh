#!/bin/sh
# 100 % branch coverage of attestation/ by its own tests, and without the vectors: what is covered
# only by downloaded data would be untested in a fresh clone.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
# A path that cannot exist, so that a ../shared/vectors beside the checkout is not found either.
ATTESTED_VECTORS=$PWD/Makefile/absent
export ATTESTED_VECTORS
# shellcheck disable=SC2046 # folder names without spaces, one word each
$python -m pytest -m "not vllm" $($python tools/attestation_tests.py) \
    --cov=attestation --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 "$@"

pragmas=$(grep -rn "pragma: no \(cover\|branch\)" attestation || true)
count=$(printf '%s' "$pragmas" | grep -c . || true)
echo "coverage: $count pragmas in attestation/ (at most 5)"
[ "$count" -le 5 ] || { printf '%s\n' "$pragmas"; exit 1; }
