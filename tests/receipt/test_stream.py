"""What of an engine's stream is released, and what the stream is found to be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipt.claims import Usage
from attestation.receipt.dialect import Dialect
from attestation.receipt.sse import BOM, has_data
from attestation.receipt.stream import StreamTracker
from tests.receipt.support import CHAT_FRAME, DONE
from tests.receipt.test_sse import cut

LIMIT = 1 << 16


def named(kind: str, **members: Any) -> bytes:
    document = json.dumps({"type": kind} | members, separators=(",", ":"))
    return f"event: {kind}\ndata: {document}\n\n".encode()


def chat(**members: Any) -> bytes:
    return b"data: " + json.dumps(members, separators=(",", ":")).encode() + b"\n\n"


def track(
    pieces: list[bytes], dialect: Dialect = Dialect.CHAT, limit: int = LIMIT
) -> tuple[bytes, StreamTracker]:
    tracker = StreamTracker(dialect, limit)
    released = b"".join([tracker.feed(piece) for piece in pieces])
    tracker.finish()
    return released, tracker


def findings(released: bytes, tracker: StreamTracker) -> tuple[object, ...]:
    return (
        released,
        tracker.terminal,
        tracker.events,
        tracker.forged,
        tracker.oversize,
        tracker.partial,
        tracker.tail,
        tracker.trailing,
        tracker.facts.finish_reasons,
        tracker.facts.usage,
        tracker.facts.served,
    )


CHAT_PIECES = [
    CHAT_FRAME,
    DONE,
    b"data:[DONE]\r\n\r\n",
    b"data: [DONE]",
    chat(choices=[{"index": 1, "finish_reason": "stop"}]),
    chat(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    chat(error={"message": "boom"}),
    b": keep-alive\n\n",
    b": receipt eyJ\n\n",
    b"data: x\n:receipt y\n\n",
    b"\n",
    b"\r\n",
    b"\r",
    BOM,
    b"data: one: receipt\n\n",
    b"x" * 40,
]
NAMED_PIECES = [
    named("response.created", response={"model": "tiny", "status": "in_progress"}),
    named("response.completed", response={"status": "completed", "usage": {"input_tokens": 3}}),
    named("message_start", message={"model": "tiny", "usage": {"input_tokens": 3}}),
    named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 4}),
    named("message_stop"),
    named("error", error={"type": "api_error"}),
    b"event: message_stop\n\n",
    b"event: response.completed\ndata: {\n\n",
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("limit", [LIMIT, 90])
@given(
    pieces=st.lists(st.sampled_from(CHAT_PIECES), max_size=6),
    sizes=st.lists(st.integers(0, 30), max_size=30),
)
def test_read_boundaries_never_change_what_a_chat_stream_is(
    limit: int, pieces: list[bytes], sizes: list[int]
) -> None:
    stream = b"".join(pieces)
    whole = findings(*track([stream], limit=limit))
    assert findings(*track(cut(stream, sizes), limit=limit)) == whole


@pytest.mark.parametrize("dialect", [Dialect.RESPONSES, Dialect.MESSAGES])
@given(
    pieces=st.lists(st.sampled_from(NAMED_PIECES + CHAT_PIECES[8:]), max_size=6),
    sizes=st.lists(st.integers(0, 40), max_size=30),
)
def test_read_boundaries_never_change_what_a_named_stream_is(
    dialect: Dialect, pieces: list[bytes], sizes: list[int]
) -> None:
    stream = b"".join(pieces)
    whole = findings(*track([stream], dialect))
    assert findings(*track(cut(stream, sizes), dialect)) == whole


@given(st.binary(max_size=300), st.sampled_from(list(Dialect)))
def test_any_bytes_are_followed_without_an_exception(stream: bytes, dialect: Dialect) -> None:
    released, tracker = track([stream], dialect)
    assert stream.startswith(released)
    assert tracker.forged or not (b"\n: receipt" in released or b"\n:receipt" in released)


@pytest.mark.parametrize(
    "terminal",
    [
        b"data: [DONE]\n\n",
        b"data:[DONE]\n\n",
        b"data: [DONE]\r\n\r\n",
        b"data: [DONE]\r\r",
        b"data: [DONE]\n",
        b"data: [DONE]",
        b": ping\nid: 7\ndata: [DONE]\n\n",
        b"event: end\ndata: [DONE]\n\n",
    ],
)
def test_terminal_frame_of_chat_is_held_in_every_spelling(terminal: bytes) -> None:
    for pieces in ([CHAT_FRAME + terminal], [CHAT_FRAME, *(bytes([b]) for b in terminal)]):
        released, tracker = track(pieces)
        assert (released, tracker.terminal, tracker.events) == (CHAT_FRAME, terminal, 1)
        assert (tracker.tail, tracker.trailing, tracker.partial) == (False, False, False)


@pytest.mark.parametrize(
    "frame",
    [
        b"data: [DONE]x\n\n",
        b"data:  [DONE]\n\n",
        b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\n\n',
        b"data: [DONE]\ndata: more\n\n",
        b": [DONE]\n\n",
        b"[DONE]\n\n",
        b"event: [DONE]\n\n",
    ],
)
def test_frame_that_only_looks_terminal_passes(frame: bytes) -> None:
    released, tracker = track([frame])
    assert (released, tracker.terminal) == (frame, None)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_terminal_event_of_responses_is_known_by_name_or_by_type(kind: str) -> None:
    document = json.dumps({"type": kind}).encode()
    for frame in (
        named(kind),
        b"data: " + document + b"\n\n",
        f"event: {kind}\ndata: {{}}\n\n".encode(),
        b"event: other\r\ndata: " + document,
    ):
        assert track([frame], Dialect.RESPONSES)[1].terminal == frame


@pytest.mark.parametrize(
    "frame",
    [b"event: message_stop\ndata: {}\n\n", b'data: {"type":"message_stop"}\n\n'],
)
def test_terminal_event_of_messages_is_known_by_name_or_by_type(frame: bytes) -> None:
    assert track([frame], Dialect.MESSAGES)[1].terminal == frame


@pytest.mark.parametrize(
    "frame",
    [
        b"event: response.completed\n\n",
        b'event: response.completed\ndata: {"type":"response.comp\n\n',
        b'data: {"type":["response.completed"]}\n\n',
        b'data: {"type":"x","type":"response.completed"}\n\n',
        b'data: {"delta":"response.completed"}\n\n',
        b'data: ["response.completed"]\n\n',
        b"data: [DONE]\n\n",
    ],
)
def test_event_that_readers_would_not_take_for_the_end_is_not_terminal(frame: bytes) -> None:
    released, tracker = track([frame], Dialect.RESPONSES)
    assert (released, tracker.terminal) == (frame, None)


def test_half_a_terminal_event_at_the_end_is_not_one() -> None:
    cut_short = named("response.completed", response={})[:-6]
    released, tracker = track([cut_short], Dialect.RESPONSES)
    assert (released, tracker.terminal, tracker.partial) == (b"", None, True)


@pytest.mark.parametrize("tail", [CHAT_FRAME, DONE, b": ping\n\n", b"x", b"\n: y", b" "])
def test_bytes_after_the_terminal_frame_are_a_tail(tail: bytes) -> None:
    for pieces in ([DONE + tail], [DONE, tail], [CHAT_FRAME + DONE, b"\n", tail]):
        released, tracker = track(pieces)
        assert tracker.terminal == DONE
        assert tracker.tail
        assert released in (b"", CHAT_FRAME)


@pytest.mark.parametrize("tail", [b"\n", b"\r\n\r\n", b"\n\n\n"])
def test_mere_line_ends_after_the_terminal_frame_are_trailing_but_no_tail(tail: bytes) -> None:
    for pieces in ([DONE + tail], [DONE, tail]):
        _, tracker = track(pieces)
        assert (tracker.terminal, tracker.trailing, tracker.tail) == (DONE, True, False)


@pytest.mark.parametrize(
    "line", [b": receipt x", b":receipt", b": receipts", b": receipt-openings"]
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_like_the_gateways_own_block_stops_the_stream(line: bytes, end: bytes) -> None:
    for forged in (
        line + end + end,
        b"data: x" + end + line + end + end,
        b"data: [DONE]" + end + line + end + end,
        line,
    ):
        for pieces in ([CHAT_FRAME + forged], [CHAT_FRAME, *(bytes([b]) for b in forged)]):
            released, tracker = track([*pieces, CHAT_FRAME])
            assert (released, tracker.forged, tracker.terminal) == (CHAT_FRAME, True, None)


def test_line_like_the_gateways_own_block_after_a_byte_order_mark_stops_the_stream() -> None:
    released, tracker = track([BOM + b": receipt x\n\n" + DONE])
    assert (released, tracker.forged) == (BOM, True)


@pytest.mark.parametrize(
    "frame", [b"data: a: receipt\n\n", b"data: :receipt\n\n", b":  receipt\n\n", b" : receipt\n\n"]
)
def test_the_word_receipt_elsewhere_passes(frame: bytes) -> None:
    released, tracker = track([frame])
    assert (released, tracker.forged) == (frame, False)


def test_frame_beyond_the_limit_stops_the_stream() -> None:
    released, tracker = track([CHAT_FRAME, b"data: " + b"x" * 200, DONE], limit=100)
    assert (released, tracker.oversize, tracker.terminal) == (CHAT_FRAME, True, None)


def test_incomplete_last_frame_is_dropped() -> None:
    released, tracker = track([CHAT_FRAME + b'data: {"choic'])
    assert (released, tracker.partial, tracker.events) == (CHAT_FRAME, True, 1)
    assert tracker.withheld == b'data: {"choic'


def test_events_are_the_released_frames_with_a_data_line() -> None:
    stream = BOM + b"\n: ping\n\nevent: x\n\n" + CHAT_FRAME + b"id: 1\ndata\n\n" + DONE
    released, tracker = track([stream])
    assert tracker.events == 2
    assert has_data(b"id: 1\ndata\n\n")
    assert released + DONE == stream


def test_withheld_bytes_are_what_is_not_released() -> None:
    tracker = StreamTracker(Dialect.CHAT, LIMIT)
    tracker.feed(CHAT_FRAME + b"data: ha")
    assert tracker.withheld == b"data: ha"
    tracker.feed(b"lf\n\n" + DONE + b"tail")
    assert tracker.withheld == DONE + b"tail"


class TestFacts:
    def test_finish_reasons_come_in_the_order_of_the_choices(self) -> None:
        _, tracker = track(
            [
                chat(choices=[{"index": 2, "finish_reason": "length"}]),
                chat(choices=[{"index": 0, "finish_reason": "stop"}]),
                chat(choices=[{"index": 1, "finish_reason": "stop"}]),
            ]
        )
        assert tracker.facts.finish_reasons == ("stop", "length")

    @pytest.mark.parametrize(
        "choice",
        [
            {"index": 0, "finish_reason": None},
            {"index": 0, "finish_reason": 7},
            {"index": 0, "finish_reason": "not in the alphabet"},
            {"index": 0, "finish_reason": "x" * 33},
            {"index": -1, "finish_reason": "stop"},
            {"index": True, "finish_reason": "stop"},
            {"index": "0", "finish_reason": "stop"},
            {"index": 1 << 16, "finish_reason": "stop"},
            "stop",
        ],
    )
    def test_odd_finish_reason_is_left_out(self, choice: object) -> None:
        assert track([chat(choices=[choice])])[1].facts.finish_reasons == ()

    def test_finish_reasons_are_bounded(self) -> None:
        choices = [{"index": n, "finish_reason": f"reason-{n}"} for n in range(9)]
        assert track([chat(choices=choices)])[1].facts.finish_reasons == (
            "reason-0",
            "reason-1",
            "reason-2",
        )

    @pytest.mark.parametrize(
        "frame",
        [
            chat(error={"message": "boom", "code": 500}),
            chat(choices=[{"index": 0, "finish_reason": "error"}]),
            b'data: { "error" : {} }\n\n',
        ],
    )
    def test_error_of_the_engine_is_a_finish_reason(self, frame: bytes) -> None:
        assert track([CHAT_FRAME, frame, DONE])[1].facts.finish_reasons == ("error",)

    def test_null_error_is_none(self) -> None:
        assert track([chat(error=None)])[1].facts.finish_reasons == ()

    def test_last_token_counts_win(self) -> None:
        _, tracker = track(
            [
                chat(usage={"prompt_tokens": 5, "completion_tokens": 1}),
                chat(usage=None),
                chat(usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}),
            ]
        )
        assert tracker.facts.usage == Usage(input=5, output=2, total=7)

    @pytest.mark.parametrize("count", [-1, 1.5, True, "5", None, 1 << 53])
    def test_odd_token_count_is_left_out(self, count: object) -> None:
        assert track([chat(usage={"prompt_tokens": count})])[1].facts.usage is None

    def test_served_model_is_the_first_one_named(self) -> None:
        stream = [chat(model="not in the alphabet"), chat(model="one"), chat(model="two")]
        assert track(stream)[1].facts.served == "one"

    @pytest.mark.parametrize(
        "data", [b'{"model":"a","model":"b"}', b"[]", b'{"model":', b'"model"', b"\xff{}"]
    )
    def test_odd_document_gives_no_facts(self, data: bytes) -> None:
        assert track([b"data: " + data + b"\n\n"])[1].facts.served is None

    def test_deep_document_gives_no_facts(self) -> None:
        data = b'{"model":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
        assert track([b"data: " + data + b"\n\n"])[1].facts.served is None

    def test_facts_of_a_responses_stream(self) -> None:
        usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
        last = {
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "usage": usage,
        }
        _, tracker = track(
            [
                named("response.created", response={"model": "tiny", "error": None}),
                named("response.output_text.delta", delta='"response":{"model":"other"}'),
                named("response.completed", response=last),
            ],
            Dialect.RESPONSES,
        )
        assert tracker.facts.served == "tiny"
        assert tracker.facts.finish_reasons == ("incomplete", "max_output_tokens")
        assert tracker.facts.usage == Usage(input=3, output=4, total=7)

    def test_error_event_of_a_responses_stream(self) -> None:
        _, tracker = track([named("error", message="boom")], Dialect.RESPONSES)
        assert tracker.facts.finish_reasons == ("error",)

    def test_failed_response_names_status_and_error(self) -> None:
        failed = named("response.failed", response={"status": "failed", "error": {"code": "x"}})
        assert track([failed], Dialect.RESPONSES)[1].facts.finish_reasons == ("failed", "error")

    def test_facts_of_a_messages_stream(self) -> None:
        _, tracker = track(
            [
                named("message_start", message={"model": "tiny", "usage": {"input_tokens": 3}}),
                named("content_block_delta", delta={"text": "hi"}),
                named(
                    "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}
                ),
                named("message_stop"),
            ],
            Dialect.MESSAGES,
        )
        assert tracker.facts.served == "tiny"
        assert tracker.facts.finish_reasons == ("end_turn",)
        assert tracker.facts.usage == Usage(input=3, output=9)
