"""What a hostile file costs its auditor grows with the file, never with its square.

Work is counted in calls of Python functions: the same number on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

import pytest

from attestation.bundle import BootEvidence, Bundle, make_bundle, parse_bundle
from attestation.bundle.parse import MAX_COMMAS
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.report import render_text
from attestation.result import Verdict
from attestation.statement import PreviousBoot
from attestation.verifier import verify
from tests.refusals import refusal
from tests.support.bundles import NAME, NOW, Gateway
from tests.support.epochs import EpochLog

GATEWAY = Gateway()
GATEWAY.plain()
NOTE = sign_note(
    Checkpoint(origin=GATEWAY.origin, size=1, root=bytes(32)).text, GATEWAY.origin, GATEWAY.log_key
)


def forged_boot(number: int) -> BootEvidence:
    """A boot that costs its forger nothing: no quote, no endorsements, a made-up predecessor."""
    seed = number.to_bytes(32, "little")
    statement = replace(
        GATEWAY.evidence.statement,
        bootseed=seed,
        log_origin=f"{NAME}/{seed.hex()[:16]}",
        prev=PreviousBoot(checkpoint=NOTE, quote_digest=Digest.of(b"predecessor")),
    )
    return replace(GATEWAY.evidence, statement=statement, quote=b"", collateral=None)


def many_boots(count: int) -> Bundle:
    return make_bundle(boots=[forged_boot(number) for number in range(count)])


def many_receipts(count: int) -> Bundle:
    made = Gateway()
    for _ in range(count):
        made.plain()
    return made.bundle()


def many_epochs(count: int) -> Bundle:
    log = EpochLog(Gateway())
    for number in range(count // 5):
        log.serve(2, grant_digest=Digest.of(b"%d" % number))
        log.quote_epoch()
    return log.bundle()


def calls_made(work: Callable[[], object]) -> int:
    count = 0

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def judge(data: bytes) -> None:
    result = verify(parse_bundle(data), GATEWAY.policy(), NOW, [GATEWAY.anchor], {})
    assert result.verdict is not Verdict.ACCEPTED
    assert render_text(result, name="bundle.json")


@pytest.mark.parametrize("many", [many_boots, many_receipts, many_epochs])
def test_twice_as_much_in_a_file_is_twice_the_work(many: Callable[[int], Bundle]) -> None:
    small, large = many(50).encode(), many(100).encode()
    judge(small)
    once = calls_made(lambda: judge(small))
    twice = calls_made(lambda: judge(large))
    assert twice < 2.3 * once


@pytest.mark.parametrize("value", [b"0", b"[]", b"{}", b'""'])
def test_file_with_millions_of_tiny_values_is_refused_before_they_exist(value: bytes) -> None:
    data = b'{"boots":[' + (value + b",") * (MAX_COMMAS + 1) + b"0]}"
    assert refusal(parse_bundle, data) == "members"
    assert calls_made(lambda: refusal(parse_bundle, data)) < 1000


def test_file_with_as_many_values_as_allowed_is_read() -> None:
    data = b'{"boots":[' + b"0," * MAX_COMMAS + b"0]}"
    assert refusal(parse_bundle, data) != "members"
