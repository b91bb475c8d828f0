"""The highest version of each signer's policy, so that an older one is told apart from the last.

A signature never ends: whoever brings the policy can bring an older one that was signed as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import EvidenceError
from attestation.policy.signature import version_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.policy.model import Policy, SignedBy


def marks_after(marks: Mapping[str, SignedBy], policy: Policy) -> dict[str, SignedBy]:
    """Return `marks`, by signer (C2SP vkey), with `policy` seen as well; none ever becomes less.

    A policy whose signature was not checked changes nothing.  Raises `EvidenceError` (code
    "policy_rollback") for a policy of a lower version than one of its signers had signed before,
    and (code "policy_two") for another policy of the same version.
    """
    for one in policy.signatures:
        _require_not_older(one, marks.get(one.signer, one))
    return {**marks, **{one.signer: one for one in policy.signatures}}


def _require_not_older(new: SignedBy, known: SignedBy) -> None:
    name = ascii(new.signer.partition("+")[0])
    if version_numbers(new.version) < version_numbers(known.version):
        raise EvidenceError(
            f"the policy is older than one of {name} that was used before",
            code="policy_rollback",
            expected=f"version {known.version} or higher",
            observed=f"version {new.version}",
            hint="get the current policy from whoever signs it",
        )
    same = version_numbers(new.version) == version_numbers(known.version)
    if same and new.digest != known.digest:
        raise EvidenceError(
            f"there are two policies of version {new.version} by {name}",
            code="policy_two",
            expected=f"the one whose SHA-256 is {known.digest.hex}, which was used before",
            observed=new.digest.hex,
            hint="which one is meant? A policy that changed has to be signed with a higher version",
        )
