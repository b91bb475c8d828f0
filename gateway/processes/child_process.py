"""A process that the supervisor started, with the channel to it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, Self

from attestation.errors import UnavailableError
from gateway.processes.channel import Channel, says_ready

if TYPE_CHECKING:
    from gateway.processes.channel import Message

_KILL_SECONDS: Final = 10.0


class ChildProcess:
    """Started, then spoken to over `channel`; it ends by itself once that is closed."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.name = name
        self.channel = channel
        self._process = process

    @classmethod
    async def start(cls, name: str, module: str, *, descriptors: Collection[int] = ()) -> Self:
        """Start `module` in a fresh interpreter that inherits these descriptors, and no others."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *_interpreter(),
                    *("-m", module, str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *descriptors),
                )
            except OSError as error:
                ours.close()
                raise UnavailableError(
                    f"the {name} process cannot be started",
                    code="process_start",
                    observed=error.strerror or "an I/O error",
                ) from error
        return cls(name, process, await Channel.open(ours))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait_ready(self) -> None:
        """Return once it serves; raises the refusal it reports, `UnavailableError` for the rest."""
        message = await self.channel.receive()
        if says_ready(message):
            return
        raise UnavailableError(
            f"the {self.name} process ended before it was ready",
            code="process_start",
            observed=_how(message, await self.wait()),
            hint="see its last words above; ATTESTED_DEBUG=1 shows where it failed",
        )

    async def wait(self) -> int:
        """Return its exit code, or minus the number of the signal that killed it."""
        return await self._process.wait()

    async def end(self, seconds: float) -> int:
        """Wait for it to end by itself; kill it if that takes longer."""
        try:
            return await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            self.kill()
            return await self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        try:
            self._process.kill()
        except ProcessLookupError:
            return  # it was gone already

    async def abort(self) -> None:
        """Close the channel and wait until it is gone, at most some seconds."""
        await self.channel.close()
        await self.end(_KILL_SECONDS)


def _interpreter() -> list[str]:
    """Return the command that starts Python as this one was started.

    `-P`, unless this process itself finds its modules in the working directory: a file there
    must not stand in for one of ours.
    """
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - multiprocessing's way
    here = sys.path[:1] in ([""], [os.getcwd()]) and not sys.flags.safe_path  # noqa: PTH109
    return [sys.executable, *flags, *([] if here or sys.flags.safe_path else ["-P"])]


def _how(message: Message | None, code: int) -> str:
    if message is not None and message["kind"] == "crashed":
        return f"an internal error ({message['error']})"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
