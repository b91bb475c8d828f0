"""The high-water mark as a value: what it remembers, and that rolled-back endorsements fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.bundle import make_bundle
from attestation.encoding import jcs
from attestation.encoding.instants import instant
from attestation.errors import MalformedError, UsageError
from attestation.result import AttestationResult, Status, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.verifier import (
    HighWater,
    high_water,
    parse_high_water,
    verify,
    verify_boots,
    verify_challenge,
    verify_raw_quote,
)
from gateway.attester.simulated.facts import Endorsements, Machine, Writing
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.refusals import refusal
from tests.support.bundles import NOW, Gateway, failed, the_check
from tests.verifier.test_challenge import NONCE, answer

PLATFORM = SimulatedPlatform(now=NOW, seed=b"high water")
AT = NOW + 60


def endorsed(tcb: int = 20, qe: int = 20, **changes: Any) -> Gateway:
    numbers = Endorsements(evaluation_number=tcb, qe_evaluation_number=qe, **changes)
    made = Gateway(platform=PLATFORM.but(endorsements=numbers))
    made.plain()
    return made


def judged(made: Gateway, known: HighWater | None) -> AttestationResult:
    return verify(made.bundle(), made.policy(), AT, [made.anchor], {}, high_water=known)


def seen(made: Gateway) -> HighWater:
    return HighWater().raised(judged(made, None).endorsed)


def part(number: int, issued: int = 5) -> SignedPart:
    return SignedPart(number=number, issued=issued)


def entry(root: str = "intel", fmspc: bytes = bytes(6), **parts: SignedPart) -> Endorsed:
    both = {"tcb_info": part(7), "qe_identity": part(7)} | parts
    return Endorsed(root=root, fmspc=fmspc, **both)


def test_result_says_how_new_the_endorsements_were() -> None:
    result = judged(endorsed(tcb=20, qe=19, tcb_issued=-7200), None)
    assert result.endorsed == (
        Endorsed(
            root=PLATFORM.anchor.name,
            fmspc=Machine().fmspc,
            tcb_info=part(20, NOW - 7200),
            qe_identity=part(19, NOW - 3600),
        ),
    )
    assert PLATFORM.anchor.name.startswith("simulated:")
    assert INTEL_ANCHOR.name == "intel"


@pytest.mark.parametrize(("tcb", "qe", "what"), [(19, 20, "TCB info"), (20, 19, "QE identity")])
def test_rolled_back_endorsements_are_not_accepted(tcb: int, qe: int, what: str) -> None:
    known = seen(endorsed())
    assert judged(endorsed(), known).verdict is Verdict.SIMULATED
    assert judged(endorsed(21, 21), known).verdict is Verdict.SIMULATED
    older = endorsed(tcb, qe)
    result = judged(older, known)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"COLLATERAL-FRESH"}
    check = the_check(result, "COLLATERAL-FRESH")
    assert f"the {what} is of an earlier TCB evaluation than one seen before" in check.reason
    assert check.expected.startswith("evaluation number 20 or higher, as remembered for FMSPC")
    assert instant(NOW - 3600) in check.expected
    assert check.observed == f"19, issued {instant(NOW - 3600)}"
    assert "--high-water" in check.hint
    assert judged(older, None).verdict is Verdict.SIMULATED


def test_quote_by_itself_is_compared_as_well() -> None:
    older = endorsed(19)
    for known, fails in ((None, set()), (seen(endorsed()), {"COLLATERAL-FRESH"})):
        result = verify_raw_quote(
            older.evidence.quote,
            older.machine.collateral(),
            None,
            AT,
            [older.anchor],
            high_water=known,
        )
        assert failed(result) == fails
        assert len(result.endorsed) == 1


def test_boot_alone_and_its_answer_to_a_nonce_are_compared_as_well() -> None:
    older, known = endorsed(19), seen(endorsed())
    alone = make_bundle(boots=[older.evidence], collateral=[older.machine.collateral()])
    grounds = (older.policy(), AT, [older.anchor])
    for mark, fails in ((None, set()), (known, {"COLLATERAL-FRESH"})):
        for result in (
            verify_boots(alone, *grounds, high_water=mark),
            verify_challenge(alone, answer(older), NONCE, *grounds, high_water=mark),
        ):
            assert failed(result) == fails
            assert {one.tcb_info.number for one in result.endorsed} == {19}


def test_the_policys_number_and_age_hold_beside_the_mark() -> None:
    known = seen(endorsed())
    made = endorsed()
    low = made.policy(tdx="min_tcb_evaluation_number = 21")
    result = verify(made.bundle(), low, AT, [made.anchor], {}, high_water=known)
    assert "than the policy asks for" in the_check(result, "COLLATERAL-FRESH").reason
    old = made.policy(more="[endorsements]\nmax_age_days = 1")
    result = verify(made.bundle(), old, NOW + 86_400, [made.anchor], {}, high_water=known)
    assert "older than the policy allows" in the_check(result, "COLLATERAL-FRESH").reason


def test_other_roots_and_other_platforms_are_apart() -> None:
    older = endorsed(1, 1)
    (mark,) = seen(endorsed()).seen.values()
    others = HighWater().raised(
        [replace(mark, root="intel"), replace(mark, fmspc=b"\x01" * 6), entry()]
    )
    assert judged(older, others).verdict is Verdict.SIMULATED
    raised = others.raised(judged(older, others).endorsed)
    assert raised.seen["intel", mark.fmspc] == others.seen["intel", mark.fmspc]
    assert len(raised.seen) == len(others.seen) + 1


def test_forged_and_unread_quotes_say_nothing_of_endorsements() -> None:
    made = endorsed(99, 99)
    quote = bytearray(made.evidence.quote)
    quote[200] ^= 1
    for boot in (
        replace(made.evidence, quote=bytes(quote)),
        replace(made.evidence, quote=PLATFORM.but(writing=Writing(padding=1)).quote(bytes(64))),
    ):
        result = made.verify(bundle=made.bundle(boots=[boot]))
        assert result.endorsed == ()
    assert made.verify(anchors=[INTEL_ANCHOR]).endorsed == ()
    raw = verify_raw_quote(
        bytes(quote), made.machine.collateral(), None, AT, [made.anchor], high_water=None
    )
    assert raw.endorsed == ()
    assert the_check(raw, "QUOTE-GENUINE").status is Status.FAIL


def test_mark_is_only_ever_raised_part_by_part() -> None:
    known = HighWater().raised([entry(tcb_info=part(7, 100), qe_identity=part(9, 50))])
    raised = known.raised([entry(tcb_info=part(8, 60), qe_identity=part(3, 70))])
    assert raised.of(entry()) == entry(tcb_info=part(8, 100), qe_identity=part(9, 70))
    assert raised.raised([entry(tcb_info=part(0, 0), qe_identity=part(0, 0))]) == raised
    assert known.raised([]) == known


NUMBERS = st.builds(
    SignedPart, number=st.integers(0, 2**31), issued=st.integers(0, 253_402_300_799)
)
ENTRIES = st.builds(
    Endorsed,
    root=st.sampled_from(["intel", "simulated:" + "ab" * 32, "simulated:" + "00" * 32]),
    fmspc=st.binary(min_size=6, max_size=6),
    tcb_info=NUMBERS,
    qe_identity=NUMBERS,
)


@given(st.lists(ENTRIES, max_size=6))
def test_file_is_read_back_and_order_does_not_matter(entries: list[Endorsed]) -> None:
    known = HighWater().raised(entries)
    assert parse_high_water(known.encode()) == known
    assert HighWater().raised(reversed(entries)).encode() == known.encode()


ONE = entry()
GOOD = HighWater().raised([ONE, entry(fmspc=b"\x01" * 6)]).encode()


def changed(**members: Any) -> bytes:
    value = jcs.parse_canonical(GOOD)
    assert isinstance(value, dict)
    first, second = value["seen"]
    return jcs.canonicalize({**value, "seen": [{**first, **members}, second]})


def without(name: str) -> bytes:
    return GOOD.replace(f'"{name}":'.encode(), f'"{name}s":'.encode(), 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "syntax"),
        (b"{}", "missing_member"),
        (b"[]", "member_type"),
        (GOOD + b"\n", "not_canonical"),
        (GOOD.replace(b"high-water/v1", b"high-water/v2"), "member_value"),
        (changed(root="Intel"), "member_value"),
        (changed(root="simulated:" + "AB" * 32), "member_value"),
        (changed(fmspc="0" * 11), "member_value"),
        (changed(tcb_info=7), "member_type"),
        (changed(tcb_info={"number": 7}), "missing_member"),
        (changed(tcb_info={"issued": 0, "number": -1}), "member_value"),
        (changed(tcb_info={"issued": 0, "number": True}), "member_type"),
        (changed(qe_identity={"issued": 0, "number": 1, "more": 1}), "unknown_member"),
        (changed(more=1), "unknown_member"),
        (changed(fmspc="01" * 6), "order"),
        (changed(fmspc="02" * 6), "order"),
        (without("qe_identity"), "missing_member"),
        (without("seen"), "missing_member"),
    ],
)
def test_file_of_another_form_is_malformed(data: bytes, code: str) -> None:
    assert refusal(parse_high_water, data) == code


@given(st.binary(max_size=100))
def test_no_other_exception_leaves_the_parser(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_high_water(data)


def test_more_than_a_file_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(high_water, "MAX_SEEN", 1)
    known = HighWater().raised([entry()])
    assert known.raised([entry()]) == known
    assert refusal(known.raised, [entry("other")], error=UsageError) == "high_water"
