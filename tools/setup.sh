#!/bin/sh
# Make .venv in the checkout hold exactly what requirements/dev.txt pins, and the project itself.
#
# Nothing is contacted when the stamp shows that this was done already, so every later run works
# offline. The stamp is the hash of the pins, of pyproject.toml and of the environment's Python.
#
#   tools/setup.sh [dev|fuzz]    fuzz adds the pins of requirements/fuzz.txt
set -eu
cd "$(dirname "$0")/.."
what=${1:-dev}
venv=.venv

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $1"; shift; for line in "$@"; do say "       $line"; done; exit 1; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
        if command -v "$candidate" >/dev/null 2>&1 && is_recent "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    seen=$(python3 -V 2>&1) || seen="no python3 on PATH"
    fail "expected Python 3.11 or newer, seen: $seen." \
        "Debian 12+/Ubuntu 24.04+: apt install python3 python3-venv" \
        "or name one yourself: make setup PYTHON=/path/to/python3.12"
}

require_venv_module() {
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 && return 0
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$1 has no venv module (Debian and Ubuntu ship it apart)." \
        "Debian/Ubuntu: apt install python$version-venv"
}

# Two set-ups at once would install over each other; the second waits for the first.
lock_once() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9>"$venv.lock"
    flock 9
}

fingerprint() {
    "$venv/bin/python" - "$@" <<'PY'
import hashlib, pathlib, sys
seen = hashlib.sha256(sys.version.encode())
for name in sys.argv[1:]:
    seen.update(hashlib.sha256(pathlib.Path(name).read_bytes()).digest())
# The editable install and the scripts hold absolute paths: a moved checkout is a new one.
seen.update(str(pathlib.Path.cwd()).encode())
print(seen.hexdigest())
PY
}

is_done() { [ -f "$1" ] && [ "$(cat "$1")" = "$(fingerprint "$2" pyproject.toml)" ]; }

# Twice quiet: errors only; a warning about somebody's pip configuration is not ours to repeat.
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }
pip_pins() { pip install --require-hashes --only-binary=:all: -r "$1"; }

install_pins() {
    pip_pins "$1" || fail \
        "pip could not install $1 (its own message stands above)." \
        "The first run downloads about 70 MB of wheels by name from the package index pip uses," \
        "so it needs a network or a mirror in pip's own configuration; later runs need neither." \
        "A hash mismatch means the index served other bytes than those pinned: do not override it."
}

lock_once
if ! is_recent "$venv/bin/python"; then
    python=$(find_python)
    require_venv_module "$python"
    say "setup: making $venv with $("$python" -V) ($python)"
    "$python" -m venv --clear "$venv" || fail "$python -m venv failed (its message stands above)."
fi

if ! is_done "$venv/setup.stamp" requirements/dev.txt; then
    say "setup: installing the pinned requirements into $venv"
    install_pins requirements/dev.txt
    # The build backend is among the pins, so no isolated build and no download here.
    pip install --no-build-isolation --no-deps --no-index --editable . ||
        fail "installing the project itself into $venv failed (pip's message stands above)."
    fingerprint requirements/dev.txt pyproject.toml >"$venv/setup.stamp"
fi

if [ "$what" = fuzz ] && ! is_done "$venv/fuzz.stamp" requirements/fuzz.txt; then
    say "setup: installing the fuzzer into $venv"
    if pip_pins requirements/fuzz.txt; then
        fingerprint requirements/fuzz.txt pyproject.toml >"$venv/fuzz.stamp"
    else
        say "setup: atheris could not be installed (pip's message stands above); it has wheels for"
        say "       CPython 3.11 to 3.13 on x86-64 Linux. Fuzzing goes on without coverage guidance."
    fi
fi
