"""An event that is passed on without being parsed ends in the outcome that it always had."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attestation.receipt.claims import End
from attestation.receipt.delivery import body_of
from attestation.receipt.dialect import Dialect
from attestation.receipt.exchange import LocalProtocolError
from attestation.receipt.outcome import Outcome
from attestation.receipt.padding import Shaping, without_filling
from attestation.receipt.sse import BOM
from attestation.receipt.stream import StreamTracker
from tests.receipt.support import CHAT_FRAME, DONE, plain, stream, streaming
from tests.receipt.test_sse import cut

FIRST = b'data: {"model":"tiny","choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
LEAD = b'data: {"choices":[{"delta":{"content":"'
TAIL = b'"},"finish_reason":null}],"usage":null}\n\n'
MIDDLES = [
    b"",
    b"x",
    b" token",
    b"error",
    b"usage",
    b"finish_reason",
    b"model",
    b'","usage":{"prompt_tokens":7},"b":"',
    b'"},"finish_reason":"stop","b":{"c":"',
    b'"},"finish_reason":"stop"},{"b":{"c":"',
    b'"}}],"error":{"message":"y"},"d":[{"e":{"f":"',
    b"\n",
    b"a\n\ndata: b",
    b"\r",
    b"\r\n: receipt eyJ\r\n",
    b"\r: receipt eyJ",
    b"a\r\rdata: b",
    b"a\n: receipt eyJ\n\n",
    b"[DONE]",
    b": receipt",
    b"\\",
    b"\xff",
    b"x" * 200,
]
OTHERS = [
    CHAT_FRAME,
    FIRST,
    DONE,
    BOM,
    b": ping\n\n",
    b"\n",
    b"data: {}\n\n",
    b'data: {"a":"\n\n',
    b'data: {"choices":[{"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n',
    b'data: {"usage"}\n\n',
    b'data: {"b":1,"c:"}\n\n',
    b'data: {"b":1}\ndata: {"c":2}\n\n',
    b'data: {"b":1}\ndata: {"c":2}\n',
    b'data: {"b":1}\n\n: x',
    b'data: {"error":{}}\r\n\r\n',
    LEAD,
    TAIL,
]
EVENTS = st.sampled_from([LEAD + middle + TAIL for middle in MIDDLES])
PIECES = st.one_of(EVENTS, EVENTS, st.sampled_from(OTHERS))


def relayed(
    pieces: list[bytes], *, clean: bool = True, limit: int = 1 << 20, shaping: Shaping | None = None
) -> tuple[bytes, Outcome]:
    """Return what was sent, terminal frame included, and the outcome."""
    machine = streaming(max_frame_bytes=limit, **({} if shaping is None else {"shaping": shaping}))
    sent: list[bytes] = []

    def send(data: bytes) -> bool:
        sent.append(data)
        return True

    for piece in pieces:
        assert machine.relay(piece, send) is not machine.broken
    machine.engine_end(clean=clean)
    told = machine.finish()
    return b"".join((*sent, machine.owed, machine.terminal)), told


@pytest.mark.parametrize("limit", [1 << 20, 120])
@pytest.mark.parametrize("before", [[], [FIRST], [FIRST, LEAD + b"a" + TAIL], [LEAD + TAIL]])
@pytest.mark.parametrize("piece", [LEAD + middle + TAIL for middle in MIDDLES] + OTHERS)
def test_event_relayed_by_itself_is_what_it_is_in_the_whole_stream(
    before: list[bytes], piece: bytes, limit: int
) -> None:
    pieces = [*before, piece, FIRST, DONE]
    expected = stream([b"".join(pieces)], max_frame_bytes=limit)
    sent, told = relayed(pieces, limit=limit)
    assert (sent, told) == (expected.sent + expected.terminal, expected.outcome)


@pytest.mark.parametrize("limit", [1 << 20, 120])
@given(pieces=st.lists(PIECES, max_size=8), clean=st.booleans())
@example(pieces=[LEAD + b"a" + TAIL, LEAD + b"error" + TAIL], clean=True)
@example(pieces=[LEAD + b"a" + TAIL, LEAD + b"" + TAIL, (LEAD + TAIL)[:-3] + TAIL], clean=True)
def test_events_relayed_one_by_one_are_what_the_whole_stream_is(
    limit: int, pieces: list[bytes], clean: bool
) -> None:
    pieces = [FIRST, *pieces]
    whole = b"".join(pieces)
    expected = stream([whole], clean=clean, max_frame_bytes=limit)
    sent, told = relayed(pieces, clean=clean, limit=limit)
    assert told == expected.outcome
    assert sent == expected.sent + expected.terminal
    assert told.response == body_of(sent)
    assert told.engine == (None if whole == sent else body_of(whole))


@given(st.lists(st.lists(PIECES, max_size=4), max_size=4), st.booleans())
@example([[LEAD + b"a" + TAIL, LEAD + b"b" + TAIL], [LEAD + b"\n" + TAIL, b"\n"]], True)
def test_events_relayed_several_at_once_are_what_the_whole_stream_is(
    reads: list[list[bytes]], clean: bool
) -> None:
    pieces = [FIRST, *(b"".join(read) for read in reads)]
    expected = stream([b"".join(pieces)], clean=clean)
    sent, told = relayed(pieces, clean=clean)
    assert (sent, told) == (expected.sent + expected.terminal, expected.outcome)


@given(
    pieces=st.lists(PIECES, max_size=6),
    sizes=st.lists(st.integers(0, 120), max_size=20),
    clean=st.booleans(),
)
def test_read_boundaries_never_change_what_is_relayed(
    pieces: list[bytes], sizes: list[int], clean: bool
) -> None:
    whole = FIRST + b"".join(pieces)
    assert relayed(cut(whole, sizes), clean=clean) == relayed([whole], clean=clean)


@given(st.lists(st.lists(PIECES, max_size=3).map(b"".join), max_size=6))
def test_usual_events_are_ones_that_would_be_released_whole_and_hold_no_facts(
    pieces: list[bytes],
) -> None:
    tracker = StreamTracker(Dialect.CHAT, 1 << 20)
    tracker.feed(FIRST)
    for piece in pieces:
        other = StreamTracker(Dialect.CHAT, 1 << 20)
        other.feed(FIRST)
        events = tracker.usual_events(piece)
        if not events:
            tracker.feed(piece)
            continue
        assert other.feed(piece) == piece
        assert (other.events, other.terminal, other.halted) == (1 + events, None, False)
        facts = other.facts
        assert (facts.finish_reasons, facts.usage, facts.served) == ((), None, "tiny")


@given(st.binary(max_size=40), st.binary(max_size=60))
def test_any_bytes_between_the_same_ends_are_relayed_as_they_would_be_fed(
    middle: bytes, other: bytes
) -> None:
    pieces = [FIRST, LEAD + b"a" + TAIL, LEAD + middle + TAIL, other]
    expected = stream([b"".join(pieces)])
    sent, told = relayed(pieces)
    assert (sent, told) == (expected.sent + expected.terminal, expected.outcome)


def test_piece_of_an_answer_after_another_is_usual() -> None:
    tracker = StreamTracker(Dialect.CHAT, 1 << 20)
    assert tracker.usual_events(FIRST) == 0
    tracker.feed(FIRST)
    for middle in (b"a", b" b", b"", b"c" * 60):
        assert tracker.usual_events(LEAD + middle + TAIL) == 1
        assert tracker.usual_events((LEAD + middle + TAIL) * 3) == 3
    for end in (b"error" + TAIL, b"a" + TAIL[:-1], b"a" + TAIL + b"\n", b"a\n" + TAIL):
        assert tracker.usual_events(LEAD + end) == 0
        assert tracker.usual_events(LEAD + b"a" + TAIL + LEAD + end) == 0


@pytest.mark.parametrize("dialect", [Dialect.RESPONSES, Dialect.MESSAGES])
def test_no_event_of_the_named_dialects_is_usual(dialect: Dialect) -> None:
    tracker = StreamTracker(dialect, 1 << 20)
    tracker.feed(FIRST)
    assert tracker.usual_events(LEAD + b"a" + TAIL) == 0


@pytest.mark.parametrize("piece", [LEAD + b"b" + TAIL, b": ping\n\n" + CHAT_FRAME])
def test_what_the_transport_did_not_take_is_owed_and_not_delivered(piece: bytes) -> None:
    for end in (End.TIMEOUT, End.CLIENT_ABORT):
        machine = streaming()
        assert machine.relay(FIRST, lambda _: True)
        assert machine.relay(LEAD + b"a" + TAIL, lambda _: True)
        assert not machine.relay(piece, lambda _: False)
        assert not machine.relay(LEAD + b"c" + TAIL, lambda _: False)
        told = machine.finish(end)
        taken = FIRST + LEAD + b"a" + TAIL
        owed = piece + LEAD + b"c" + TAIL
        if end is End.CLIENT_ABORT:
            assert (told.response, told.events) == (body_of(taken), 2)
            assert told.engine == body_of(taken + owed)
        else:
            assert machine.owed == owed
            assert (told.response, told.events) == (body_of(taken + owed + machine.terminal), 5)


def test_what_a_transport_failed_to_take_is_owed() -> None:
    def fail(_data: bytes) -> bool:
        raise OSError

    machine = streaming()
    machine.relay(FIRST, lambda _: True)
    with pytest.raises(OSError):
        machine.relay(LEAD + b"a" + TAIL, fail)
    told = machine.finish(End.GATEWAY_FAILURE)
    assert machine.owed == LEAD + b"a" + TAIL
    assert told.response == body_of(FIRST + machine.owed + machine.terminal)


def test_number_of_the_gateways_own_event_counts_what_was_relayed() -> None:
    machine = streaming(dialect=Dialect.RESPONSES)
    for _ in range(3):
        machine.relay(b"data: {}\n\n", lambda _: True)
    machine.engine_end(clean=True)
    machine.finish()
    assert b'"sequence_number":3' in machine.terminal


@pytest.mark.parametrize("shaping", [Shaping(bucket=256), Shaping(batched=True)])
def test_shaped_stream_relays_the_same_events(shaping: Shaping) -> None:
    pieces = [FIRST, LEAD + b"a" + TAIL, LEAD + b"b" + TAIL, DONE]
    sent, told = relayed(pieces, shaping=shaping)
    assert without_filling(sent) == b"".join(pieces)
    assert (told.response, told.events) == (body_of(sent), 4)


def test_only_a_stream_is_relayed() -> None:
    ended = streaming()
    ended.engine_end(clean=True)
    for machine in (plain(), ended):
        with pytest.raises(LocalProtocolError):
            machine.relay(FIRST, lambda _: True)


def test_forged_block_that_is_relayed_breaks_the_stream() -> None:
    machine = streaming()
    sent = bytearray()

    def send(data: bytes) -> bool:
        sent.extend(data)
        return True

    assert machine.relay(FIRST, send)
    assert not machine.relay(b": receipt x\n\n", send)
    assert (machine.broken, bytes(sent)) == (True, FIRST)
