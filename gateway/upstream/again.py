"""What of a request may be tried once more, and why:

- A connection that was refused, or not accepted in time: nothing was sent.
- A connection that closed without one byte of an answer.  On a reused idle connection the engine
  was just closing it (vLLM does after five seconds).  On a fresh one the engine most likely died,
  so the request goes to another engine only.  The first may have begun to compute: inference
  changes nothing outside the engine, so the caller gets one answer either way, and what is lost
  at worst is the first engine's time.
- An answer of 502 or 503, or of 500 from an engine whose health check says that it is dead: it did
  not do the work, and says so.  Another engine gets the request; without one, the refusal is the
  answer.

Nothing is repeated once a byte of any other answer is there, so never after the caller could have
got one; nor after a timeout, because the engine may still be at work; nor twice.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.breaker import UNHEALTHY

if TYPE_CHECKING:
    from gateway.upstream.client import Upstream

_NOT_TAKEN: Final = frozenset({502, 503})
_SERVER_ERROR: Final = 500
_HEALTH_SECONDS: Final = 1.0
_REPEATABLE: Final = frozenset(
    {UpstreamFailure.CONNECT, UpstreamFailure.TIMEOUT_CONNECT, UpstreamFailure.RESET}
)


def may_repeat(error: UpstreamError) -> bool:
    """Whether a try that failed so may be followed by another: no byte of an answer was there."""
    return error.untouched and error.kind in _REPEATABLE


async def did_nothing(engine: Upstream, status: int) -> bool:
    """Whether an answer with this status says that the engine did not do the work.

    A 500 says so only of an engine that its own health check calls dead: it is asked.
    """
    if status in _NOT_TAKEN:
        return True
    return status == _SERVER_ERROR and await _is_dead(engine)


async def _is_dead(engine: Upstream) -> bool:
    if engine.health_path is None:
        return False
    try:
        answer = await engine.get(
            engine.health_path, request_id=secrets.token_hex(16), seconds=_HEALTH_SECONDS
        )
    except UpstreamError as error:
        # One that is merely too busy to say is not dead.
        dead = not error.kind.is_timeout
    else:
        dead = answer.status >= _SERVER_ERROR
    if dead:
        engine.breaker.ailing(UNHEALTHY, asyncio.get_running_loop().time())
    return dead
