"""Keeps every call with its exact bytes, and lets none pass whose receipt does not hold.

    pending = recorder.begin(...)        adds the headers that ask for a receipt
    tap = pending.answer(status, ...)    then every byte through tap.feed, tap.finish at the end

A receipt is checked before the application sees the end of the answer: a plain answer is given
out only then, a stream flows at once but for its receipt and its terminal frame.  The first
call that fails ends the recorder: nothing is sent through it any more.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
from typing import TYPE_CHECKING, Protocol

from attestation.encoding import base64url
from attestation.errors import AttestationError, EvidenceError, MalformedError, UsageError
from attestation.receipt.commitments import parse_openings_header
from attestation.receipt.dialect import dialect_of
from attestation.receipt.text import NONCE, RECEIPT_ID, fitting
from gateway.client.call import Call, Ended
from gateway.client.endpoint import INFERENCE_PATHS
from gateway.client.hold import StreamHold

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.result import AttestationResult

MAX_ANSWER_BYTES = 256 << 20
_NONCE_HEADER = "x-receipt-nonce"
_CREDENTIALS = ("authorization", "x-api-key")


class Fields(Protocol):
    """Header fields by name in any case, as every httpx has them."""

    def get(self, key: str, default: str) -> str:
        """One field's value, or the default."""


class Judge(Protocol):
    """Decides about a call that has a receipt."""

    def judge(self, call: Call) -> AttestationResult:
        """The verification of the call; raises `AttestationError` unless it is accepted."""


class Recorder:
    """The calls of one session, in the order they ended.  Safe to share between threads.

    With `origin` (scheme, host and port) nothing is sent anywhere else, whatever a redirect or
    a base URL says.  Bodies are kept in memory for as long as the recorder.
    """

    def __init__(
        self, judge: Judge, *, origin: str | None = None, max_answer_bytes: int = MAX_ANSWER_BYTES
    ) -> None:
        self._judge = judge
        self._origin = origin
        self._max_answer_bytes = max_answer_bytes
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._failure: AttestationError | None = None

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call that has ended."""
        with self._lock:
            return tuple(self._calls)

    @property
    def failure(self) -> AttestationError | None:
        """What ended this recorder, None while it is in use."""
        return self._failure

    def begin(
        self, *, method: str, origin: str, path: str, headers: Fields, body: bytes
    ) -> Pending | None:
        """A call about to be sent, None for routes that have no receipts.

        Raises `EvidenceError` if an earlier call failed: what follows would go to a peer that
        has already been caught; `UsageError` for another origin than the session's, and for a
        nonce of the caller's that is none.
        """
        self.require_usable()
        if self._origin is not None and origin != self._origin:
            raise UsageError(
                "this client is for one gateway only",
                code="origin",
                expected=self._origin,
                observed=origin,
                hint="connect a session to the other one",
            )
        if method != "POST" or path not in INFERENCE_PATHS:
            return None
        nonce = headers.get(_NONCE_HEADER, "") or base64url.encode(secrets.token_bytes(32))
        if not NONCE.fullmatch(nonce):
            raise UsageError(
                "the X-Receipt-Nonce of this call is none",
                code="nonce",
                expected=f"text of the form {NONCE.pattern}, or no such header for a fresh one",
            )
        call = Call(
            method=method,
            path=path,
            nonce=nonce,
            request_body=body,
            # Only the key that made a request gets its receipt: sessions may use several.
            credential=tuple((n, text) for n in _CREDENTIALS if (text := headers.get(n, ""))),
        )
        return Pending(self, call, self._max_answer_bytes)

    def require_usable(self) -> None:
        """Raise `EvidenceError` (code "session_ended") if an earlier failure ended this session."""
        if self._failure is not None:
            raise EvidenceError(
                f"this session has ended: {self._failure.message}",
                code="session_ended",
                hint="keep its record for the auditor, and connect again for a new one",
            ) from self._failure

    def close_call(self, call: Call) -> None:
        """Check and keep a call; raises `AttestationError` where it must not be used."""
        try:
            call = self._checked(call)
        except AttestationError as error:
            self.refuse(call, error)
            raise
        with self._lock:
            self._calls.append(call)

    def refuse(self, call: Call, error: AttestationError) -> None:
        """Keep a call that failed before its receipt could be looked at, and end the session."""
        self.end(error)
        with self._lock:
            self._calls.append(call)

    def end(self, error: AttestationError) -> None:
        """Let nothing be sent any more; only the first reason counts."""
        with self._lock:
            self._failure = self._failure or error

    def replace(self, old: Call, new: Call) -> Call:
        """Check `new`, of which more was fetched later, and put it in the place of `old`.

        Raises `AttestationError` where it must not be used; that ends the session, and `old`
        stays as it was.
        """
        try:
            new = self.check(new)
        except AttestationError as error:
            self.end(error)
            raise
        with self._lock:
            self._calls = [new if call is old else call for call in self._calls]
        return new

    def check(self, call: Call) -> Call:
        """The call with its verification; raises `AttestationError` unless it is accepted."""
        return dataclasses.replace(call, result=self._judge.judge(call))

    def _checked(self, call: Call) -> Call:
        if call.receipt is not None:
            return self.check(call)
        if call.succeeded:
            raise EvidenceError(
                "the answer came without a receipt",
                code="no_receipt",
                expected="a receipt with every answer of an inference route",
                observed=f"status {call.status} and no receipt",
                hint="this is no attested gateway, or something on the way removed the receipt",
            )
        return call


class Pending:
    """A call that was begun; exactly one of its ends is reported to the recorder."""

    def __init__(self, recorder: Recorder, call: Call, max_answer_bytes: int) -> None:
        self._recorder = recorder
        self._call = call
        self._max_answer_bytes = max_answer_bytes

    @property
    def headers(self) -> dict[str, str]:
        """What the request carries besides its own headers."""
        return {
            "X-Receipt": "inline",
            "X-Receipt-Nonce": self._call.nonce,
            # A compressed answer would have to be undone before it could be compared.
            "Accept-Encoding": "identity",
        }

    def failed(self) -> None:
        """No answer came."""
        self._recorder.close_call(dataclasses.replace(self._call, ended=Ended.CUT))

    def answer(self, status: int, headers: Fields, peer: Digest | None = None) -> Tap:
        """The answer's head came over a connection to `peer`; its bytes go through the tap.

        Raises `EvidenceError` for an answer in a content-coding, `MalformedError` for a receipt
        id or openings that are none.
        """
        coding = headers.get("content-encoding", "identity")
        receipt_id = headers.get("x-receipt-id", "") or None
        call = dataclasses.replace(
            self._call,
            status=status,
            content_type=headers.get("content-type", "") or None,
            receipt_id=fitting(RECEIPT_ID, receipt_id),
            receipt=headers.get("x-receipt", "") or None,
            peer=peer,
        )
        if coding.strip().lower() != "identity":
            raise self._refused(
                call,
                EvidenceError(
                    "the answer is compressed",
                    code="content_encoding",
                    expected="content-encoding identity: a receipt covers the bytes as sent",
                    observed="another content-encoding",
                ),
            )
        if call.receipt_id != receipt_id:
            # It will stand in messages and addresses, so it has to be an id and nothing else.
            raise self._refused(
                call,
                MalformedError(
                    "the answer's receipt id is none",
                    code="receipt_id",
                    expected="32 hexadecimal digits in x-receipt-id",
                    observed="another text",
                ),
            )
        text = headers.get("x-receipt-openings", "")
        try:
            call = dataclasses.replace(call, openings=parse_openings_header(text) if text else None)
        except MalformedError as error:
            raise self._refused(call, error) from None
        return Tap(self._recorder, call, self._max_answer_bytes)

    def _refused(self, call: Call, error: AttestationError) -> AttestationError:
        self._recorder.refuse(call, error)
        return error


class Tap:
    """The bytes of one answer on their way to the application.

    `feed` gives back what the application may see already, `finish` the rest once the receipt
    holds.  `finish` raises `AttestationError`, and then the rest stays here.
    """

    def __init__(self, recorder: Recorder, call: Call, max_answer_bytes: int) -> None:
        self._recorder = recorder
        self._call = call
        self._max_answer_bytes = max_answer_bytes
        self._body = bytearray()
        self._ended = False
        self.streams = (call.content_type or "").lower().startswith("text/event-stream")
        self._hold = StreamHold(dialect_of(call.path)) if self.streams else None

    def feed(self, data: bytes) -> bytes:
        """The bytes that may be passed on now; `EvidenceError` for an endless answer."""
        self._body += data
        if len(self._body) > self._max_answer_bytes:
            error = EvidenceError(
                "the answer is too large to keep",
                code="answer_size",
                expected=f"at most {self._max_answer_bytes} bytes",
            )
            self._ended = True
            self._recorder.refuse(self._call, error)
            raise error
        return self._hold.feed(data) if self._hold is not None else b""

    def finish(self) -> bytes:
        """The answer came to its end: check it, and give out what was held back."""
        self._ended = True
        call = dataclasses.replace(self._call, response_body=bytes(self._body))
        if self._hold is None:
            self._recorder.close_call(call)
            return call.response_body
        try:
            block = self._hold.block()
        except MalformedError as error:
            self._recorder.refuse(call, error)
            raise
        if block is not None:
            call = dataclasses.replace(call, receipt=block.token, openings=block.openings)
        self._recorder.close_call(call)
        return self._hold.rest()

    def cut(self) -> None:
        """The connection failed before the answer's end."""
        self._stop(Ended.CUT)

    def left(self) -> None:
        """The application closed the answer; does nothing after `finish` or `cut`."""
        self._stop(Ended.LEFT)

    def _stop(self, ended: Ended) -> None:
        if self._ended:
            return
        self._ended = True
        body = bytes(self._body)
        # A receipt that came with the head covers an answer that was not read to its end.
        call = dataclasses.replace(
            self._call, response_body=body, ended=ended, receipt=None, openings=None
        )
        self._recorder.close_call(call)
