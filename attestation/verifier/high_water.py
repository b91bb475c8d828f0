"""The newest endorsements ever seen, so that older ones are told apart from current ones.

Beside them, the highest version of each signer's policy.

Endorsements stay in date for a month.  Within it, whoever supplies them may choose an older set
that does not yet know of a weakness: nothing in such a set shows that a newer one exists.

{"schema":"attested-gateway/high-water/v1","seen":[{"fmspc":"<12 hex>","qe_identity":{"issued":
<Unix seconds>,"number":<n>},"root":"intel","tcb_info":{"issued":…,"number":…}}]}

and, once a signed policy was used, "policies":[{"digest":"<64 hex>","signer":"<vkey>","version":
"2026-11-22"}].
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.encoding import jcs
from attestation.encoding.members import Members
from attestation.encoding.strict_json import JsonLimits
from attestation.errors import MalformedError, UsageError
from attestation.merkle.note import MAX_NOTE_BYTES, parse_vkey
from attestation.policy import SignedBy
from attestation.policy.mark import marks_after
from attestation.policy.signature import version_numbers
from attestation.tdx.endorsed import Endorsed, SignedPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attestation.encoding.strict_json import JsonValue
    from attestation.policy import Policy

SCHEMA = "attested-gateway/high-water/v1"
MAX_BYTES = 1 << 24
MAX_SEEN = 10_000
MAX_POLICIES = 1_000
_LIMITS = JsonLimits(max_bytes=MAX_BYTES, max_depth=4, max_members=10 * MAX_SEEN)
_ROOT = re.compile(r"intel|simulated:[0-9a-f]{64}", re.ASCII)
_FMSPC = re.compile(r"[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class HighWater:
    """The highest evaluation numbers and newest issues seen, by root and FMSPC.

    Every root has entries of its own: what hangs under a simulated root says nothing about
    Intel's.  `policies` are the policies of the highest versions, by signer (C2SP vkey).
    """

    seen: Mapping[tuple[str, bytes], Endorsed] = field(default_factory=dict)
    policies: Mapping[str, SignedBy] = field(default_factory=dict)

    def of(self, endorsed: Endorsed) -> Endorsed | None:
        """Return what was seen for the same kind of platform under the same root."""
        return self.seen.get((endorsed.root, endorsed.fmspc))

    def raised(self, others: Iterable[Endorsed]) -> HighWater:
        """Return this with `others` seen as well; nothing in it ever becomes less.

        Raises `UsageError` for more than a file can hold.
        """
        seen = dict(self.seen)
        for other in others:
            key = (other.root, other.fmspc)
            known = seen.get(key, other)
            seen[key] = Endorsed(
                root=other.root,
                fmspc=other.fmspc,
                tcb_info=_higher(known.tcb_info, other.tcb_info),
                qe_identity=_higher(known.qe_identity, other.qe_identity),
            )
        if len(seen) > MAX_SEEN:
            raise UsageError(
                "the high-water file is full",
                code="high_water",
                expected=f"at most {MAX_SEEN} kinds of platforms under all roots",
                hint="give simulated evidence a file of its own",
            )
        return HighWater(seen=seen, policies=self.policies)

    def after(self, policy: Policy) -> HighWater:
        """Return this with `policy` seen as well, if its signature was checked.

        Raises `EvidenceError` (code "policy_rollback") for one that is older than one seen of the
        same signer, `UsageError` for more signers than a file can hold.
        """
        policies = marks_after(self.policies, policy)
        if len(policies) > MAX_POLICIES:
            raise UsageError(
                "the high-water file is full",
                code="high_water",
                expected=f"policies of at most {MAX_POLICIES} signers",
            )
        return HighWater(seen=self.seen, policies=policies)

    def encode(self) -> bytes:
        """Return the file: canonical JSON, which `parse_high_water` reads back."""
        seen = [_to_json(self.seen[key]) for key in sorted(self.seen)]
        value: dict[str, JsonValue] = {"schema": SCHEMA, "seen": seen}
        if self.policies:
            value["policies"] = [
                {"signer": signer, "version": one.version, "digest": one.digest.hex}
                for signer, one in sorted(self.policies.items())
            ]
        return jcs.canonicalize(value)


def parse_high_water(data: bytes) -> HighWater:
    """Return what a file remembers, or raise `MalformedError`."""
    members = Members(jcs.parse_canonical(data, _LIMITS), "the high-water file")
    members.text("schema", choices=(SCHEMA,))
    entries = [_from_json(value) for value in members.array("seen", max_items=MAX_SEEN)]
    policies = _policies(members) if members.has("policies") else {}
    members.close()
    keys = [(entry.root, entry.fmspc) for entry in entries]
    if keys != sorted(set(keys)):
        raise MalformedError(
            "the high-water file is not in order",
            code="order",
            expected="every root and FMSPC once, in their order",
        )
    return HighWater(seen=dict(zip(keys, entries, strict=True)), policies=policies)


def _higher(one: SignedPart, other: SignedPart) -> SignedPart:
    return SignedPart(number=max(one.number, other.number), issued=max(one.issued, other.issued))


def _to_json(entry: Endorsed) -> dict[str, JsonValue]:
    return {
        "root": entry.root,
        "fmspc": entry.fmspc.hex(),
        "tcb_info": {"number": entry.tcb_info.number, "issued": entry.tcb_info.issued},
        "qe_identity": {"number": entry.qe_identity.number, "issued": entry.qe_identity.issued},
    }


def _from_json(value: JsonValue) -> Endorsed:
    members = Members(value, "an entry of the high-water file")
    entry = Endorsed(
        root=members.text("root", pattern=_ROOT),
        fmspc=bytes.fromhex(members.text("fmspc", pattern=_FMSPC)),
        tcb_info=_part(members.raw("tcb_info")),
        qe_identity=_part(members.raw("qe_identity")),
    )
    members.close()
    return entry


def _policies(members: Members) -> dict[str, SignedBy]:
    entries = [_signed(value) for value in members.array("policies", max_items=MAX_POLICIES)]
    signers = [one.signer for one in entries]
    if not signers or signers != sorted(set(signers)):
        raise MalformedError(
            "the policies in the high-water file are not in order",
            code="order",
            expected="every signer once, in their order, and no empty list",
        )
    return dict(zip(signers, entries, strict=True))


def _signed(value: JsonValue) -> SignedBy:
    members = Members(value, "a policy in the high-water file")
    one = SignedBy(
        # A key that has signed a note is not longer than the note.
        signer=members.text("signer", max_chars=MAX_NOTE_BYTES),
        version=members.text("version"),
        digest=members.digest_hex("digest"),
    )
    members.close()
    parse_vkey(one.signer)
    version_numbers(one.version)
    return one


def _part(value: JsonValue) -> SignedPart:
    members = Members(value, "a part of the high-water file")
    part = SignedPart(number=members.integer("number"), issued=members.integer("issued"))
    members.close()
    return part
