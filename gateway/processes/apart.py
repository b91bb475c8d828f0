"""A notary apart: `attested serve` finds it on its socket instead of starting it.

    gateway                            notary, another user
       ──connects──────────────────►   who is it?  else the end
       ◄─"waiting"──────────────────   digest of its measured settings
       ──"start"───────────────────►   TLS keys of this boot, the same digest
       ◄─"ready", or why not────────   its boot is quoted and durable

The first connection of the one user who may is the channel that a started notary inherits: what
follows on it, and its end, mean the same.  All later connections speak the notary's protocol.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, Self

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, MalformedError, UnavailableError, UsageError
from gateway.notary.wire.socket import peer_process, peer_uid
from gateway.processes.channel import Channel, error_to_json, says_ready
from gateway.processes.users import require_user, uid_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.processes.channel import Message
    from gateway.settings import Settings

_AGAIN_SECONDS: Final = 0.1
_SAY_SECONDS: Final = 10.0


class ApartNotary:
    """The gateway's end: what it needs of a notary, whoever started that."""

    name = "notary"

    def __init__(self, channel: Channel, pid: int) -> None:
        self.channel = channel
        self.pid = pid

    @classmethod
    async def find(cls, settings: Settings, tls_spki: list[str]) -> Self:
        """Return the notary at `notary.socket`, which makes its boot now.

        Raises `UnavailableError` if none waits there in time, one that has its gateway already,
        or another user's; `UsageError` for other settings than ours.
        """
        require_user(str(settings.notary.gateway_user), "attested serve")
        channel, pid = await _reach(settings, uid_of(str(settings.notary.user)))
        channel.send("start", tls_spki=tls_spki, config_digest=settings.config_digest.hex)
        return cls(channel, pid)

    async def wait_ready(self) -> None:
        """Return once it serves; raises the refusal it reports, `UnavailableError` for the rest."""
        message = await self.channel.receive()
        if says_ready(message):
            return
        raise UnavailableError(
            "the notary ended before it was ready",
            code="process_start",
            hint="see what attested notary said last",
        )

    async def end(self, seconds: float) -> int:  # noqa: ARG002 - who started it ends it
        """Nothing: it ends by itself once the channel is closed."""
        return 0


async def wait_for_gateway(
    sock: socket.socket, settings: Settings, refused: Callable[[str], None]
) -> tuple[Channel, tuple[Digest, ...]]:
    """Return the channel to the one gateway, and the TLS keys of its boot (SHA-256 of the SPKI).

    `sock` listens and does not block.  Whoever else comes loses the connection, and `refused`
    hears why; the wait goes on.
    """
    loop = asyncio.get_running_loop()
    uid = uid_of(str(settings.notary.gateway_user))
    while True:
        peer, _ = await loop.sock_accept(sock)
        if peer_uid(peer) != uid:
            peer.close()
            refused("user")
            continue
        channel = await Channel.open(peer)
        try:
            return channel, await _hear_start(channel, settings)
        except AttestationError as error:
            channel.send("failed", **error_to_json(error))
            await channel.close()
            refused(error.code)
        except BaseException:
            # Told to end meanwhile: the connection must not stay open.
            await channel.close()
            raise


async def _hear_start(channel: Channel, settings: Settings) -> tuple[Digest, ...]:
    digest = settings.config_digest
    channel.send("waiting", config_digest=digest.hex)
    try:
        message = await asyncio.wait_for(channel.receive(), _SAY_SECONDS)
    except TimeoutError:
        message = None
    if message is None or message.get("kind") != "start":
        raise MalformedError("the gateway did not say that it starts", code="gateway_start")
    if message.get("config_digest") != digest.hex:
        raise _other_settings(digest.hex, str(message.get("config_digest")))
    keys = message.get("tls_spki")
    expected = 0 if settings.tls.mode == "off" else 1
    if not isinstance(keys, list) or len(keys) != expected:
        raise MalformedError(
            "the gateway's TLS keys are not as the settings say",
            code="gateway_start",
            expected=f"{expected} with tls.mode {settings.tls.mode}",
        )
    return tuple(Digest.from_hex(str(key), what="TLS key") for key in keys)


async def _reach(settings: Settings, uid: int) -> tuple[Channel, int]:
    """Return the channel to a notary that waits, and its process id."""
    tries = _Tries(str(settings.notary.socket))
    channel: Channel | None = None
    try:
        async with asyncio.timeout(settings.notary.connect_seconds):
            sock = await tries.connect()
            channel = await Channel.open(sock)
            pid, seen = peer_process(sock)
            if seen != uid:
                raise _absent(settings, f"a socket of user {seen}")
            _require_same(await channel.receive(), settings)
    except BaseException as error:
        if channel is not None:
            await channel.close()
        if isinstance(error, TimeoutError):
            raise _absent(settings, tries.seen) from None
        raise
    return channel, pid


class _Tries:
    """Connects as soon as somebody listens; `seen` is why nobody could be reached so far."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.seen = "nobody"

    async def connect(self) -> socket.socket:
        """Return a connection, however long it takes."""
        loop = asyncio.get_running_loop()
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)  # noqa: FBT003 - the standard library knows no other way
            try:
                await loop.sock_connect(sock, self._path)
            except OSError as error:
                self.seen = error.strerror or "an I/O error"
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                self.seen = "nobody who answers"
                return sock
            await asyncio.sleep(_AGAIN_SECONDS)


def _require_same(message: Message | None, settings: Settings) -> None:
    if message is None or message.get("kind") != "waiting":
        raise UnavailableError(
            "the notary cannot be had",
            code="notary_taken",
            expected=f"a notary at {settings.notary.socket} that waits for its gateway",
            observed="one that has a gateway already, or has just ended",
            hint="a notary has one gateway in its life: start both anew",
        )
    seen = str(message.get("config_digest"))
    if seen != settings.config_digest.hex:
        raise _other_settings(seen, settings.config_digest.hex)


def _other_settings(notarys: str, gateways: str) -> UsageError:
    return UsageError(
        "notary and gateway were started with different measured settings",
        code="notary_settings",
        expected=f"the notary's, config digest {notarys[:64]}",
        observed=f"the gateway's, config digest {gateways[:64]}",
        hint="start both with the same --config, see attested config show --origin",
    )


def _absent(settings: Settings, observed: str) -> UnavailableError:
    notary = settings.notary
    return UnavailableError(
        "the notary cannot be reached",
        code="notary_connect",
        expected=(
            f"attested notary of user {notary.user} at {notary.socket} "
            f"within {notary.connect_seconds:g} s"
        ),
        observed=observed,
        hint="start attested notary with the same settings; docs/operating.md, Processes",
    )
