"""`attested policy key`: make a key that signs policies."""

from __future__ import annotations

import argparse
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.cli.files import STDIN, print_json, print_text, save_bytes
from attestation.errors import MalformedError, UsageError
from attestation.merkle.note import parse_note
from attestation.merkle.note_key import NoteKey, encode_note_key

HELP = "make a key that signs policies; its verifier key goes to stdout"

_EPILOG = """\
The private key is written to a file that only you can read, in the form of Go's sumdb/note (one
line PRIVATE+KEY+NAME+...).  The verifier key (C2SP vkey) goes to stdout: publish it where those who
verify can find it without you, and give it to them as --policy-signer.

exit codes:
  0   the key was written
  13  the name is none for a key
  2   usage, or the file exists

examples:
  attested policy key --name example.com/policy -o policy.key > policy.vkey
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--name", metavar="NAME", required=True, help="what signatures call it, e.g. a domain"
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the private key")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Write the private key, print the verifier key."""
    if args.output == STDIN:
        raise UsageError(
            "a private key is not printed", code="file", expected="-o with the name of a new file"
        )
    key = NoteKey(name=args.name, private=Ed25519PrivateKey.generate())
    vkey = key.vkey
    _require_signing(key)
    if os.path.lexists(args.output):
        raise UsageError(
            f"{args.output!a} exists",
            code="file",
            hint="a private key is never replaced: give -o another name; `attested policy sign` "
            "prints the verifier key of one that you have",
        )
    save_bytes(args.output, encode_note_key(key), replace=False, mode=0o600)
    if args.json:
        print_json({"file": args.output, "vkey": vkey})
    else:
        print_text(f"{vkey}\n")
    return 0


def _require_signing(key: NoteKey) -> None:
    """Refuse a name that no note can hold, now and not when the key is to sign."""
    try:
        parse_note(key.sign("nothing\n"))
    except MalformedError as error:
        raise MalformedError(
            "a key of this name could sign nothing",
            code="key_name",
            expected="a name of printable characters, e.g. a domain",
            observed=f"a name with which {error.message}: not {error.expected}",
        ) from None
