"""What the signature file beside a policy is worth, in words for the policy's reviewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError
from attestation.policy.finding import Finding, error, note
from attestation.policy.signature import parse_policy_signature, read_signed_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.merkle.note import Vkey

_PATH = "(signature)"
_SIGN_AGAIN = (
    "look at the policy as it is now, raise its version and sign it: `attested policy sign`"
)


def lint_signature(
    data: bytes, signature: bytes | None, signers: Sequence[Vkey]
) -> tuple[Finding, ...]:
    """Return the finding about the signature of the policy file `data`, at most one.

    With `signers`, whether a verification that asks for one of them would take the policy.
    Without, whom the signature names: nothing can be said of whether they made it.
    """
    if signers:
        return (_asked(data, signature, signers),)
    return () if signature is None else (_unasked(data, signature),)


def _asked(data: bytes, signature: bytes | None, signers: Sequence[Vkey]) -> Finding:
    try:
        policy = read_signed_policy(data, signature, signers)
    except AttestationError as refused:
        return error("signature", _PATH, str(refused), _SIGN_AGAIN)
    keys = ", ".join(policy.signers)
    return note("signed", _PATH, f"these bytes are signed by {keys}", "nothing")


def _unasked(data: bytes, signature: bytes) -> Finding:
    try:
        signed = parse_policy_signature(signature)
    except AttestationError as refused:
        return error("signature", _PATH, str(refused), _SIGN_AGAIN)
    if signed.digest != Digest.of(data):
        told = f"it is of a policy whose SHA-256 is {signed.digest.hex}, not of this one"
        return error("signature", _PATH, told, _SIGN_AGAIN)
    return note(
        "signature_unchecked",
        _PATH,
        f"it names {', '.join(signed.claimed)} and these bytes; nobody checked it",
        "give the keys that you expect with --policy-signer",
    )
