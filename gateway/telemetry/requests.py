"""What is told of a single request once it has ended: ids, codes and times, never content.

`RequestEnd` is all that an event or a span may say.  Nothing of it is text of a caller: task
ids, model names and error messages have no place here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from attestation.receipt.claims import End

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Observe = Callable[["RequestEnd"], None]

_FAILED_STATUS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnd:
    """One request.  `engine` is "" and `first` None where none answered; times are in seconds.

    `trace`, `parent` (the caller's span, "") and `span` (ours, as in the receipt) are lower-case
    hexadecimal; `sampled` is what the caller's trace says of itself.
    """

    receipt: str
    route: str
    end: str
    decision: str
    status: int
    seconds: float
    first: float | None
    engine: str
    attempts: int
    trace: str
    span: str
    parent: str
    sampled: bool

    @property
    def failed(self) -> bool:
        """Whether it did not end as it should, for whatever reason."""
        return self.end != End.COMPLETE or not 0 < self.status < _FAILED_STATUS


def event_writer(mode: Literal["errors", "all"], emit: Callable[..., None]) -> Observe:
    """Return what writes `request.ended`, for all requests or those that failed."""

    def observe(request: RequestEnd) -> None:
        if mode == "errors" and not request.failed:
            return
        emit(
            "request.ended",
            attempts=request.attempts,
            decision=request.decision,
            end=str(request.end),
            engine=request.engine or "none",
            first_milliseconds=-1 if request.first is None else _milliseconds(request.first),
            milliseconds=_milliseconds(request.seconds),
            receipt=request.receipt,
            route=request.route,
            span=request.span,
            status=request.status,
            trace=request.trace,
        )

    return observe


def all_of(observers: Iterable[Observe], report: Callable[[BaseException], None]) -> Observe | None:
    """Return what tells every one of them, None if there is none.

    One that fails is reported and costs neither the request nor the others.
    """
    told = tuple(observers)
    if not told:
        return None

    def observe(request: RequestEnd) -> None:
        for each in told:
            try:
                each(request)
            except Exception as error:  # noqa: BLE001 - telling of a request must not change it
                report(error)

    return observe


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
