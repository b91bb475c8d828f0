"""The policy that a command judges by, and whose word it is.

Every command that takes a policy takes it from here, so that none can forget its signature.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attestation.cli.files import STDIN, is_regular, load_bytes, load_parsed
from attestation.errors import MalformedError, UsageError
from attestation.merkle.note import MAX_NOTE_BYTES, parse_vkey
from attestation.policy import parse_policy, read_signed_policy
from attestation.policy.signature import SUFFIX

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from attestation.merkle.note import Vkey
    from attestation.policy import Policy

SIGNER = (
    f"P{SUFFIX} must be by this verifier key (C2SP vkey, or its file); may be repeated: one of "
    "them is enough"
)
"""What --policy-signer asks for, for the help of options."""
_LIKE_VKEY = re.compile(r"[^+]+\+[0-9a-f]{8}\+.+", re.ASCII)


def add_policy_options(add: Callable[..., Any], meaning: str = "appraisal policy (TOML)") -> None:
    """Declare --policy and --policy-signer; `policy_from` reads what they say."""
    add("--policy", metavar="P", help=meaning)
    add("--policy-signer", metavar="V", action="append", help=SIGNER)


def policy_from(args: argparse.Namespace) -> Policy | None:
    """Return the policy that the options name, None without one (`load_policy`)."""
    return load_policy(args.policy, load_signers(args.policy_signer))


def load_policy(name: str | None, signers: Sequence[Vkey] = ()) -> Policy | None:
    """Return the policy in a file; None stays None.

    With `signers` one of them must have signed exactly this file, in the file beside it that ends
    in `.sig`.  Raises what `read_signed_policy` does, and `UsageError` for a signature that nothing
    is asked of.
    """
    if not signers:
        return None if name is None else load_parsed(name, parse_policy)
    if name is None or name == STDIN:
        raise UsageError(
            "--policy-signer needs a policy in a file, with its signature beside it",
            code="policy_signer",
            expected="--policy with the name of a file",
        )
    signature = load_signature(name)
    return load_parsed(name, lambda data: read_signed_policy(data, signature, signers))


def load_signature(name: str) -> bytes | None:
    """Return the signature file beside the policy `name`, None if there is none."""
    # Case files name policies too: reading anything but a regular file need not end.
    if not is_regular(name + SUFFIX):
        return None
    return load_bytes(name + SUFFIX, limit=MAX_NOTE_BYTES)


def load_signers(values: Sequence[str] | None) -> tuple[Vkey, ...]:
    """Return the verifier keys that are given as such or in files.  Raises `MalformedError`."""
    return tuple(_signer(value) for value in values or ())


def _signer(value: str) -> Vkey:
    if _LIKE_VKEY.fullmatch(value):
        return parse_vkey(value)
    return load_parsed(value, _vkey_in)


def _vkey_in(data: bytes) -> Vkey:
    try:
        return parse_vkey(data.decode("ascii").strip("\n"))
    except ValueError:
        raise MalformedError(
            "this is no verifier key", code="vkey", expected="one line <name>+<id>+<base64>"
        ) from None
