"""TLS connections from the moment they are accepted: counted, bounded in time, and in the way of
nobody.

The event loop's own server tells a protocol of a connection once its handshake is over, so who
connects and does not go on would be counted by nobody.  Here the handshake itself is a member of
the crowd, as one that waits: it has the time of a head, and gives way when there are too many.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from gateway.edge.crowd import TOO_MANY

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from gateway.edge.crowd import Crowd

HANDSHAKE_TIME: Final = "handshake_time"

_MOST_AT_ONCE: Final = 64
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS: Final = 0.5


class Handshake:
    """A connection whose TLS handshake is not over yet, as a member of a crowd.

    `unbegun` is its socket until the task has begun: one that is cancelled before closes nothing.
    """

    is_waiting = True

    def __init__(
        self, sock: socket.socket, peer: str | None, end: Callable[[Handshake, str], None]
    ) -> None:
        self.unbegun: socket.socket | None = sock
        self.peer = peer
        self._end = end
        self.task: asyncio.Task[None] | None = None

    def give_way(self) -> None:
        """Close it, for a connection that may have something to say."""
        self._end(self, TOO_MANY)


class TlsDoor:
    """Accepts the TLS connections of one listening socket, from `open` to `close`.

    `made` returns the protocol of a connection; the handshake leaves the crowd before the
    protocol's own connection enters it.  `count` is told why a connection was closed here.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        made: Callable[[Callable[[], None]], asyncio.Protocol],
        *,
        crowd: Crowd,
        seconds: float,
        count: Callable[[str], None],
    ) -> None:
        self._sock = sock
        self._context = context
        self._made = made
        self._crowd = crowd
        self._seconds = seconds
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._shaking: set[Handshake] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False

    def open(self, backlog: int) -> None:
        """Accept connections from now on."""
        self._sock.settimeout(0)
        self._sock.listen(backlog)
        self._listen()

    def close(self) -> None:
        """Accept nothing more; who has not ended the handshake is not let in."""
        if self._closed:
            return
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        for shaking in tuple(self._shaking):
            _cancel(shaking)

    async def wait_closed(self) -> None:
        """Wait until every handshake has ended."""
        tasks = [one.task for one in self._shaking if one.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                accepted, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # Another process took it, or it is gone already.
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                # Trying again at once would only burn the processor that has to free some.
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._listen)
                return
            self._take(accepted, address[0] if isinstance(address, tuple) else None)

    def _take(self, accepted: socket.socket, peer: str | None) -> None:
        handshake = Handshake(accepted, peer, self._refuse)
        crowded = self._crowd.enter(handshake)
        if crowded is not None:
            # An answer would need a handshake first, which is what there is no room for.
            self._count(crowded)
            accepted.close()
            return
        self._shaking.add(handshake)
        handshake.task = self._loop.create_task(self._shake(accepted, handshake))
        handshake.task.add_done_callback(lambda _: self._shaking.discard(handshake))

    async def _shake(self, accepted: socket.socket, handshake: Handshake) -> None:
        def entered() -> None:
            self._shaking.discard(handshake)
            self._crowd.leave(handshake)

        handshake.unbegun = None
        try:
            accepted.settimeout(0)
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: self._made(entered),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=self._seconds,
            )
        except ConnectionAbortedError:
            # Both event loops end a handshake so that takes too long, and no other.
            self._count(HANDSHAKE_TIME)
        except OSError:
            # It left, or speaks something else: there is nobody to answer to.
            return
        finally:
            entered()

    def _refuse(self, handshake: Handshake, reason: str) -> None:
        self._count(reason)
        _cancel(handshake)


def _cancel(handshake: Handshake) -> None:
    if handshake.task is not None:
        handshake.task.cancel()
    if handshake.unbegun is not None:
        handshake.unbegun.close()
