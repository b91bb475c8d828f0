"""The order of an exchange, what it forwards and what it records."""

from __future__ import annotations

import pickle

import pytest

from attestation.errors import UsageError
from attestation.receipt.claims import Attempt, End, Splice
from attestation.receipt.delivery import body_of
from attestation.receipt.exchange import Exchange, ForwardPlan, LocalProtocolError, State
from attestation.receipt.outcome import abandoned
from tests.receipt.support import (
    CHAT_FRAME,
    DONE,
    JTI,
    REQUEST,
    digest,
    exchange,
    lineage,
    plain,
    planned,
    stream,
    streaming,
)


def in_state(state: State) -> Exchange:
    machine = {
        State.RECEIVING: exchange,
        State.RECEIVED: exchange,
        State.ANSWERED: exchange,
        State.PLANNED: planned,
        State.PLAIN: plain,
        State.PLAIN_DONE: plain,
        State.STREAM: streaming,
        State.STREAM_DONE: streaming,
        State.FINISHED: planned,
    }[state]()
    if state is State.RECEIVED:
        machine.received(None)
        machine.decide()
    elif state in (State.PLAIN_DONE, State.STREAM_DONE):
        machine.engine_end(clean=True)
    elif state is State.ANSWERED:
        machine.answer(400, "application/json", b"{}")
    elif state is State.FINISHED:
        machine.finish(End.CLIENT_ABORT)
    assert machine.state is state
    return machine


ACTIONS = {
    "skim": lambda m: m.skim(b"x"),
    "receive": lambda m: m.receive(b"x"),
    "received": lambda m: m.received("application/json"),
    "decide": lambda m: m.decide(),
    "set_model": lambda m: m.set_model("tiny"),
    "plan": lambda m: m.plan(ForwardPlan(body=b"")),
    "attempt": lambda m: m.attempt("engine", local=True, outcome="ok", milliseconds=1),
    "respond": lambda m: m.respond(200, None, streaming=False),
    "engine": lambda m: m.engine(b"x"),
    "engine_end": lambda m: m.engine_end(clean=True),
    "answer": lambda m: m.answer(500, "application/json", b"{}"),
    "finish": lambda m: m.finish(End.CLIENT_ABORT),
}


EVERYWHERE = set(State) - {State.FINISHED}


STREAMS = {State.STREAM, State.STREAM_DONE}


BEFORE_PLAN = {State.RECEIVING, State.RECEIVED}


ORDER = {
    "receive": {State.RECEIVING},
    "skim": {State.RECEIVING},
    "received": {State.RECEIVING},
    "decide": BEFORE_PLAN,
    "set_model": BEFORE_PLAN | {State.PLANNED},
    "plan": {State.RECEIVED},
    "attempt": EVERYWHERE - BEFORE_PLAN,
    "respond": {State.PLANNED},
    "engine": {State.PLAIN, State.STREAM},
    "engine_end": {State.PLAIN, State.STREAM},
    "answer": EVERYWHERE - STREAMS,
    "finish": EVERYWHERE,
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("action", list(ACTIONS))
def test_every_action_is_refused_in_every_state_but_its_own(action: str, state: State) -> None:
    machine = in_state(state)
    if state in ORDER[action]:
        ACTIONS[action](machine)
    else:
        with pytest.raises(LocalProtocolError) as refused:
            ACTIONS[action](machine)
        assert action in str(refused.value)
        assert isinstance(refused.value, UsageError)


@pytest.mark.parametrize("state", sorted(EVERYWHERE))
def test_every_state_can_end_in_an_outcome(state: State) -> None:
    told = in_state(state).finish(End.GATEWAY_FAILURE)
    assert told.end is End.GATEWAY_FAILURE
    assert told.request is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"jti": "0" * 31},
        {"jti": "A" * 32},
        {"nonce": "short"},
        {"nonce": "n" * 89},
        {"nonce": "with space"},
        {"method": "GET"},
        {"path": "v1"},
        {"path": "/v1?x"},
    ],
)
def test_announcement_outside_its_alphabet_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        exchange(**changes)


def test_exchange_has_nothing_to_send_before_it_is_finished() -> None:
    machine = exchange()
    assert (machine.body, machine.terminal, machine.engine_bytes) == (b"", b"", 0)


def test_exchange_without_a_stream_is_neither_halted_nor_broken() -> None:
    machine = exchange()
    assert not machine.halted
    assert not machine.broken


def test_body_that_will_not_be_forwarded_is_hashed_and_not_kept() -> None:
    machine = exchange()
    machine.skim(REQUEST[:5])
    machine.skim(REQUEST[5:])
    machine.received(None)
    machine.decide()
    # Nothing is left to compare it with.
    with pytest.raises(LocalProtocolError):
        machine.plan(ForwardPlan(body=REQUEST))
    assert machine.finish(End.CLIENT_ABORT).request == body_of(REQUEST)


def test_states_have_names_to_show() -> None:
    assert [str(state) for state in State] == [state.name.lower() for state in State]


class TestPlan:
    def test_request_that_was_not_allowed_is_not_forwarded(self) -> None:
        machine = exchange()
        machine.receive(REQUEST)
        machine.received(None)
        machine.decide("model_not_allowed")
        with pytest.raises(LocalProtocolError):
            machine.plan(ForwardPlan(body=REQUEST))

    def test_request_without_decision_is_not_forwarded(self) -> None:
        machine = exchange()
        machine.received(None)
        with pytest.raises(LocalProtocolError):
            machine.plan(ForwardPlan(body=b""))

    def test_request_not_read_to_its_end_is_not_forwarded(self) -> None:
        machine = exchange()
        machine.received(None, complete=False)
        machine.decide()
        with pytest.raises(LocalProtocolError):
            machine.plan(ForwardPlan(body=b""))

    @pytest.mark.parametrize(
        "plan",
        [
            ForwardPlan(body=REQUEST + b" "),
            ForwardPlan(body=REQUEST.replace(b"tiny", b"TINY")),
            ForwardPlan(body=REQUEST, splices=(Splice(code="x", offset=0, deleted=0, inserted=0),)),
            ForwardPlan(body=REQUEST, inserted=(b"",)),
            ForwardPlan(
                body=REQUEST + b"ab",
                splices=(Splice(code="x", offset=0, deleted=0, inserted=1),),
                inserted=(b"ab",),
            ),
            ForwardPlan(
                body=REQUEST + b"a",
                splices=(Splice(code="NOT A CODE", offset=0, deleted=0, inserted=1),),
                inserted=(b"a",),
            ),
            ForwardPlan(
                body=REQUEST + b"abc",
                splices=(Splice(code="x", offset=0, deleted=0, inserted=1),) * 3,
                inserted=(b"a", b"b", b"c"),
            ),
        ],
    )
    def test_plan_that_contradicts_the_received_body_is_refused(self, plan: ForwardPlan) -> None:
        machine = exchange()
        machine.receive(REQUEST)
        machine.received(None)
        machine.decide()
        with pytest.raises(LocalProtocolError):
            machine.plan(plan)

    def test_body_in_pieces_is_compared_piece_by_piece(self) -> None:
        for swapped in (False, True):
            machine = exchange()
            for piece in (REQUEST[:3], REQUEST[3:9], REQUEST[9:]):
                machine.receive(piece)
            machine.received(None)
            machine.decide()
            if swapped:
                with pytest.raises(LocalProtocolError):
                    machine.plan(ForwardPlan(body=REQUEST[:9] + REQUEST[9:][::-1]))
            else:
                machine.plan(ForwardPlan(body=REQUEST))
            assert machine.finish(End.CLIENT_ABORT).request == body_of(REQUEST)

    def test_rewrite_is_recorded_with_its_splices(self) -> None:
        machine = exchange()
        machine.receive(REQUEST)
        machine.received(None)
        machine.decide()
        splices = (Splice(code="cache_salt", offset=1, deleted=0, inserted=3),)
        forwarded = b"{abc" + REQUEST[1:]
        machine.plan(ForwardPlan(body=forwarded, splices=splices, inserted=(b"abc",)))
        told = machine.finish(End.CLIENT_ABORT)
        assert told.request == body_of(REQUEST)
        assert (told.forwarded, told.splices) == (body_of(forwarded), splices)
        assert told.inserted == (b"abc",)


class TestRecords:
    def test_request_is_hashed_piece_by_piece(self) -> None:
        machine = exchange()
        for byte in REQUEST:
            machine.receive(bytes([byte]))
        machine.received("application/json; charset=utf-8")
        told = machine.finish(End.CLIENT_ABORT)
        assert told.request == body_of(REQUEST)
        assert (told.request_type, told.request_partial) == (
            "application/json; charset=utf-8",
            False,
        )

    def test_abandoned_upload_is_partial(self) -> None:
        machine = exchange()
        machine.receive(b'{"mod')
        told = machine.finish(End.CLIENT_ABORT)
        assert (told.request, told.request_partial) == (body_of(b'{"mod'), True)
        assert (told.decision, told.request_type, told.status) == ("undecided", None, None)

    @pytest.mark.parametrize("odd", ["text/plain\n", 'a/b; c="d"', "a" * 41, "", "ä/b", None])
    def test_content_type_that_cannot_be_recorded_is_none(self, odd: str | None) -> None:
        machine = exchange()
        machine.received(odd)
        assert machine.finish(End.CLIENT_ABORT).request_type is None

    @pytest.mark.parametrize("odd", ["white space", "x" * 129, "", "ü", "a\nb", None])
    def test_model_id_outside_its_alphabet_is_none(self, odd: str | None) -> None:
        machine = exchange()
        machine.set_model(odd, engine=odd)
        told = machine.finish(End.REFUSED)
        assert (told.model.id, told.model.engine) == (None, None)

    def test_model_facts_are_kept(self) -> None:
        machine = exchange()
        machine.set_model("org/tiny:1", engine="vllm/0.32.0")
        model = machine.finish(End.REFUSED).model
        assert (model.id, model.engine) == ("org/tiny:1", "vllm/0.32.0")

    @pytest.mark.parametrize("code", ["", "Not a code", "x" * 33, "a\n"])
    def test_decision_outside_its_alphabet_is_refused(self, code: str) -> None:
        with pytest.raises(LocalProtocolError):
            exchange().decide(code)

    def test_first_two_and_last_attempts_are_kept(self) -> None:
        machine = planned()
        for number in range(5):
            machine.attempt(f"up-{number}", local=False, outcome="reset", milliseconds=number)
        kept = machine.finish(End.UPSTREAM_ERROR).attempts
        assert [attempt.upstream for attempt in kept] == ["up-0", "up-1", "up-4"]

    def test_attempt_is_recorded_as_it_was(self) -> None:
        machine = planned()
        machine.attempt("engine", local=True, outcome="ok", milliseconds=-3)
        assert machine.finish(End.UPSTREAM_ERROR).attempts == (
            Attempt(upstream="engine", local=True, outcome="ok", milliseconds=0),
        )

    @pytest.mark.parametrize(("upstream", "outcome"), [("a b", "ok"), ("engine", "NO")])
    def test_attempt_outside_its_alphabet_is_refused(self, upstream: str, outcome: str) -> None:
        with pytest.raises(LocalProtocolError):
            planned().attempt(upstream, local=True, outcome=outcome, milliseconds=1)

    def test_outcome_survives_pickling(self) -> None:
        told = stream([CHAT_FRAME + DONE]).outcome
        assert pickle.loads(pickle.dumps(told)) == told  # noqa: S301  (our own bytes)

    def test_abandoned_exchange_knows_neither_request_nor_response(self) -> None:
        told = abandoned(
            jti=JTI,
            method="POST",
            path="/v1/messages",
            sub=digest("key"),
            grant_digest=digest("grant"),
            lineage=lineage(),
        )
        assert told.end is End.GATEWAY_FAILURE
        assert (told.request, told.response, told.status, told.events) == (None, None, None, None)
