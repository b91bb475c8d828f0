"""Signed policies in time: an older one of the same signer is told apart from the last."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import jcs
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError, UsageError
from attestation.policy import NO_POLICY, Policy, SignedBy, parse_policy
from attestation.policy.mark import marks_after
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.verifier import HighWater, high_water, parse_high_water
from tests.policy.test_policy import policy_text
from tests.policy.test_signature import OURS, SECOND, THEIRS
from tests.refusals import refusal


def one(version: str, signer: str = OURS.vkey, data: bytes = b"") -> SignedBy:
    return SignedBy(signer=signer, version=version, digest=Digest.of(data or version.encode()))


def policy(*signatures: SignedBy) -> Policy:
    return Policy(digest=signatures[0].digest, signatures=signatures)


def after(*versions: str) -> HighWater:
    mark = HighWater()
    for version in versions:
        mark = mark.after(policy(one(version)))
    return mark


@pytest.mark.parametrize(
    ("old", "new"),
    [("1", "2"), ("9", "10"), ("1.9", "1.10"), ("2026-9-30", "2026-10-01"), ("1", "1.0"),
     ("1.2", "2"), ("2026-11-22", "2026-11-22.1")],
)  # fmt: skip
def test_higher_version_is_taken_and_the_lower_refused_from_then_on(old: str, new: str) -> None:
    mark = after(old, new)
    assert mark.policies == {OURS.vkey: one(new)}
    assert refusal(mark.after, policy(one(old)), error=EvidenceError) == "policy_rollback"


def test_same_policy_is_taken_again() -> None:
    assert after("3", "3") == after("3")


@pytest.mark.parametrize("version", ["3", "03"])
def test_another_policy_of_the_same_version_is_refused(version: str) -> None:
    other = policy(one(version, data=b"other"))
    assert refusal(after("3").after, other, error=EvidenceError) == "policy_two"


def test_every_signer_has_a_version_of_its_own() -> None:
    mark = after("7").after(policy(one("2", THEIRS.vkey)))
    assert mark.policies == {OURS.vkey: one("7"), THEIRS.vkey: one("2", THEIRS.vkey)}
    both = policy(one("3", THEIRS.vkey), one("3"))
    assert refusal(mark.after, both, error=EvidenceError) == "policy_rollback"


def test_policy_of_unchecked_signature_changes_nothing() -> None:
    mark = after("7")
    assert mark.after(parse_policy(policy_text('version = "1"'))) == mark
    assert mark.after(NO_POLICY) == mark
    assert marks_after({}, NO_POLICY) == {}


def test_endorsements_and_policies_are_remembered_beside_each_other() -> None:
    part = SignedPart(number=7, issued=5)
    endorsed = Endorsed(root="intel", fmspc=bytes(6), tcb_info=part, qe_identity=part)
    mark = after("7").raised([endorsed]).after(policy(one("8")))
    assert mark.of(endorsed) == endorsed
    assert mark.policies == {OURS.vkey: one("8")}
    assert parse_high_water(mark.encode()) == mark


@given(st.lists(st.integers(0, 99), max_size=6), st.lists(st.integers(0, 99), max_size=6))
def test_file_reads_back_and_holds_the_highest(ours: list[int], second: list[int]) -> None:
    mark = HighWater()
    for signer, versions in ((OURS.vkey, ours), (SECOND.vkey, second)):
        for version in sorted(versions):
            mark = mark.after(policy(one(str(version), signer)))
    assert parse_high_water(mark.encode()) == mark
    highest = {
        key: str(max(seen)) for key, seen in ((OURS.vkey, ours), (SECOND.vkey, second)) if seen
    }
    assert {key: known.version for key, known in mark.policies.items()} == highest


def test_file_without_policies_is_as_it_always_was() -> None:
    assert HighWater().encode() == b'{"schema":"attested-gateway/high-water/v1","seen":[]}'


def item(**changes: Any) -> dict[str, Any]:
    return {"signer": OURS.vkey, "version": "1", "digest": "ab" * 32} | changes


def test_policies_in_a_file_are_read() -> None:
    mark = parse_high_water(file(item()))
    assert mark.policies[OURS.vkey] == SignedBy(
        signer=OURS.vkey, version="1", digest=Digest.from_hex("ab" * 32)
    )


def file(*policies: Any) -> bytes:
    return jcs.canonicalize({"schema": high_water.SCHEMA, "seen": [], "policies": list(policies)})


@pytest.mark.parametrize(
    "policies",
    [
        [],
        ["x"],
        [item(), item()],
        [item(signer=SECOND.vkey), item()],
        [item(signer="somebody")],
        [item(signer=OURS.vkey.replace("ours", "mine"))],
        [item(version="spring")],
        [item(version=1)],
        [item(digest="ab")],
        [item(more=1)],
        [{"signer": OURS.vkey, "version": "1"}],
    ],
)
def test_file_with_policies_of_another_form_is_malformed(policies: list[Any]) -> None:
    refusal(parse_high_water, file(*policies), error=MalformedError)


def test_policies_out_of_order_are_malformed() -> None:
    assert OURS.vkey < SECOND.vkey
    assert refusal(parse_high_water, file(item(signer=SECOND.vkey), item())) == "order"
    assert parse_high_water(file(item(), item(signer=SECOND.vkey))).policies.keys() == {
        OURS.vkey, SECOND.vkey,
    }  # fmt: skip


def test_signer_of_any_length_that_can_sign_is_read_back() -> None:
    name = "n" * 4_000
    mark = HighWater().after(policy(one("1", signer=long_vkey(name))))
    assert parse_high_water(mark.encode()) == mark


def long_vkey(name: str) -> str:
    return type(OURS)(name=name, private=OURS.private).vkey


def test_more_signers_than_a_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(high_water, "MAX_POLICIES", 1)
    mark = after("1")
    code = refusal(mark.after, policy(one("1", SECOND.vkey)), error=UsageError)
    assert code == "high_water"
    assert mark.after(policy(one("2"))).policies[OURS.vkey].version == "2"
    signers = sorted([OURS.vkey, SECOND.vkey])
    full = file(*(item(signer=signer) for signer in signers))
    assert refusal(parse_high_water, full) == "member_value"
