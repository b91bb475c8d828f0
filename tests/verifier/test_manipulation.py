"""Every change of a bundle or of the bodies beside it is refused, and never merely disliked.

An untouched simulated bundle is SIMULATED (15). A change must end REJECTED, INCOMPLETE or
MALFORMED: 15 and 0 would mean that it went unnoticed, 11 that it passes for genuine evidence.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.bundle import parse_evidence
from attestation.encoding import base64url, jcs
from attestation.errors import MalformedError
from attestation.verifier import Contents, verify
from tests.support.bundles import NOW, Gateway

MALFORMED, REJECTED, INCOMPLETE, SIMULATED = 13, 10, 12, 15
REFUSED = frozenset({MALFORMED, REJECTED, INCOMPLETE})


def gateway(seed: str, version: int = 4) -> Gateway:
    made = Gateway(seed=seed, version=version)
    made.plain(nonce="abcdefgh")
    made.stream()
    return made


GATEWAY = gateway("a")
OTHER = gateway("b")
POLICY = GATEWAY.policy()
CONTENTS = GATEWAY.contents()
ENCODED = GATEWAY.bundle().encode()


def outcome(data: bytes, contents: dict[str, Contents] | None = None) -> int:
    """Return the exit code of verifying `data` as this caller would."""
    try:
        bundle = parse_evidence(data)
    except MalformedError:
        return MALFORMED
    known = CONTENTS if contents is None else contents
    return verify(bundle, POLICY, NOW + 60, [GATEWAY.anchor], known).exit_code


def document() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(ENCODED)
    return value


def judged(value: dict[str, Any]) -> int:
    return outcome(jcs.canonicalize(value))


def flipped(data: bytes, bits: range) -> Iterator[tuple[int, bytes]]:
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def test_untouched_bundle_is_simulated() -> None:
    assert outcome(ENCODED) == SIMULATED


def unnoticed(data: bytes, bits: range) -> dict[int, int]:
    """Return the bits whose flip ends in anything but a refusal."""
    codes = ((bit, outcome(changed)) for bit, changed in flipped(data, bits))
    return {bit: code for bit, code in codes if code not in REFUSED}


def bits_of(part: bytes) -> range:
    start = ENCODED.index(part)
    return range(start * 8, (start + len(part)) * 8)


# In slices, so that a slow machine does not run into the limit for one test.
SLICES = range(8)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("first", SLICES)
def test_every_bit_of_a_receipt_counts(number: int, first: int) -> None:
    bits = bits_of(GATEWAY.exchanged[number].item.receipt.token.encode())
    assert not unnoticed(ENCODED, bits[first :: len(SLICES)])


@pytest.mark.parametrize("number", [0, 1])
def test_every_bit_of_the_openings_counts(number: int) -> None:
    openings = GATEWAY.exchanged[number].item.openings
    assert openings is not None
    assert not unnoticed(ENCODED, bits_of(jcs.canonicalize(openings.to_json())))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("member", ["request", "response"])
def test_every_bit_of_a_body_counts(number: int, member: str) -> None:
    exchanged = GATEWAY.exchanged[number]
    body = getattr(exchanged, member)
    # The in-band block of the stream repeats a token of some thousand bytes: every third bit.
    step = 1 if len(body) < 200 else 23
    for bit, changed in flipped(body, range(0, len(body) * 8, step)):
        contents = CONTENTS | {exchanged.jti: exchanged.contents(**{member: changed})}
        assert outcome(ENCODED, contents) == REJECTED, bit


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("member", ["request", "response"])
def test_every_truncation_of_a_body_counts(number: int, member: str) -> None:
    exchanged = GATEWAY.exchanged[number]
    body = getattr(exchanged, member)
    for end in range(0, len(body), 1 if len(body) < 200 else 37):
        contents = CONTENTS | {exchanged.jti: exchanged.contents(**{member: body[:end]})}
        assert outcome(ENCODED, contents) == REJECTED, end


@pytest.mark.slow
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("first", SLICES)
def test_one_bit_of_every_byte_of_the_file_counts(version: int, first: int) -> None:
    made = gateway("every byte", version)
    data = made.bundle().encode()
    policy, contents = made.policy(), made.contents()
    for place in range(first, len(data), len(SLICES)):
        # Which of the eight bits differs from byte to byte without a pattern.
        bit = place * 8 + (place * 2_654_435_761 >> 7) % 8
        ((_, changed),) = flipped(data, range(bit, bit + 1))
        try:
            bundle = parse_evidence(changed)
        except MalformedError:
            continue
        result = verify(bundle, policy, NOW + 60, [made.anchor], contents)
        assert result.exit_code in REFUSED, bit


def test_every_truncation_of_the_file_is_malformed() -> None:
    for end in range(0, len(ENCODED), 7):
        assert outcome(ENCODED[:end]) == MALFORMED


@given(st.data())
def test_any_bit_of_the_file_counts(data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, len(ENCODED) * 8 - 1))
    (_, changed), *_ = flipped(ENCODED, range(bit, bit + 1))
    assert outcome(changed) in REFUSED


@given(st.data())
def test_any_two_bits_of_the_quote_count(data: st.DataObject) -> None:
    quote = bytearray(GATEWAY.evidence.quote)
    for _ in range(2):
        bit = data.draw(st.integers(0, len(quote) * 8 - 1))
        quote[bit // 8] ^= 1 << bit % 8
    value = document()
    value["boots"][0]["quote"] = base64url.encode(bytes(quote))
    assert (judged(value) in REFUSED) == (bytes(quote) != GATEWAY.evidence.quote)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, but not inside collateral texts."""
    if isinstance(value, dict):
        for name in value:
            yield (*path, name)
            yield from places(value[name], (*path, name))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield (*path, index)
            yield from places(value[index], (*path, index))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


PLACES = list(places(document()))


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_dropped_field_is_refused(path: tuple[Any, ...]) -> None:
    value = document()
    del at(value, path[:-1])[path[-1]]
    assert judged(value) in REFUSED


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_emptied_field_is_refused(path: tuple[Any, ...]) -> None:
    empties: tuple[object, ...] = (None, "", 0, [], {}, False)
    for empty in empties:
        value = document()
        if at(value, path) != empty or type(at(value, path)) is not type(empty):
            at(value, path[:-1])[path[-1]] = empty
            assert judged(value) in REFUSED, empty


@pytest.mark.parametrize(
    "path", [p for p in PLACES if isinstance(p[-1], int)], ids=lambda p: ".".join(map(str, p))
)
def test_doubled_element_is_refused(path: tuple[Any, ...]) -> None:
    value = document()
    array = at(value, path[:-1])
    array.insert(path[-1], copy.deepcopy(array[path[-1]]))
    assert judged(value) in REFUSED


@pytest.mark.parametrize(
    "name", ["boots", "collateral", "epochs", "receipts", "schema", "tasks", "quote", "statement"]
)
def test_doubled_member_is_malformed(name: str) -> None:
    text = ENCODED.decode()
    start = text.index(f'"{name}":')
    _, end = json.JSONDecoder().raw_decode(text, start + len(name) + 3)
    member = text[start:end]
    assert outcome((text[:start] + member + "," + text[start:]).encode()) == MALFORMED


OTHER_DOCUMENT: dict[str, Any] = json.loads(OTHER.bundle().encode())


def _shared(path: tuple[Any, ...]) -> bool:
    try:
        theirs = at(OTHER_DOCUMENT, path)
    except (KeyError, IndexError):
        return False
    return bool(theirs != at(document(), path))


@pytest.mark.parametrize(
    "path", [p for p in PLACES if _shared(p)], ids=lambda path: ".".join(map(str, path))
)
def test_field_of_another_boots_bundle_is_refused(path: tuple[Any, ...]) -> None:
    value = document()
    at(value, path[:-1])[path[-1]] = at(OTHER_DOCUMENT, path)
    assert judged(value) in REFUSED


@pytest.mark.parametrize(
    "names", list(itertools.combinations(["boots", "collateral", "receipts"], 2))
)
def test_parts_of_another_boots_bundle_are_refused(names: tuple[str, str]) -> None:
    value = document() | {name: OTHER_DOCUMENT[name] for name in names}
    assert judged(value) in REFUSED


BOOT_PARTS = ["collateral", "event_log", "keyset", "quote", "statement"]


@pytest.mark.parametrize(
    "names",
    [c for n in range(1, len(BOOT_PARTS)) for c in itertools.combinations(BOOT_PARTS, n)],
)
def test_any_mixture_of_two_boots_is_refused(names: tuple[str, ...]) -> None:
    # Both sets of endorsements are at hand, as one who mixes boots would have it.
    value = document()
    for name in names:
        value["boots"][0][name] = OTHER_DOCUMENT["boots"][0][name]
    used = value["boots"][0]["collateral"]
    value["collateral"] = {
        name: item
        for source in (document(), OTHER_DOCUMENT)
        for name, item in source["collateral"].items()
        if name == used
    }
    assert judged(value) in REFUSED


def test_mixture_of_two_boots_of_one_platform_is_refused() -> None:
    # One platform, so that certificates and endorsements agree and only the bindings can tell.
    sibling = Gateway(seed="sibling", platform=GATEWAY.machine)
    theirs = json.loads(sibling.bundle().encode())["boots"][0]
    parts = ["event_log", "keyset", "quote", "statement"]
    for count in range(1, len(parts)):
        for names in itertools.combinations(parts, count):
            value = document()
            for name in names:
                value["boots"][0][name] = theirs[name]
            assert judged(value) in REFUSED, names


def test_bodies_of_two_requests_swapped_are_rejected() -> None:
    first, second = GATEWAY.exchanged
    swapped = {
        first.jti: second.contents(nonce=None),
        second.jti: first.contents(nonce=None),
    }
    assert outcome(ENCODED, swapped) == REJECTED
    half = {first.jti: first.contents(response=second.response), second.jti: second.contents()}
    assert outcome(ENCODED, half) == REJECTED


@pytest.mark.parametrize("member", ["openings", "receipt"])
def test_parts_of_two_receipts_swapped_are_refused(member: str) -> None:
    value = document()
    first, second = value["receipts"]
    first[member], second[member] = second[member], first[member]
    assert judged(value) in REFUSED


def test_dropped_receipt_is_noticed_where_its_bodies_are_known() -> None:
    for number in (0, 1):
        value = document()
        del value["receipts"][number]
        assert judged(value) == INCOMPLETE


def test_signature_part_of_a_receipt_cannot_be_moved_to_another() -> None:
    first, second = (e.item.receipt.token for e in GATEWAY.exchanged)
    head, tail = first.rpartition(".")[0], second.rpartition(".")[2]
    value = document()
    value["receipts"][0]["receipt"] = f"{head}.{tail}"
    assert judged(value) == REJECTED


def test_other_instants_and_roots_never_turn_a_change_into_acceptance() -> None:
    value = document()
    value["boots"][0]["statement"]["time_claimed"] += 1
    bundle = parse_evidence(jcs.canonicalize(value))
    for at_ in (0, NOW, NOW + 60 * 86_400):
        for anchors in ([GATEWAY.anchor], [OTHER.anchor], [OTHER.anchor, GATEWAY.anchor]):
            for policy in (POLICY, None):
                result = verify(bundle, policy, at_, anchors, CONTENTS)
                assert result.exit_code == REJECTED


def test_every_part_together_still_verifies() -> None:
    items = [replace(e.item) for e in GATEWAY.exchanged]
    assert GATEWAY.verify(bundle=GATEWAY.bundle(receipts=items)).exit_code == SIMULATED
