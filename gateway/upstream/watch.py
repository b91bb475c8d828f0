"""Asking an engine now and then how it is.

One timer an engine.  While requests are answered they say enough, and nothing is asked.  Several
processes divide the questions to a healthy engine among them; an engine that was left is asked
every cooldown by each of them, because each has to learn that it is back.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.breaker import UNHEALTHY, EngineState

if TYPE_CHECKING:
    from gateway.upstream.client import Upstream

_SERVER_ERROR: Final = 500
_MAX_BYTES: Final = 64 * 1024
_UNREACHABLE: Final = frozenset({UpstreamFailure.CONNECT, UpstreamFailure.TIMEOUT_CONNECT})


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRules:
    """How an engine is asked; times in seconds.  `interval` 0: it is not."""

    path: str = "/health"
    interval: float = 0.0
    timeout: float = 5.0
    cooldown: float = 2.0
    share: int = 1


class Watch:
    """Watches one engine from `start` to `close`, in the running loop.

    Any answer below 500 is a good one, so that an engine without the path counts by answering.
    """

    def __init__(self, engine: Upstream, rules: WatchRules) -> None:
        self._engine = engine
        self._rules = rules
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; without an interval nothing happens."""
        if self._rules.interval > 0:
            self._arm()

    def hurry(self) -> None:
        """Ask after a cooldown: the engine was just left."""
        if self._timer is not None and self._asking is None:
            self._arm()

    def close(self) -> None:
        """Ask nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    async def ask(self) -> None:
        """Ask once and tell the engine's breaker."""
        engine, rules = self._engine, self._rules
        try:
            answer = await engine.get(
                rules.path,
                request_id=secrets.token_hex(16),
                max_bytes=_MAX_BYTES,
                seconds=rules.timeout,
            )
        except UpstreamError as error:
            reason = str(error.kind) if error.kind in _UNREACHABLE else UNHEALTHY
            engine.breaker.ailing(reason, asyncio.get_running_loop().time())
            return
        if answer.status < _SERVER_ERROR:
            engine.breaker.checked()
        else:
            engine.breaker.ailing(UNHEALTHY, asyncio.get_running_loop().time())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        up = self._engine.breaker.state is EngineState.UP
        pause = self._rules.interval * self._rules.share if up else self._rules.cooldown
        # Jitter, so that processes that started together do not ask together.
        pause *= random.uniform(0.75, 1.25)  # noqa: S311 - nothing secret
        self._timer = asyncio.get_running_loop().call_later(pause, self._due)

    def _due(self) -> None:
        breaker = self._engine.breaker
        now = asyncio.get_running_loop().time()
        if breaker.clear and now - self._engine.heard_at < self._rules.interval:
            self._arm()
            return
        self._asking = asyncio.get_running_loop().create_task(self.ask())
        self._asking.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if self._timer is not None and not task.cancelled():
            self._arm()
