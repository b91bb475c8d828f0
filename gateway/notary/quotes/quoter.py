"""The one quoter of a boot: a quote at a time, with a deadline and a growing pause after faults.

A stock TDX guest gives about one quote a second in total, so no request ever waits for one;
what does wait, epochs of the log and challenges, takes turns.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from attestation.errors import AttestationError, UnavailableError
from attestation.tdx.quote import Quote, canonical_quote, parse_quote
from attestation.tdx.signatures import own_checks
from gateway.notary.quotes.turns import Turns

if TYPE_CHECKING:
    from gateway.attester.base import QuoteProvider
    from gateway.notary.clock import Clock

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

T = TypeVar("T")


class Quoter:
    """Asks a provider for quotes, one at a time: `turns` says whose is next.

    `timeout` is in seconds; `observe` is told how many seconds each quote took.
    """

    def __init__(
        self,
        provider: QuoteProvider,
        *,
        timeout: float,
        clock: Clock,
        observe: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._provider = provider
        self._timeout = timeout
        self._clock = clock
        self._observe = observe
        self._call: asyncio.Future[bytes] | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self.turns = Turns()

    async def quote(self, report_data: bytes) -> Quote:
        """Return a fresh quote over 64 bytes of report data, in canonical form.

        Only who has the turn may ask.  Raises `UnavailableError`: "quote_timeout" after the
        deadline, "quote_busy" while an earlier call has not come back, "quote_pause" shortly
        after a fault, "quote_failed".
        """
        self._require_ready()
        began = self._clock.monotonic()
        self._call = call = in_thread(lambda: self._provider.quote(report_data))
        if not await self._clock.reaches(call, self._timeout):
            raise self._fault("quote_timeout", f"none in {self._timeout:g} s")
        try:
            quote = _checked(call.result(), report_data)
        except Exception as error:  # whatever a provider raises, this boot and its log go on
            raise self._fault("quote_failed", _named(error)) from error
        self._observe(self._clock.monotonic() - began)
        self._pause = 0.0
        return quote

    async def until_ready(self) -> None:
        """Return when an earlier call has come back and the pause after a fault is over."""
        while True:
            if self._call is not None and not self._call.done():
                await asyncio.wait({self._call})
            rest = self._not_before - self._clock.monotonic()
            if rest <= 0:
                return
            await self._clock.sleep(rest)

    def _require_ready(self) -> None:
        if self._call is not None and not self._call.done():
            raise _unavailable("quote_busy", "an earlier call that has not come back")
        if self._clock.monotonic() < self._not_before:
            raise _unavailable("quote_pause", "a pause after a fault")

    def _fault(self, code: str, observed: str) -> UnavailableError:
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        self._not_before = self._clock.monotonic() + self._pause
        return _unavailable(code, observed)


def _checked(raw: bytes, report_data: bytes) -> Quote:
    quote = parse_quote(canonical_quote(raw))
    if quote.body.report_data != report_data:
        raise UnavailableError(
            "the platform quoted other report data than it was given", code="quote_stale"
        )
    checks = own_checks(quote)
    if False in (checks.body_sig, checks.ak_binding, checks.qe_sig, checks.chain):
        raise UnavailableError(
            "the platform gave a quote whose signatures do not hold", code="quote_unsound"
        )
    return quote


def _named(error: Exception) -> str:
    if isinstance(error, AttestationError):
        return error.code or "a provider fault"
    return (error.strerror if isinstance(error, OSError) else None) or "a provider fault"


def _unavailable(code: str, observed: str) -> UnavailableError:
    return UnavailableError(
        "no quote can be had now",
        code=code,
        expected="a quote from the platform",
        observed=observed,
        hint="try again in some seconds; receipts do not wait for this",
    )


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking call in a thread of its own and return the future of its result.

    The thread is a daemon: a platform call that never returns must not keep the process from
    ending, as a pool's thread would.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            future.exception()  # nobody may be waiting any more, which is no fault
        else:
            future.set_result(result)  # type: ignore[arg-type]  # T when there is no error

    def call() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as caught:  # noqa: BLE001 - it is handed to whoever waits
            error = caught
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            return  # the loop has ended: nobody can be told

    threading.Thread(target=call, name="quoter", daemon=True).start()
    return future
