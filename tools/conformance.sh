#!/bin/sh
# Run `attested conformance` over every topic this version implements, where the vectors are.
#
#   tools/conformance.sh VECTORS_FOLDER
set -u
cd "$(dirname "$0")/.."
root=${1:?which folder holds the vectors?}
topics="json requests sse http1 jwt jcs signatures tdx merkle tlog-proof tlog-tiles c2sp-note"
if [ ! -d "$root" ]; then
    echo "conformance: skipped $(echo "$topics" | wc -w) topics because $root is absent"
    exit 0
fi
failed=0
for topic in $topics; do
    report=$(mktemp)
    .venv/bin/attested conformance "$topic" "$root/$topic" >"$report"
    status=$?
    # The cases that are not ok, then the summary line the command ends with.
    grep '"ok": *false' "$report" | head -20
    printf 'conformance %-10s exit %s: %s\n' "$topic" "$status" "$(tail -n 1 "$report")"
    rm -f "$report"
    [ "$status" -eq 0 ] || failed=1
done
exit $failed
