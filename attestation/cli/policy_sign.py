"""`attested policy sign`: say that a policy is yours."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from attestation.cli.files import (
    STDIN,
    load_parsed,
    print_json,
    print_text,
    require_absent,
    require_one_stdin,
    save_bytes,
)
from attestation.encoding.printable import printable
from attestation.errors import UsageError
from attestation.merkle.note_key import parse_note_key
from attestation.policy import parse_policy
from attestation.policy.signature import SUFFIX, parse_policy_signature, sign_policy

if TYPE_CHECKING:
    from attestation.merkle.note import Note

HELP = "sign a policy; the signature is a file beside it"

_EPILOG = f"""\
The signature (a C2SP signed note) covers the SHA-256 of the policy file and its `version`, which
has to be numbers: 2026-11-22, 1.4.  Sign what `lint` and `test` have looked at; raise the version
with every change.  Whoever verifies with --policy P --policy-signer VKEY looks for P{SUFFIX}.

exit codes:
  0   the signature was written
  13  the policy, a key or the signature to add to is malformed, or the policy has no version
      that can be compared
  2   usage, or the file exists

examples:
  attested policy sign policy.toml --key policy.key
  attested policy sign policy.toml --key second.key --add     # beside the signatures that are there
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("file", metavar="POLICY", help="policy (TOML)")
    add("--key", metavar="F", action="append", required=True, help="private key; may be repeated")
    add("-o", "--output", metavar="FILE", help=f"the signature (POLICY{SUFFIX})")
    add("--add", action="store_true", help="keep the signatures that the file has")
    add("--force", action="store_true", help="replace a file that exists")
    add("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Write the signature file, say who signed what."""
    if STDIN in (args.file, args.output):
        raise UsageError(
            "a policy is signed in a file, and so is its signature",
            code="file",
            expected='names of files, not "-"',
        )
    require_one_stdin(args.key)
    output = args.output or args.file + SUFFIX
    replace = args.force or args.add
    if not replace:
        require_absent(output)
    policy = load_parsed(args.file, parse_policy)
    keys = [load_parsed(name, parse_note_key) for name in args.key]
    file = sign_policy(policy, keys, _before(output) if args.add else None).encode()
    # Read back before it is written: a file that nobody could read replaces none.
    signed = parse_policy_signature(file)
    save_bytes(output, file, replace=replace)
    vkeys = [key.vkey for key in keys]
    if args.json:
        print_json(
            {
                "file": output,
                "policy_digest": signed.digest.hex,
                "policy_version": signed.version,
                "policy_signers": vkeys,
            }
        )
    else:
        lines = [f"{output}: {signed.digest.hex} (version {signed.version}), signed by"]
        lines += [f"  {vkey}" for vkey in vkeys]
        print_text("".join(f"{printable(line)}\n" for line in lines))
    return 0


def _before(output: str) -> Note:
    return load_parsed(output, parse_policy_signature).note
