"""Waiting until the log is quoted: every receipt gets the epoch that anchors it, and is verified
with it once more.

An answer never waits for a quote, so a receipt is anchored some seconds after it came.  Whatever
prevents that later (a lost connection, a gateway that was restarted, a boot that ended) leaves
the receipt as it is and is said; only evidence that does not hold is an error.
"""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import httpx2

from attestation.bundle import parse_bundle
from attestation.errors import AttestationError, EvidenceError, MalformedError
from gateway.client.call import Anchoring

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from attestation.bundle import BootEvidence, Bundle
    from gateway.client.call import Call
    from gateway.client.endpoint import Endpoint
    from gateway.client.recorder import Recorder

T = TypeVar("T")

AT_ONCE: Final = 8
MAX_BYTES: Final = 4 << 20
_LOST_AFTER: Final = 4
_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 30.0
_FINAL: Final = "unanchored-final"
_NEVER: Final = "its boot ended before the log was quoted again: it will never be anchored"
_RESTARTED: Final = "the connection ends at another key: the gateway was restarted, or is another"
_LATER: Final = "it came while the others were waited for"
_DENIED: Final = "the gateway has no such receipt for this key"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorReport:
    """How many receipts of a session are anchored, and why the others are not, by receipt id."""

    anchored: int
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every receipt of the session is anchored."""
        return not self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    headers: httpx2.Headers
    body: bytes = field(repr=False)

    @property
    def pause(self) -> float:
        """Seconds to wait before asking again."""
        text = self.headers.get("retry-after", "")
        return min(float(text), _MAX_PAUSE) if text.isascii() and text.isdigit() else _PAUSE


class Anchorer:
    """Anchors the calls of one recorder through one client; made for one use."""

    def __init__(
        self, client: httpx2.AsyncClient, endpoint: Endpoint, recorder: Recorder, boot: BootEvidence
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._recorder = recorder
        self._boot = boot
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._lost = ""

    async def anchor(self, seconds: float) -> AnchorReport:
        """Fetch until every receipt is anchored, at most `seconds`.

        Raises `EvidenceError` if the session has ended, any `AttestationError` for evidence that
        does not hold; that ends the session.  What else failed is in the report.
        """
        self._recorder.require_usable()
        waiting = [call for call in self._recorder.calls if call.receipt_id and not call.anchored]
        reasons = await asyncio.gather(*(self._bounded(call, seconds) for call in waiting))
        if self._recorder.failure is not None:
            raise self._recorder.failure
        why = {call.receipt_id: reason for call, reason in zip(waiting, reasons, strict=True)}
        calls = [call for call in self._recorder.calls if call.receipt_id]
        return AnchorReport(
            anchored=sum(call.anchored for call in calls),
            left={
                call.receipt_id or "": why.get(call.receipt_id) or _LATER
                for call in calls
                if not call.anchored
            },
        )

    async def _bounded(self, call: Call, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds), self._slots:
                return await self._settle(call)
        except TimeoutError:
            return self._lost or f"not yet, after {seconds:g} s"
        except AttestationError as error:
            # One failure ends the session; the others are let finish before it is raised.
            self._recorder.end(error)
            return error.message

    async def _settle(self, call: Call) -> str:
        """Ask until the call is anchored; return why it will not be, or nothing."""
        troubles = 0
        while not self._lost:
            try:
                answer = await self._ask(call)
            except EvidenceError as error:
                if error.code != "channel":
                    raise
                self._lost = _RESTARTED
            except httpx2.HTTPError as error:
                troubles += 1
                if troubles == _LOST_AFTER:
                    self._lost = f"the gateway cannot be reached ({type(error).__name__})"
                await asyncio.sleep(_PAUSE * troubles / _LOST_AFTER)
            else:
                troubles = 0
                if reason := _refusal(answer):
                    return reason
                if answer.status == 200:
                    call = await self._taken(call, parse_bundle(answer.body))
                    if call.anchored:
                        return ""
                    if answer.headers.get("x-receipt-state", "") == _FINAL:
                        return _NEVER
                await asyncio.sleep(answer.pause)
        return self._lost

    async def _ask(self, call: Call) -> _Answer:
        url = f"{self._endpoint.origin}/v1/receipts/{call.receipt_id}?wait=anchored&format=bundle"
        headers = [*call.credential, ("accept-encoding", "identity")]
        async with self._client.stream("GET", url, headers=headers) as answer:
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MAX_BYTES:
                    raise MalformedError("the gateway's bundle is too large", code="evidence")
        return _Answer(status=answer.status_code, headers=answer.headers, body=bytes(body))

    async def _taken(self, call: Call, bundle: Bundle) -> Call:
        """The call with what the bundle adds to it, checked; the same one if that is nothing."""
        added = _with_bundle(call, bundle, self._boot)
        if added == call:
            return call
        # Verifying takes a while, and a loop that answers for others must not stand still.
        return await asyncio.to_thread(self._recorder.replace, call, added)


def _refusal(answer: _Answer) -> str:
    """Why it makes no sense to ask again, or nothing."""
    if answer.status in {200, 202}:
        return ""
    if answer.status in {401, 403, 404}:
        return f"{_DENIED} (status {answer.status})"
    if answer.headers.get("x-should-retry", "") == "false":
        return "the boot of the gateway has ended"
    return "" if answer.status in {429, 502, 503, 504} else f"status {answer.status}"


def _with_bundle(call: Call, bundle: Bundle, boot: BootEvidence) -> Call:
    """The call with the receipt, its proof and its epoch out of a bundle about exactly it.

    Openings that came with the answer stay: they may hold more than can be had later.
    """
    _require_about(call, bundle, boot)
    item = bundle.receipts[0]
    call = dataclasses.replace(
        call, receipt=item.receipt.token, openings=call.openings or item.openings
    )
    if item.proof is None or not bundle.epochs:
        return call
    anchoring = Anchoring(
        proof=item.proof, epoch=bundle.epochs[0], collateral=tuple(bundle.collateral.values())
    )
    return dataclasses.replace(call, anchoring=anchoring)


def _require_about(call: Call, bundle: Bundle, boot: BootEvidence) -> None:
    shown = bundle.boots[0] if len(bundle.boots) == 1 else None
    same_boot = shown is not None and (shown.statement, shown.keyset, shown.quote) == (
        boot.statement,
        boot.keyset,
        boot.quote,
    )
    tokens = [item.receipt.token for item in bundle.receipts]
    about_it = len(tokens) == 1 and call.receipt in {None, tokens[0]}
    if same_boot and about_it and len(bundle.epochs) <= 1 and not bundle.tasks:
        return
    raise EvidenceError(
        "the gateway's bundle is not about this receipt",
        code="other_bundle",
        expected="the boot that was accepted, the receipt that came, at most one epoch",
        observed=f"{'the' if same_boot else 'another'} boot, {len(tokens)} receipts"
        f"{'' if about_it else ' (another one)'}, {len(bundle.epochs)} epochs",
    )


def run_blocking(work: Coroutine[object, object, T]) -> T:
    """Run `work` to its end from blocking code, also where this thread has a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
