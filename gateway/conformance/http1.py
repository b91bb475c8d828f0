"""Topic `http1`: raw bytes to live listeners, judged by what the engine got and what came back.

A case is `name`, `llhttp` (what strict llhttp says of the bytes) and the bytes, in files that
hold a JSON array.  Each case is said to two listeners (`gateway.conformance.http1_listeners`) and
read a second time here (`http1_reading`), without the edge's own rules:

* always: the engine got, once each and in order, the bodies of the messages that were answered
  200, all of them whole before the first fault; no 5xx, no 101, no hang, no stray bytes;
* `error`: what is wrong was answered by nothing but a refusal, and the listener closed;
* `upgrade/pause`: refused, closed, nothing of it went to the engine;
* `ok`: every whole message was answered, or one was refused with a 4xx and breaks a documented
  stricter rule, which is named as `rule` and checked on the message itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attestation.conformance.case import Case
from attestation.conformance.files import require_list, require_text, unknown_shape
from attestation.conformance.inputs import case_bytes
from attestation.errors import MalformedError
from gateway.conformance.http1_listeners import (
    FORWARDER,
    GATEWAY,
    HangError,
    Listeners,
    RawClient,
)
from gateway.conformance.http1_reading import State, broken_rule, read_messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory
    from attestation.encoding.strict_json import JsonValue
    from gateway.conformance.http1_listeners import Answer
    from gateway.conformance.http1_reading import Reading

REFUSALS: Final = frozenset(
    {(400, "malformed_request"), (431, "head_too_large"), (408, "head_timeout")}
)
"""How the listener itself refuses: docs/spec/http.md, "Requests that never become one"."""

ANSWERS: Final = frozenset(
    {(401, "invalid_api_key"), (404, "not_found"), (405, "method_not_allowed")}
)
"""How the gateway answers a request that is served but has no key."""

EXPECTED: Final = frozenset({"ok", "error", "upgrade/pause", "upgrade", "pause"})
_LISTENERS: Final = (GATEWAY, FORWARDER)
_PROBE: Final = b"GET /healthz HTTP/1.1\r\nhost: conformance\r\nconnection: close\r\n\r\n"
_OK: Final = 200


def cases(directory: VectorDirectory, resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every element of every listed file."""
    listeners = Listeners(resources)
    for file in directory.listed_files():
        if not file.endswith(".json"):
            raise unknown_shape(file)
        for index, members in enumerate(require_list(directory.read_json(file), file)):
            yield _case(listeners, members, f"case {index} of {file}", index)


def _case(listeners: Listeners, members: dict[str, Any], what: str, index: int) -> Case:
    name = require_text(members, "name", what)
    expected = require_text(members, "llhttp", what)
    if expected not in EXPECTED:
        raise MalformedError(
            f"{what} expects something this topic does not know",
            code="case",
            expected=" or ".join(sorted(EXPECTED)),
        )
    data = case_bytes(members, what)
    run = partial(_say, listeners, data)
    return Case(name=f"{name}#{index}", expected=expected, run=run, agrees=_agrees)


def _say(listeners: Listeners, data: bytes) -> JsonValue:
    """What became of the bytes at each listener, or the first thing that must never happen."""
    reading = read_messages(data)
    seen: dict[str, JsonValue] = {"whole": reading.whole, "ends": str(reading.state)}
    for listener in _LISTENERS:
        try:
            seen[listener] = _Visit(listeners, listener, reading).make(data)
        except HangError:
            return {**seen, "problem": f"the {listener} hangs"}
        except _ProblemError as problem:
            return {**seen, "problem": f"{listener}: {problem}"}
    return seen


class _ProblemError(Exception):
    """Something that must never happen, whatever was said."""


class _Visit:
    """One case at one listener."""

    def __init__(self, listeners: Listeners, listener: str, reading: Reading) -> None:
        self._listeners = listeners
        self._forwards = listener == FORWARDER
        self._reading = reading
        self._address = listeners.address(listener)
        self._answers: list[Answer] = []

    def make(self, data: bytes) -> JsonValue:
        """Say the bytes, watch the connection to its end, and look at what the engine got."""
        self._listeners.forget()
        client = RawClient(self._address)
        try:
            client.say(data)
            closed = self._read_answers(client)
            if not closed and self._reading.state is State.IN_BODY:
                closed = self._leaves_half(client)
            bodies = self._listeners.engine_bodies()
            closed = closed or self._is_closed(client, len(bodies))
        finally:
            client.close()
        self._check(bodies)
        return {
            "answers": [str(answer) for answer in self._answers],
            "closed": closed,
            "engine": len(bodies),
            "refused": self._refused,
            "rule": self._rule(),
        }

    @property
    def _refused(self) -> bool:
        return bool(self._answers) and _of(self._answers[-1]) in REFUSALS

    def _read_answers(self, client: RawClient) -> bool:
        """Read what is due; True if the listener closed the connection by itself."""
        messages, due = self._reading.messages, self._reading.whole
        # What is wrong, or has not ended its head in time, is answered and closed.
        until_closed = self._reading.state not in (State.WHOLE, State.IN_BODY)
        while until_closed or len(self._answers) < due:
            at = len(self._answers)
            to_head = at < len(messages) and messages[at].method == b"HEAD"
            answer = client.answer(to_head=to_head)
            if answer is None:
                self._require_no_excess(client)
                return True
            self._answers.append(answer)
        return False

    def _leaves_half(self, client: RawClient) -> bool:
        """End our side inside a body; whether the listener had refused what it saw of it."""
        client.finish_saying()
        while (answer := client.answer()) is not None:
            # What needs no body is answered without it.
            if _of(answer) in REFUSALS:
                self._answers.append(answer)
            elif _of(answer) not in ANSWERS:
                raise _ProblemError(f"answered {answer} to half a message")
        return self._refused

    def _is_closed(self, client: RawClient, before: int) -> bool:
        """Whether the connection ends behind whole messages, instead of serving one more.

        The engine has got `before` requests until now.
        """
        if self._reading.state is not State.WHOLE:
            return False
        client.say(_PROBE)
        answers = 0
        while client.answer() is not None:
            answers += 1
        self._require_no_excess(client)
        asked = len(self._listeners.engine_bodies()) - before if self._forwards else 1
        if answers > 1 or (answers and not asked):
            raise _ProblemError("an answer came that nobody asked for")
        return not answers

    def _require_no_excess(self, client: RawClient) -> None:
        if client.excess:
            raise _ProblemError("bytes followed the last answer that belong to none")

    def _check(self, bodies: list[bytes]) -> None:
        for answer in self._answers:
            if answer.status != _OK and _of(answer) not in REFUSALS | ANSWERS:
                raise _ProblemError(f"answered {answer}, which is not documented")
        served = sum(answer.status == _OK for answer in self._answers) if self._forwards else 0
        whole = self._reading.messages[: self._reading.whole]
        if bodies != [bytes(message.body) for message in whole[:served]]:
            raise _ProblemError(f"the engine got {len(bodies)} requests, not just the {served} due")

    def _rule(self) -> str | None:
        at = len(self._answers) - 1
        if not self._refused or at >= len(self._reading.messages):
            return None
        return broken_rule(self._reading.messages[at])


def _of(answer: Answer) -> tuple[int, str | None]:
    if answer.bodiless:
        # Every status stands with one code only.
        return answer.status, dict(REFUSALS | ANSWERS).get(answer.status)
    return answer.status, answer.code


def _agrees(expected: JsonValue, got: JsonValue) -> bool:
    if not isinstance(got, dict) or "problem" in got:
        return False
    check = {"ok": _is_served, "error": _is_stopped}.get(str(expected), _is_refused)
    return all(check(got, got[listener]) for listener in _LISTENERS)


def _is_served(got: dict[str, Any], seen: dict[str, Any]) -> bool:
    if seen["refused"]:
        return seen["rule"] is not None and bool(seen["closed"])
    return bool(len(seen["answers"]) == got["whole"])


def _is_stopped(got: dict[str, Any], seen: dict[str, Any]) -> bool:
    # Where this reading finds no fault, only a refusal shows that the listener found it.
    return bool(seen["closed"]) and (bool(seen["refused"]) or got["ends"] == State.ERROR)


def _is_refused(_got: dict[str, Any], seen: dict[str, Any]) -> bool:
    return bool(seen["closed"]) and bool(seen["refused"])
