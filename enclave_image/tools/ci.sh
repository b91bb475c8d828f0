#!/bin/sh
# What of the image fits into CI's time: build, look into it, boot it and compare its event log. What
# is left out, and why, is said; a machine that cannot do it at all says so and does not fail.
set -u
cd "$(dirname "$0")/../.."
py=.venv/bin/python
tools=enclave_image/tools

skip() { printf 'SKIPPED: the image: %s\n' "$1"; exit 0; }

[ -x "$py" ] || { echo "image: expected .venv, seen none; run make setup" >&2; exit 1; }
[ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || apt-get -qq update >/dev/null 2>&1
if ! said=$("$tools/host.sh" setup 2>&1); then
    printf '%s\n' "$said"
    skip "no build environment here (above)"
fi
printf '%s\n' "$said"
firmware=${ATTESTED_IMAGE_CACHE:-$HOME/.cache/attested-gateway/image}/trixie/usr/share/ovmf/OVMF.fd
[ ! -f "$firmware" ] || ATTESTED_FIRMWARE=$firmware "$py" -m pytest -q tests/measure/test_real.py || exit 1
"$py" "$tools/image_build.py" cpu
case $? in
0) ;;
3) skip "the packages pinned are not on this machine's mirror any more (above)" ;;
*) exit 1 ;;
esac
"$py" "$tools/image_scan.py" cpu || exit 1
"$py" "$tools/image_boot.py" cpu --no-chat || exit 1
printf 'SKIPPED: make image-check, image-injections and the chat of image-boot: minutes each\n'
