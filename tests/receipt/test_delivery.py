"""What an exchange delivers and commits to, whole or streamed, however it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End, Usage
from attestation.receipt.delivery import body_of
from attestation.receipt.dialect import Dialect, error_frame
from attestation.receipt.exchange import LocalProtocolError
from attestation.receipt.sse import SseFramer, has_data
from tests.receipt.support import (
    CHAT_FRAME,
    DONE,
    REQUEST,
    exchange,
    plain,
    planned,
    stream,
    streaming,
)
from tests.receipt.test_sse import cut

EMPTY = body_of(b"")


class TestPlain:
    ANSWER = b'{"model":"tiny","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":2}}'

    def test_whole_answer_is_delivered_as_it_came(self) -> None:
        machine = plain()
        assert machine.engine(self.ANSWER[:10]) == b""
        machine.engine(self.ANSWER[10:])
        machine.engine_end(clean=True)
        told = machine.finish()
        assert machine.body == self.ANSWER
        assert told.end is End.COMPLETE
        assert (told.status, told.response) == (200, body_of(self.ANSWER))
        assert (told.engine, told.events, told.block_offset, told.mods) == (None, None, None, ())
        assert (told.model.served, told.finish_reasons) == ("tiny", ("stop",))
        assert told.usage == Usage(input=2)
        assert machine.engine_bytes == len(self.ANSWER)

    def test_error_answer_of_the_engine_is_complete_with_its_status(self) -> None:
        machine = planned()
        machine.respond(404, "application/json", streaming=False)
        machine.engine(b'{"error":{"code":404}}')
        machine.engine_end(clean=True)
        told = machine.finish()
        assert (told.end, told.status, told.finish_reasons) == (End.COMPLETE, 404, ("error",))

    def test_answer_cut_short_is_never_complete(self) -> None:
        machine = plain()
        machine.engine(self.ANSWER)
        machine.engine_end(clean=False)
        with pytest.raises(LocalProtocolError):
            machine.finish()

    def test_own_answer_in_place_of_the_engines_commits_to_both(self) -> None:
        machine = plain()
        machine.engine(b'{"mod')
        machine.engine_end(clean=False)
        machine.answer(502, "application/json", b'{"error":{}}')
        told = machine.finish(End.UPSTREAM_ERROR)
        assert machine.body == b'{"error":{}}'
        assert (told.status, told.response) == (502, body_of(b'{"error":{}}'))
        assert told.engine == body_of(b'{"mod')
        assert told.model.served is None

    def test_own_answer_is_never_complete(self) -> None:
        machine = planned()
        machine.answer(500, "application/json", b"{}")
        with pytest.raises(LocalProtocolError):
            machine.finish()

    def test_refusal_commits_to_the_gateways_answer(self) -> None:
        machine = exchange()
        machine.receive(REQUEST)
        machine.received("application/json")
        machine.decide("model_not_allowed")
        machine.answer(403, "application/json", b'{"error":1}')
        told = machine.finish(End.REFUSED)
        assert (told.end, told.decision, told.status) == (End.REFUSED, "model_not_allowed", 403)
        assert (told.response, told.engine) == (body_of(b'{"error":1}'), None)

    def test_later_own_answer_replaces_the_earlier_one(self) -> None:
        machine = planned()
        machine.answer(502, "application/json", b"first")
        machine.answer(500, "application/json", b"second")
        assert machine.finish(End.GATEWAY_FAILURE).response == body_of(b"second")

    @pytest.mark.parametrize("answered", [True, False])
    def test_caller_gone_before_the_seal_got_nothing(self, answered: bool) -> None:
        machine = plain()
        machine.engine(self.ANSWER)
        machine.engine_end(clean=True)
        if answered:
            machine.answer(502, "application/json", b"{}")
        told = machine.finish(End.CLIENT_ABORT)
        assert machine.body == b""
        assert (told.status, told.response_type, told.response) == (None, None, EMPTY)
        assert told.engine == body_of(self.ANSWER)

    def test_failure_without_an_answer_delivers_nothing(self) -> None:
        told = planned().finish(End.TIMEOUT)
        assert (told.end, told.status, told.response) == (End.TIMEOUT, None, EMPTY)


class TestStream:
    def test_complete_stream_is_delivered_byte_for_byte(self) -> None:
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n'
        whole = b": hi\n\n" + CHAT_FRAME + usage + DONE
        told = stream([whole])
        assert told.sent + told.terminal == whole
        assert told.outcome.end is End.COMPLETE
        assert told.outcome.response == body_of(whole)
        assert (told.outcome.status, told.outcome.response_type) == (200, "text/event-stream")
        assert told.outcome.block_offset == len(whole) - len(DONE)
        assert (told.outcome.events, told.outcome.mods, told.outcome.engine) == (3, (), None)
        assert told.outcome.usage == Usage(input=3)

    def test_without_inline_delivery_there_is_no_block(self) -> None:
        assert stream([CHAT_FRAME + DONE], inline=False).outcome.block_offset is None

    @given(
        st.lists(
            st.sampled_from([CHAT_FRAME, b": ping\n\n", DONE, b"\n", b"x", b"\r"]), max_size=6
        ),
        st.lists(st.integers(0, 40), max_size=12),
        st.booleans(),
    )
    def test_read_boundaries_never_change_the_outcome(
        self, frames: list[bytes], sizes: list[int], clean: bool
    ) -> None:
        whole = b"".join(frames)
        told = stream(cut(whole, sizes), clean=clean)
        assert told.outcome == stream([whole], clean=clean).outcome
        delivered = told.sent + told.terminal
        assert told.outcome.response == body_of(delivered)
        assert told.outcome.engine == (None if whole in (delivered, b"") else body_of(whole))
        assert told.outcome.block_offset == len(told.sent)
        framer = SseFramer(1 << 20)
        parts = [*framer.feed(delivered), framer.finish() or b""]
        assert told.outcome.events == sum(has_data(part) for part in parts)

    @pytest.mark.parametrize("dialect", list(Dialect))
    def test_stream_without_terminal_frame_ends_with_the_gateways_error(
        self, dialect: Dialect
    ) -> None:
        told = stream([b"data: {}\n\n"], dialect=dialect)
        assert told.outcome.end is End.UPSTREAM_ERROR
        assert b"upstream_error" in told.terminal
        assert told.outcome.response == body_of(b"data: {}\n\n" + told.terminal)
        assert told.outcome.engine == body_of(b"data: {}\n\n")
        assert told.outcome.events == 2

    def test_error_event_of_a_responses_stream_continues_the_numbering(self) -> None:
        told = stream([b"data: {}\n\n"] * 3, dialect=Dialect.RESPONSES)
        assert b'"sequence_number":3' in told.terminal

    def test_callers_own_error_event_is_used_only_if_one_is_needed(self) -> None:
        for pieces, expected in (([CHAT_FRAME], b"data: own\n\n"), ([DONE], DONE)):
            machine = streaming()
            for piece in pieces:
                machine.engine(piece)
            machine.engine_end(clean=True)
            machine.finish(error_frame=b"data: own\n\n")
            assert machine.terminal == expected

    def test_terminal_frame_of_a_message_cut_short_is_not_delivered(self) -> None:
        told = stream([CHAT_FRAME + DONE], clean=False)
        assert told.outcome.end is End.UPSTREAM_ERROR
        assert told.terminal == error_frame(
            Dialect.CHAT,
            code="upstream_error",
            message="The gateway ended this stream (upstream_error); "
            "its receipt says what was delivered.",
        )
        assert told.outcome.engine == body_of(CHAT_FRAME + DONE)

    def test_tail_is_discarded_and_the_terminal_frame_still_delivered(self) -> None:
        told = stream([CHAT_FRAME + DONE + CHAT_FRAME, CHAT_FRAME])
        assert (told.outcome.end, told.outcome.mods) == (End.UPSTREAM_ERROR, ("tail",))
        assert told.terminal == DONE
        assert told.outcome.response == body_of(CHAT_FRAME + DONE)
        assert told.outcome.engine == body_of(CHAT_FRAME + DONE + CHAT_FRAME * 2)

    def test_mere_line_ends_after_the_terminal_frame_do_no_harm(self) -> None:
        told = stream([CHAT_FRAME + DONE + b"\n"])
        assert (told.outcome.end, told.outcome.mods) == (End.COMPLETE, ("tail",))
        assert told.outcome.engine == body_of(CHAT_FRAME + DONE + b"\n")

    def test_forged_block_ends_the_stream(self) -> None:
        machine = streaming()
        assert machine.engine(CHAT_FRAME + b": receipt eyJ\n\n" + CHAT_FRAME) == CHAT_FRAME
        assert machine.halted
        assert machine.broken
        assert machine.engine(CHAT_FRAME) == b""
        machine.engine_end(clean=True)
        told = machine.finish()
        assert (told.end, told.mods) == (End.UPSTREAM_ERROR, ("forged",))
        assert told.response == body_of(CHAT_FRAME + machine.terminal)

    def test_frame_beyond_the_limit_ends_the_stream_as_limit(self) -> None:
        told = stream([CHAT_FRAME, b"data: " + b"x" * 100], max_frame_bytes=100)
        assert (told.outcome.end, told.outcome.mods) == (End.LIMIT, ("oversize",))
        assert b"limit" in told.terminal

    def test_dropped_remainder_is_recorded(self) -> None:
        told = stream([CHAT_FRAME, b'data: {"a'])
        assert told.outcome.mods == ("partial",)
        assert told.outcome.engine == body_of(CHAT_FRAME + b'data: {"a')

    def test_terminal_frame_seen_is_not_broken(self) -> None:
        machine = streaming()
        machine.engine(DONE)
        assert (machine.halted, machine.broken) == (True, False)

    def test_abort_commits_only_to_what_the_transport_took(self) -> None:
        machine = streaming()
        first = machine.engine(CHAT_FRAME)
        machine.taken(first)
        machine.engine(CHAT_FRAME + b"data: ha")
        told = machine.finish(End.CLIENT_ABORT)
        assert machine.terminal == b""
        assert told.response == body_of(CHAT_FRAME)
        assert told.engine == body_of(CHAT_FRAME * 2 + b"data: ha")
        assert (told.events, told.block_offset, told.status) == (1, None, 200)

    def test_abort_after_the_terminal_frame_does_not_commit_to_it(self) -> None:
        machine = streaming()
        machine.taken(machine.engine(CHAT_FRAME))
        machine.engine(DONE)
        machine.engine_end(clean=True)
        told = machine.finish(End.CLIENT_ABORT)
        assert (told.end, told.response) == (End.CLIENT_ABORT, body_of(CHAT_FRAME))

    def test_abort_before_anything_was_taken_commits_to_nothing(self) -> None:
        told = streaming().finish(End.CLIENT_ABORT)
        assert (told.response, told.engine, told.events) == (EMPTY, None, 0)

    def test_released_but_unconfirmed_bytes_count_unless_the_caller_is_gone(self) -> None:
        machine = streaming()
        machine.engine(CHAT_FRAME)
        machine.engine(CHAT_FRAME)
        told = machine.finish(End.TIMEOUT)
        assert told.response == body_of(CHAT_FRAME * 2 + machine.terminal)
        assert told.events == 3
        assert machine.owed == CHAT_FRAME * 2

    def test_only_what_was_released_and_not_taken_is_owed_at_the_end(self) -> None:
        machine = streaming()
        machine.taken(machine.engine(CHAT_FRAME))
        assert machine.owed == b""
        machine.engine(DONE)
        machine.engine_end(clean=True)
        machine.finish()
        assert (machine.owed, machine.terminal) == (b"", DONE)

    @pytest.mark.parametrize("data", [b"", CHAT_FRAME[:-1], CHAT_FRAME * 2, b"other"])
    def test_pieces_are_taken_whole(self, data: bytes) -> None:
        machine = streaming()
        machine.engine(CHAT_FRAME)
        with pytest.raises(LocalProtocolError):
            machine.taken(data)

    def test_piece_is_taken_once(self) -> None:
        machine = streaming()
        machine.taken(machine.engine(CHAT_FRAME))
        with pytest.raises(LocalProtocolError):
            machine.taken(CHAT_FRAME)

    def test_stream_is_not_complete_before_the_engines_end(self) -> None:
        machine = streaming()
        machine.engine(DONE)
        with pytest.raises(LocalProtocolError):
            machine.finish()

    @pytest.mark.parametrize("end", [End.TIMEOUT, End.LIMIT, End.UPSTREAM_ERROR])
    def test_failure_seen_by_the_caller_stands_even_after_a_terminal_frame(self, end: End) -> None:
        machine = streaming()
        machine.engine(CHAT_FRAME + DONE)
        told = machine.finish(end)
        assert told.end is end
        assert str(end).encode() in machine.terminal

    def test_stream_event_hashes_are_over_the_exact_bytes(self) -> None:
        told = stream([b"data: \xff\xfe\n\n", DONE])
        assert told.outcome.response is not None
        assert told.outcome.response.digest == Digest.of(b"data: \xff\xfe\n\n" + DONE)
