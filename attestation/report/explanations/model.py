"""What there is to say about one check, and the beginnings that commands by hand share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One check: what a pass proves, which attack it stops, and how to redo it by hand.

    `by_hand` is a script for `sh` in a folder as `attested demo` leaves it: it ends with status 0
    only if what it redoes of the check holds on the first boot, epoch or receipt of `bundle.json`,
    and never for a check that this version does not make.  It uses openssl, jq, sha256sum and
    python3 (3.11) with nothing installed, leaves nothing in the folder, and judges by the instant
    `AT` (Unix seconds; now if unset) where one is needed.  `aside` says what the script leaves out.
    """

    proves: str
    stops: str
    by_hand: str
    aside: str = ""


WORK = """\
work=$(mktemp -d); export work; trap 'rm -r "$work"' EXIT
"""
"""Sets `$work` to a folder that is gone when the shell ends."""

AT = "AT=${AT:-$(date +%s)}\n"
"""Sets `$AT` to the instant to judge by, unless it is set."""

NOT_MADE = """
echo "nothing to redo: this version does not make the check" >&2; false"""
"""The end of a script that only shows what a file holds."""


def python(code: str) -> str:
    """Return `code` as a script for a shell; it may use `boot`, `quote` and `decode`."""
    return f"python3 - <<'END'\n{_READ}{code.strip()}\nEND"


_READ = """\
import base64, hashlib, json, os, pathlib
bundle = json.load(open("bundle.json"))
decode = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
boot = bundle["boots"][0]
quote = decode(boot["quote"])
body = 48 if quote[0] == 4 else 54                      # where the TD report begins
signed = quote[: 632 if quote[0] == 4 else 702]
"""

DECODE = """\
decode='import base64,sys; t=sys.stdin.read().strip(); sys.stdout.buffer.write(
base64.urlsafe_b64decode(t + "=" * (-len(t) % 4)))'
"""
"""Sets `$decode` to a program for base64url."""

CLAIMS = (
    DECODE
    + """\
claims=$(jq -r '.receipts[0].receipt | split(".")[1]' bundle.json | python3 -c "$decode")
"""
)
"""Sets `$claims` to those of the first receipt, and `$decode` to a program for base64url."""
