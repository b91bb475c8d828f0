"""Reading a request's body: hashed as the server delivers it, within size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.edge import failures
from gateway.edge.caller import BrokenBodyError, CallerGoneError, LateBodyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.receipt.exchange import Exchange
    from gateway.edge.caller import Caller
    from gateway.edge.errors import Refusal
    from gateway.edge.headers import RequestHead
    from gateway.edge.limits import EdgeLimits


async def read_body(
    caller: Caller,
    exchange: Exchange,
    head: RequestHead,
    limits: EdgeLimits,
    sink: Callable[[bytes], bool],
) -> Refusal | None:
    """Hand to `sink` the whole body or as much of it as was read; tell the exchange how it ended.

    `sink` tells the exchange of a piece and returns False if it has no room for it.  Returns the
    refusal of a body that is too large, if need be on its declared length alone, too slow, not
    HTTP, or without room.  Raises `CallerGoneError`; the exchange then knows that the body is
    partial.
    """
    if head.declared_length is not None and head.declared_length > limits.body_bytes:
        exchange.received(head.content_type, complete=False)
        return failures.body_too_large(limits)
    # A body that came with its head, as most do, needs no clock.
    clock = None
    if caller.more_body:
        loop = asyncio.get_running_loop()
        clock = loop.call_later(limits.body_seconds, caller.body_is_late)
    try:
        refusal = await _read_parts(caller, limits, sink)
    except LateBodyError:
        refusal = failures.body_too_slow(limits)
    except BrokenBodyError as error:
        refusal = error.refusal
    except CallerGoneError:
        exchange.received(head.content_type, complete=False)
        raise
    finally:
        if clock is not None:
            clock.cancel()
    exchange.received(head.content_type, complete=refusal is None)
    return refusal


async def _read_parts(
    caller: Caller, limits: EdgeLimits, sink: Callable[[bytes], bool]
) -> Refusal | None:
    size, more = 0, True
    while more:
        part, more = await caller.body_part()
        size += len(part)
        if size > limits.body_bytes:
            return failures.body_too_large(limits)
        if not sink(part):
            return failures.BODY_HAS_NO_ROOM
    return None
