"""Whose policy is this?  A signed note beside it says so (docs/spec/policy.md#signatures).

attested-gateway appraisal-policy/1
sha256 <64 hex digits>
version <numbers>

— <key name> <base64 of key id and signature>
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError, UnavailableError, UsageError
from attestation.merkle.note import Note, parse_note, verify_note, vkey_for
from attestation.policy.model import SignedBy
from attestation.policy.parse import parse_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.merkle.note import Vkey
    from attestation.merkle.note_key import NoteKey
    from attestation.policy.model import Policy

DOMAIN = "attested-gateway appraisal-policy/1"
SUFFIX = ".sig"
"""What follows the policy's file name in that of its signature."""
_VERSION = r"[0-9]{1,9}(?:[.-][0-9]{1,9}){0,7}"
_TEXT = re.compile(
    rf"{re.escape(DOMAIN)}\nsha256 ([0-9a-f]{{64}})\nversion ({_VERSION})\n", re.ASCII
)
_NUMBERS = "1 to 8 numbers between dots or hyphens, like 2026-11-22 or 1.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySignature:
    """A parsed signature file: what its note says of a policy, and who claims to have signed."""

    note: Note
    digest: Digest
    version: str

    @property
    def claimed(self) -> tuple[str, ...]:
        """Who claims to have signed: key name and key id, nothing of it verified."""
        return tuple(f"{one.name}+{one.key_id.hex()}" for one in self.note.signatures)


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a signed policy's version, by which one is older than another.

    Raises `MalformedError` for a version of another form.
    """
    if not re.fullmatch(_VERSION, version, re.ASCII):
        raise MalformedError(
            "the policy's version cannot be compared",
            code="policy_version",
            expected=_NUMBERS,
            observed=ascii(version)[:80],
            hint="write it as `version` at the top of the policy, and raise it with every change",
        )
    return tuple(int(number) for number in re.split("[.-]", version))


def signed_text(policy: Policy) -> str:
    """Return the text that a signature of `policy` covers.

    Raises `MalformedError` for a policy without a version that can be compared, `UsageError` for
    one that was read from no file.
    """
    if policy.digest is None:
        raise UsageError("a policy that is no file has no digest to sign", code="policy_signature")
    version_numbers(policy.version or "")
    return f"{DOMAIN}\nsha256 {policy.digest.hex}\nversion {policy.version}\n"


def sign_policy(policy: Policy, keys: Sequence[NoteKey], before: Note | None = None) -> str:
    """Return the signature file of `policy` by `keys`, in their order, at least one.

    The signatures of `before` come first; one by a key that signs now gives way to the new one,
    whatever it was: nothing of `before` was verified, and one that fails would spoil both.  Raises
    what `signed_text` does, and `UsageError` for a `before` that is about anything else.
    """
    text = signed_text(policy)
    if before is not None and before.text != text:
        raise UsageError(
            "the signature to add to is of another policy, or of another state of this one",
            code="policy_signature_text",
            hint="leave --add out to begin anew",
        )
    notes = [parse_note(key.sign(text)) for key in keys]
    signatures = [one for note in ([before] if before else []) + notes for one in note.signatures]
    by_key = {(one.name, one.key_id): one for one in signatures}
    return Note(text=text, signatures=tuple(by_key.values())).encode()


def parse_policy_signature(data: bytes) -> PolicySignature:
    """Return what a signature file says; nothing is verified.  Raises `MalformedError`."""
    try:
        note = parse_note(data)
    except MalformedError as error:
        raise MalformedError(
            f"the policy's signature does not parse: {error.message}",
            code="policy_signature",
            expected=error.expected,
            observed=error.observed,
        ) from None
    match = _TEXT.fullmatch(note.text)
    if match is None:
        raise MalformedError(
            "the signature file is a signed note about something else",
            code="policy_signature_text",
            expected=f'the lines "{DOMAIN}", "sha256 …" and "version …"',
            observed=ascii(note.text.partition("\n")[0])[:80],
        )
    return PolicySignature(note=note, digest=Digest.from_hex(match[1]), version=match[2])


def verify_policy_signature(
    data: bytes, signature: PolicySignature, signers: Sequence[Vkey]
) -> tuple[Vkey, ...]:
    """Return the `signers` that signed the policy file `data`, at least one.

    1. One of `signers` has signed the note, and no signature that names one of them fails.
    2. The note is about these bytes.

    Raises `EvidenceError` (codes "policy_signer" and "policy_digest").
    """
    try:
        found = verify_note(signature.note, signers)
    except EvidenceError as error:
        raise EvidenceError(
            f"the policy is not authentic: {error.message}",
            code="policy_signer",
            expected=error.expected,
            observed="signatures that name " + ascii(", ".join(signature.claimed)),
            hint="get policy and signature from whoever maintains the policy, and compare "
            "--policy-signer with the key that they published",
        ) from None
    if signature.digest != Digest.of(data):
        raise EvidenceError(
            "the policy is not authentic: the signature is of other bytes",
            code="policy_digest",
            expected=f"a policy whose SHA-256 is {signature.digest.hex}",
            observed=Digest.of(data).hex,
            hint="the policy was changed after it was signed, or the signature is of another one",
        )
    return found


def read_signed_policy(data: bytes, signature: bytes | None, signers: Sequence[Vkey]) -> Policy:
    """Return the policy that the file `data` states, only if one of `signers` signed it.

    1. There is a signature file, and it is one.
    2. It is by one of `signers` and about these bytes (`verify_policy_signature`).
    3. Only then are these bytes read as a policy, whose version is the one that was signed.

    The policy's `signatures` are by those of `signers` that signed.  Raises `UnavailableError`
    without a signature, `MalformedError` for a signature or a policy that does not parse,
    `EvidenceError` for a policy that is not authentic.
    """
    if signature is None:
        raise UnavailableError(
            "the policy has no signature",
            code="policy_unsigned",
            expected=f"a file beside it whose name is the policy's and {SUFFIX}",
            hint="`attested policy sign` makes it; without --policy-signer nobody asks for it",
        )
    signed = parse_policy_signature(signature)
    found = verify_policy_signature(data, signed, signers)
    policy = parse_policy(data)
    if policy.version != signed.version:
        raise EvidenceError(
            "the policy is not authentic: another version was signed",
            code="policy_version",
            expected=f"version {signed.version}",
            observed=ascii(policy.version)[:80],
            hint="the signer's tool did not read the policy: sign it with `attested policy sign`",
        )
    signatures = (
        SignedBy(
            signer=vkey_for(one.name, one.public), version=signed.version, digest=signed.digest
        )
        for one in found
    )
    return replace(policy, signatures=tuple(signatures))
