"""The whole HTTP surface as one ASGI application: inference routes beside control routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from gateway.access.slots import RefusalBudget
from gateway.api.control import build_control_app
from gateway.api.parts import ControlParts
from gateway.edge import failures
from gateway.edge.errors import is_anthropic, refuse
from gateway.edge.inference import InferenceRoutes
from gateway.edge.limits import EdgeLimits
from gateway.edge.padding import StreamPadding
from gateway.edge.routes import inference_path
from gateway.edge.salt import BodyRewriter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.access.store import KeyStore
    from gateway.edge.waiting import NotaryWaits
    from gateway.notary.interface import Notary
    from gateway.settings import Settings
    from gateway.telemetry.edge import EdgeMetrics
    from gateway.telemetry.events import Events
    from gateway.telemetry.requests import Observe
    from gateway.upstream import Engines

    Scope = dict[str, Any]
    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppParts:
    """What an application is made of.  `monotonic` gives steady seconds.

    `conditions` gives the codes of what is not well with the notary's machine;
    `share` is how many processes like this one divide a key's refusals among them.
    """

    notary: Notary
    keys: KeyStore
    upstream: Engines
    events: Events
    monotonic: Callable[[], float]
    metrics: EdgeMetrics
    waits: NotaryWaits
    conditions: Callable[[], tuple[str, ...]] = tuple
    observe: Observe | None = None
    share: int = 1


def build_app(settings: Settings, parts: AppParts) -> Asgi:
    """Return the ASGI 3 application of the specification's HTTP surface.

    No failure leaves it: the server would print a traceback, and a traceback may quote content.
    """
    limits, report = settings.limits, reporter(parts.events)
    rewrite = BodyRewriter(settings.cache.salt, parts.notary.boot.cache_salt_key)
    inference = InferenceRoutes(
        keys=parts.keys,
        notary=parts.notary,
        upstream=parts.upstream,
        limits=EdgeLimits(
            body_bytes=limits.body_bytes,
            body_seconds=limits.body_seconds,
            response_bytes=limits.response_bytes,
            frame_bytes=limits.frame_bytes,
            max_n=limits.max_n,
            in_flight=limits.in_flight,
            buffered_bytes=limits.buffered_bytes,
        ),
        engine_name=parts.upstream.label,
        refusals=RefusalBudget(
            per_second=limits.refusals_per_second / parts.share, clock=parts.monotonic
        ),
        report=report,
        observe=parts.observe,
        metrics=parts.metrics,
        waits=parts.waits,
        rewrite=rewrite,
        padding=StreamPadding(
            bucket=settings.padding.bucket_bytes, seconds=settings.padding.tick_ms / 1000
        ),
    )
    control_parts = ControlParts(
        notary=parts.notary,
        keys=parts.keys,
        upstream=parts.upstream,
        waits=parts.waits,
        conditions=parts.conditions,
        rewrite=rewrite,
    )
    # FastAPI's own type for an application differs from the plain ASGI one in spelling only.
    control = cast("Asgi", build_control_app(control_parts))
    return _Surface(inference, control, report)


def reporter(events: Events) -> Callable[[BaseException], None]:
    """Return a function that logs that something failed and of what type, never its text."""

    def report(error: BaseException) -> None:
        events.emit("internal_error", kind=type(error).__name__.lower())

    return report


class _Surface:
    """Chooses between the two kinds of routes by the exact path."""

    def __init__(
        self, inference: InferenceRoutes, control: Asgi, report: Callable[[BaseException], None]
    ) -> None:
        self._inference = inference
        self._control = control
        self._report = report
        self.converse = inference.converse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Unknown paths below /v1/messages are answered in that API's form, which the edge has.
        if inference_path(scope) is not None or is_anthropic(scope["path"]):
            await self._inference(scope, receive, send)
            return
        await self._answer_for(scope, receive, send)

    async def _answer_for(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the control routes answer; what ends them before they do is answered here.

        uvicorn would say "Internal Server Error" in plain text, which no client of ours reads.
        """
        began = False

        async def noting(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        refusal = failures.FAILED
        try:
            await self._control(scope, receive, noting)
        except asyncio.CancelledError:
            # Only a server that stops cancels requests; it sees to it that this ends.
            refusal = failures.STOPPING
        except Exception as error:  # noqa: BLE001 - answered by now, or below; see build_app
            self._report(error)
        if not began:
            await refuse(send, scope["path"], refusal)
