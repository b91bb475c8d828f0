"""Which attempt a repeat names: the caller's own, the same bytes, the newest, and only once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.lineage.context import LineageContext
from attestation.receipt.claims import End
from attestation.receipt.outcome import Body, Outcome
from gateway.notary.interface import Notary
from gateway.notary.repeats import Repeats, may_be_repeated
from tests.notary.support import claims_of
from tests.support.notaries import (
    ALICE,
    BOB,
    announcement,
    new_jti,
    outcome,
    quiet_notary,
    sealed,
)

REFUSED: dict[str, Any] = {"end": End.REFUSED, "status": 429, "decision": "concurrency"}
OTHER_BODY = Body(digest=Digest.of(b"another request"), length=7)
HINT = LineageContext(txn="task", span="0" * 16, repeated=True)
NO_HINT = replace(HINT, repeated=False)


async def attempt_named(notary: Notary, sub: Digest = ALICE, **changes: Any) -> Digest | None:
    """What the receipt of a request that is called a repeat names."""
    made = await sealed(notary, sub, **({"lineage": HINT} | changes))
    return claims_of(made.token).lineage.retry_of


async def test_repeat_names_the_receipt_of_the_attempt_before(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        first = await sealed(notary, **REFUSED)
        assert await attempt_named(notary) == first.digest


async def test_attempts_at_one_request_make_a_chain(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        first = await sealed(notary, **REFUSED)
        second = await sealed(notary, lineage=HINT, **REFUSED)
        third = await sealed(notary, lineage=HINT)
        fourth = await sealed(notary, lineage=HINT)
        named = [claims_of(one.token).lineage.retry_of for one in (first, second, third, fourth)]
        assert named == [None, first.digest, second.digest, None]


async def test_newest_of_several_attempts_is_named(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        await sealed(notary, **REFUSED)
        newest = await sealed(notary, **REFUSED)
        assert await attempt_named(notary) == newest.digest


async def test_declared_parents_come_before_what_is_repeated(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        parent = await sealed(notary)
        first = await sealed(notary, **REFUSED)
        lineage = replace(HINT, parents=(parent.jti,))
        line = claims_of((await sealed(notary, lineage=lineage)).token).lineage
        assert [(one.kind, one.digest) for one in line.parents] == [
            ("d", parent.digest),
            ("r", first.digest),
        ]


@pytest.mark.parametrize(
    "changes",
    [
        {"lineage": NO_HINT},
        {"sub": BOB},
        {"request": OTHER_BODY},
        {"request_partial": True},
        {"request": None, "end": End.GATEWAY_FAILURE},
    ],
    ids=["no-hint", "another-key", "another-body", "half-a-body", "no-body"],
)
async def test_request_that_is_no_repeat_of_it_names_nothing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with quiet_notary(tmp_path) as notary:
        first = await sealed(notary, **REFUSED)
        assert await attempt_named(notary, **changes) is None
        # Nor has it used the attempt up.
        assert await attempt_named(notary) == first.digest


async def test_request_for_another_path_names_nothing(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        await sealed(notary, **REFUSED)
        jti, path = new_jti(), "/v1/completions"
        notary.announce(announcement(jti, path=path))
        made = await notary.seal(outcome(jti, path=path, lineage=HINT))
        assert claims_of(made.token).lineage.retry_of is None


async def test_attempt_whose_body_was_not_read_to_its_end_is_never_named(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        await sealed(notary, request_partial=True, **REFUSED)
        assert await attempt_named(notary) is None


async def test_attempt_that_was_admitted_later_is_not_named(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        await sealed(notary, **REFUSED)
        made = await notary.seal(outcome(jti, lineage=HINT))
        assert claims_of(made.token).lineage.retry_of is None


async def test_attempts_of_an_earlier_boot_are_not_named(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        await sealed(notary, **REFUSED)
    async with quiet_notary(tmp_path) as notary:
        assert await attempt_named(notary) is None


async def test_abandoned_request_names_nothing_and_is_not_named(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        await sealed(notary, **REFUSED)
        jti = new_jti()
        notary.announce(announcement(jti, lineage=HINT))
        await notary.abandon(jti)
        found = await notary.find(jti, ALICE)
        assert found is not None
        assert claims_of(found.token).lineage.parents == ()


@pytest.mark.parametrize(
    ("end", "status", "repeated"),
    [
        (End.COMPLETE, 200, False),
        (End.COMPLETE, 400, False),
        (End.REFUSED, 400, False),
        (End.REFUSED, 401, False),
        (End.LIMIT, 413, False),
        (End.REFUSED, 422, False),
        (End.COMPLETE, 408, True),
        (End.COMPLETE, 409, True),
        (End.REFUSED, 429, True),
        (End.COMPLETE, 500, True),
        (End.UPSTREAM_ERROR, 502, True),
        (End.TIMEOUT, 504, True),
        (End.CLIENT_ABORT, None, True),
        (End.GATEWAY_FAILURE, None, True),
        (End.CLIENT_ABORT, 200, True),
        (End.UPSTREAM_ERROR, 200, True),
    ],
)
def test_what_an_sdk_would_send_again_may_be_repeated(
    end: End,
    status: int | None,
    repeated: bool,
) -> None:
    assert may_be_repeated(outcome(new_jti(), end=end, status=status)) is repeated


def asked(number: int, **changes: Any) -> Outcome:
    request = Body(digest=Digest.of(b"%d" % number), length=1)
    made = outcome(new_jti(), request=request, lineage=HINT, status=503)
    return replace(made, **changes)


def test_oldest_attempts_are_forgotten_when_the_table_is_full() -> None:
    repeats, receipt = Repeats(capacity=3), Digest.of(b"receipt")
    for number in range(5):
        repeats.note(asked(number), number, receipt, linked=False)
    assert len(repeats) == 3
    named = [repeats.repeated_by(asked(number), 9) for number in range(5)]
    assert named == [None, None, receipt, receipt, receipt]


def test_newer_attempt_at_a_request_does_not_push_others_out() -> None:
    repeats, receipt = Repeats(capacity=2), Digest.of(b"receipt")
    for admission, number in enumerate((0, 1, 0, 0)):
        repeats.note(asked(number), admission, receipt, linked=False)
    assert [repeats.repeated_by(asked(number), 9) for number in (0, 1)] == [receipt, receipt]
    repeats.note(asked(2), 5, receipt, linked=False)
    # The request that was tried again last is remembered for longest.
    assert [repeats.repeated_by(asked(n), 9) for n in (0, 1)] == [receipt, None]


def test_whole_answers_take_no_room() -> None:
    repeats = Repeats(capacity=2)
    repeats.note(asked(0, status=200), 0, Digest.of(b"receipt"), linked=False)
    assert len(repeats) == 0
